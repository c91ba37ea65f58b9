/** One image on the stage: NiiVue draws it; labels, cursor and value are ours. */

import { NVImage, Niivue, SLICE_TYPE } from "@niivue/niivue";
import { type Plane } from "./api";
import { type Point, apply, inverse, letter } from "./geometry";

const SLICES: Record<Plane, SLICE_TYPE> = {
  axial: SLICE_TYPE.AXIAL,
  coronal: SLICE_TYPE.CORONAL,
  sagittal: SLICE_TYPE.SAGITTAL,
};

export const SOLID = 0.5; // share of the colours' range, from which they are no longer see-through
const TRANSLUCENT_BELOW_MIN = 2; // NiiVue's COLORMAP_TYPE: alpha grows with the square up to cal_min
const LARGE = 1.5; // pixels of the screen, from which a voxel is shown as a square

export interface View {
  cursor: Point; // mm
  pan: Point; // mm of the image, as NiiVue counts it
  zoom: number;
  low: number;
  high: number;
  time: number;
  plane: Plane;
  smooth: boolean;
  cross: boolean;
}

export class Pane {
  readonly figure = document.createElement("figure");
  private readonly canvas = document.createElement("canvas");
  private readonly cross = element("div", "cross");
  private readonly title = element("figcaption", "title");
  private readonly value = element("output", "value");
  private readonly over = element("output", "over");
  private readonly size = element("span", "size");
  private readonly letters = ["left", "right", "top", "bottom"].map((side) =>
    element("span", `letter ${side}`),
  );
  private readonly nv = new Niivue({
    interactive: false,
    dragAndDropEnabled: false,
    crosshairWidth: 0,
    isOrientationTextVisible: false,
    isRadiologicalConvention: true,
    isColorbar: false,
    backColor: [0, 0, 0, 1],
    loadingText: "",
    logLevel: "error",
  });
  private windowed = "";
  private layer = ""; // name of the map over the image
  private toVoxel: number[][] = [];

  constructor(readonly name: string, parent: HTMLElement) {
    this.figure.className = "pane";
    this.figure.dataset.image = name;
    this.value.setAttribute("aria-label", `${name}: value under the cursor`);
    const holder = element("div", "canvas");
    holder.append(this.canvas);
    this.figure.append(holder, this.cross, this.title, this.value, this.over, this.size, ...this.letters);
    parent.append(this.figure);
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", name);
  }

  async attach(): Promise<void> {
    await this.nv.attachToCanvas(this.canvas, false);
  }

  get loaded(): boolean {
    return this.nv.volumes.length > 0;
  }

  /** Show an image, or nothing. */
  async load(url: string | null, title: string, detail: string, view: View): Promise<void> {
    this.title.textContent = url ? title : "";
    this.size.textContent = detail;
    this.windowed = "";
    while (this.nv.volumes.length) this.nv.removeVolumeByIndex(this.nv.volumes.length - 1);
    this.figure.classList.toggle("empty", url === null);
    if (url === null) return;
    this.nv.addVolume(await image(url, { colormap: "gray", cal_min: view.low, cal_max: view.high }));
    this.windowed = windowOf({ ...view, time: 0 });
    this.toVoxel = inverse(this.nv.volumes[0].hdr!.affine);
  }

  /**
   * Lay a map over the image, or take it away. Colours begin at 0, see-through, and end at `high`;
   * negative values have colours of their own.
   */
  async overlay(layer: { url: string; name: string; colours: Colours; high: number } | null): Promise<void> {
    if (this.nv.volumes.length > 1) this.nv.removeVolumeByIndex(1);
    if (layer === null) return;
    const { url, name, colours, high } = layer;
    this.layer = name;
    const map = await image(url, { colormap: colours.above, cal_min: high * SOLID, cal_max: high });
    map.colormapType = TRANSLUCENT_BELOW_MIN;
    if (colours.below) {
      map.colormapNegative = colours.below;
      [map.cal_minNeg, map.cal_maxNeg] = [-high, -high * SOLID];
    }
    this.nv.addVolume(map);
  }

  setOpacity(opacity: number): void {
    if (this.nv.volumes.length > 1) this.nv.setOpacity(1, opacity);
  }

  addColours(name: string, stops: Stops): void {
    const alphas = stops.I.map((at) => (at ? 255 : 0)); // else 0 itself would be solid
    this.nv.addColormap(name, { ...stops, A: alphas });
  }

  /** Bring the picture to a view; the costly parts only where they change. */
  show(view: View): void {
    if (!this.loaded) return;
    const base = this.nv.volumes[0];
    this.nv.opts.sliceType = SLICES[view.plane];
    this.nv.scene.crosshairPos = this.nv.mm2frac(view.cursor, 0, true);
    this.nv.scene.pan2Dxyzmm = [...view.pan, view.zoom];
    if (this.windowed !== windowOf(view)) {
      this.windowed = windowOf(view);
      base.cal_min = view.low;
      base.cal_max = view.high;
      for (const volume of this.nv.volumes) {
        volume.frame4D = Math.min(view.time, (volume.nFrame4D ?? 1) - 1);
      }
      this.nv.updateGLVolume(); // the whole texture is made anew
    } else {
      this.nv.drawScene();
    }
    this.interpolate(view.smooth);
    this.label();
    this.point(view);
  }

  /** mm under a place on the screen, in the slice that is shown. */
  at(clientX: number, clientY: number): { mm: Point; flat: Point } | null {
    if (!this.loaded || !this.nv.screenSlices.length) return null;
    const box = this.canvas.getBoundingClientRect();
    const ratio = this.canvas.width / box.width;
    const x = (clientX - box.left) * ratio;
    const y = (clientY - box.top) * ratio;
    const frac = this.nv.screenXY2TextureFrac(x, y, 0, false);
    if (frac[0] === -1 && frac[1] === -1 && frac[2] === -1) return null;
    return { mm: point(this.nv.frac2mm(frac, 0, true)), flat: point(this.nv.frac2mm(frac)) };
  }

  get affine(): number[][] {
    return this.nv.volumes[0].hdr!.affine;
  }

  get shape(): Point {
    return this.nv.volumes[0].hdr!.dims.slice(1, 4) as Point;
  }

  /** The voxel nearest to a place in mm, within the image. */
  index(mm: Point): Point {
    const { shape } = this;
    return apply(this.toVoxel, mm).map((v, axis) =>
      Math.min(Math.max(Math.round(v), 0), shape[axis] - 1),
    ) as Point;
  }

  /** The steps of one voxel that go most nearly to the right and down on the screen. */
  steps(): { right: Point; down: Point } | null {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [box.left + box.width / 2, box.top + box.height / 2];
    const [middle, right, down] = [[0, 0], [20, 0], [0, 20]].map(([dx, dy]) => this.at(x + dx, y + dy));
    if (!middle || !right || !down) return null;
    const along = (end: Point): Point => {
      const from = apply(this.toVoxel, middle.mm);
      const step = apply(this.toVoxel, end).map((v, axis) => v - from[axis]);
      const sizes = step.map(Math.abs);
      const most = sizes.indexOf(Math.max(...sizes));
      return step.map((v, axis) => (axis === most ? Math.sign(v) : 0)) as Point;
    };
    return { right: along(right.mm), down: along(down.mm) };
  }

  /** Whether a place in mm lies within the image. */
  holds(mm: Point): boolean {
    return this.loaded && this.voxel(mm) !== null;
  }

  /** The same place as NiiVue counts it for panning. */
  flat(mm: Point): Point {
    return point(this.nv.frac2mm(this.nv.mm2frac(mm, 0, true)));
  }

  /** Where a place in mm is on the canvas, in pixels of the page; null where it is out of sight. */
  spot(mm: Point): [number, number] | null {
    const found = this.nv.frac2canvasPosWithTile(this.nv.mm2frac(mm, 0, true));
    const ratio = this.canvas.width / this.canvas.clientWidth;
    return found && [found.pos[0] / ratio, found.pos[1] / ratio];
  }

  /** The middle of what is in sight, as NiiVue counts places for panning. */
  middle(): Point | null {
    const box = this.canvas.getBoundingClientRect();
    return this.at(box.left + box.width / 2, box.top + box.height / 2)?.flat ?? null;
  }

  /** The stored value at a place of a layer: 0 the image, 1 the map over it. */
  sample(mm: Point, layer = 0, time = 0): number | null {
    const volume = this.nv.volumes[layer];
    if (!volume?.img) return null;
    const to = layer === 0 ? this.toVoxel : inverse(volume.hdr!.affine);
    const index = this.voxel(mm, to, layer);
    if (!index) return null;
    const [, nx, ny, nz] = volume.hdr!.dims;
    const at = index[0] + nx * (index[1] + ny * (index[2] + nz * Math.min(time, (volume.nFrame4D ?? 1) - 1)));
    return volume.img[at] * volume.hdr!.scl_slope + volume.hdr!.scl_inter;
  }

  private voxel(mm: Point, to = this.toVoxel, layer = 0): Point | null {
    const dims = this.nv.volumes[layer].hdr!.dims;
    const index = apply(to, mm).map(Math.round) as Point;
    return index.every((v, axis) => v >= 0 && v < dims[axis + 1]) ? index : null;
  }

  /** Voxels are shown as squares where they are large enough, unless smooth ones are wanted. */
  private interpolate(smooth: boolean): void {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [box.left + box.width / 2, box.top + box.height / 2];
    const [middle, right] = [this.at(x, y), this.at(x + 20, y)];
    if (!middle || !right) return;
    const from = apply(this.toVoxel, middle.mm);
    const step = apply(this.toVoxel, right.mm).map((v, axis) => v - from[axis]);
    const nearest = !smooth && Math.hypot(...step) * LARGE < 20;
    if (nearest !== this.nv.opts.isNearestInterpolation) this.nv.setInterpolation(nearest);
  }

  private label(): void {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [box.left + box.width / 2, box.top + box.height / 2];
    const middle = this.at(x, y);
    const ends = [[-20, 0], [20, 0], [0, -20], [0, 20]].map(([dx, dy]) => this.at(x + dx, y + dy));
    this.letters.forEach((label, side) => {
      const end = ends[side];
      label.textContent =
        middle && end ? letter(end.mm.map((v, axis) => v - middle.mm[axis]) as Point) : "";
    });
  }

  private point(view: View): void {
    const value = this.sample(view.cursor, 0, view.time);
    const index = this.loaded ? this.voxel(view.cursor) : null;
    this.value.textContent = value === null ? "–" : format(value);
    this.value.dataset.voxel = index ? index.join(" ") : "";
    this.value.dataset.value = value === null ? "" : String(value);
    const over = this.sample(view.cursor, 1, view.time);
    this.over.textContent = over === null ? "" : `${this.layer} ${signed(over)}`;
    this.over.dataset.value = over === null ? "" : String(over);
    const spot = this.spot(view.cursor);
    this.cross.hidden = !view.cross || !spot;
    if (spot) this.cross.style.transform = `translate(${spot[0]}px, ${spot[1]}px)`;
  }
}

/** What of a view needs a new texture. */
function windowOf({ low, high, time }: View): string {
  return [low, high, time].join(" ");
}

export interface Stops {
  R: number[];
  G: number[];
  B: number[];
  I: number[];
}

/** Names of colours for values above and below 0. */
export interface Colours {
  above: string;
  below?: string;
}

export function format(value: number, digits = 4): string {
  return Number.isInteger(value) ? String(value) : value.toPrecision(digits);
}

function signed(value: number): string {
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toPrecision(3)}`;
}

async function image(url: string, options: object): Promise<NVImage> {
  return NVImage.loadFromUrl({ url, name: url.slice(url.lastIndexOf("/") + 1), ...options });
}

function point(values: ArrayLike<number>): Point {
  return [values[0], values[1], values[2]];
}

function element(tag: string, className: string): HTMLElement {
  const made = document.createElement(tag);
  made.className = className;
  return made;
}
