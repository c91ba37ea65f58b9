/** The images side by side or one over the other, and the one view that they share. */

import { type Facts, type Image, imageUrl } from "./api";
import { byId } from "./dom";
import { type Point, apply, places } from "./geometry";
import { Pane, type View } from "./pane";

export type Layout = "side" | "lr" | "bicubic";
const NAMES: Image[] = ["lr", "bicubic", "sr"];
const ZOOM: [number, number] = [1, 40];

export class Stage {
  readonly box = byId("stage");
  readonly panes: Record<Image, Pane>;
  view: View = {
    cursor: [0, 0, 0],
    pan: [0, 0, 0],
    zoom: 1,
    low: 0,
    high: 1,
    time: 0,
    plane: "axial",
    smooth: false,
    cross: true,
  };
  facts: Facts | null = null;
  id = "";
  private layout: Layout = "side";
  private split = 50;
  private queued = false;
  /** Called after every change of the view. */
  onChange: () => void = () => {};

  constructor() {
    const pane = (name: Image) => new Pane(name, this.box);
    this.panes = { lr: pane("lr"), bicubic: pane("bicubic"), sr: pane("sr") };
    new ResizeObserver(() => this.draw()).observe(this.box);
  }

  async attach(): Promise<void> {
    for (const name of NAMES) await this.panes[name].attach();
  }

  /** Show a case; keeps the view where the same series is shown again. */
  async load(id: string, facts: Facts): Promise<void> {
    const again = this.id === id && this.facts !== null;
    if (!again) [this.view.low, this.view.high] = facts.window;
    this.facts = facts;
    this.id = id;
    const titles: Record<Image, string> = {
      lr: "LR",
      bicubic: `Bicubic ×${facts.result?.scale}`,
      sr: `SR ×${facts.result?.scale}  ${facts.result?.model}`,
    };
    for (const name of NAMES) {
      const geometry = facts.images[name];
      const detail = geometry ? `${geometry.shape.join("×")}  ${geometry.spacing.map((v) => +v.toFixed(2)).join("×")} mm` : "";
      await this.panes[name].load(geometry ? imageUrl(id, name) : null, titles[name], detail, this.view);
    }
    this.box.classList.toggle("alone", !facts.result);
    if (!again) this.begin(facts);
    this.view.cursor = apply(this.lead.affine, this.lead.index(this.view.cursor));
    this.setLayout(facts.result ? this.layout : "side");
    this.draw();
  }

  private begin(facts: Facts): void {
    const shape = facts.images.lr!.shape;
    this.view.plane = facts.plane;
    this.view.time = 0;
    this.view.cursor = apply(this.panes.lr.affine, shape.map((n) => Math.floor(n / 2)) as Point);
    this.reset();
  }

  /** The finest image: the cursor steps by its voxels. */
  private get lead(): Pane {
    return this.panes.sr.loaded ? this.panes.sr : this.panes.lr;
  }

  get slice(): number {
    return this.facts ? this.lead.index(this.view.cursor)[this.facts.axis] : 0;
  }

  get slices(): number {
    return this.facts ? this.lead.shape[this.facts.axis] : 0;
  }

  set slice(wanted: number) {
    if (!this.facts) return;
    const index = this.lead.index(this.view.cursor);
    index[this.facts.axis] = Math.min(Math.max(wanted, 0), this.slices - 1);
    this.view.cursor = apply(this.lead.affine, index);
    this.draw();
  }

  /** Move the cursor by voxels along the screen. */
  step(right: number, down: number): void {
    const steps = this.facts && this.lead.steps();
    if (!steps) return;
    const { affine, shape } = this.lead;
    const index = this.lead.index(this.view.cursor).map((v, axis) => {
      const moved = v + right * steps.right[axis] + down * steps.down[axis];
      return Math.min(Math.max(moved, 0), shape[axis] - 1);
    }) as Point;
    this.view.cursor = apply(affine, index);
    const middle = this.lead.middle();
    if (middle && !this.lead.spot(this.view.cursor)) this.panBy(this.lead.flat(this.view.cursor), middle);
    this.draw();
  }

  /** Put the cursor on a place in mm, if it lies in the image. */
  point(mm: Point): void {
    if (!this.facts || !this.panes.lr.holds(mm)) return;
    this.view.cursor = mm;
    this.draw();
  }

  /** Zoom by a factor so that a place (as NiiVue counts it) stays where it is. */
  zoomBy(factor: number, about?: Point): void {
    if (!this.facts) return;
    const centre = about ?? this.panes.lr.flat(this.view.cursor);
    const zoom = Math.min(Math.max(this.view.zoom * factor, ZOOM[0]), ZOOM[1]);
    this.view.pan = this.view.pan.map((v, axis) => v + centre[axis] * (this.view.zoom - zoom)) as Point;
    this.view.zoom = zoom;
    if (zoom === ZOOM[0]) this.view.pan = [0, 0, 0];
    this.draw();
  }

  panBy(from: Point, to: Point): void {
    this.view.pan = this.view.pan.map((v, axis) => v + (to[axis] - from[axis]) * this.view.zoom) as Point;
    this.draw();
  }

  /** Change the middle and the width of the window by shares of its width. */
  windowBy(level: number, width: number): void {
    if (!this.facts) return;
    const full = this.facts.range[1] - this.facts.range[0] || 1;
    const span = this.view.high - this.view.low;
    const wide = Math.min(Math.max(span * (1 + width), full / 1000), full * 2);
    this.setWindow((this.view.low + this.view.high) / 2 + level * span, wide);
  }

  setWindow(level: number, width: number): void {
    [this.view.low, this.view.high] = [level - width / 2, level + width / 2];
    this.draw();
  }

  reset(): void {
    this.view.pan = [0, 0, 0];
    this.view.zoom = 1;
    if (this.facts) [this.view.low, this.view.high] = this.facts.window;
    this.draw();
  }

  setLayout(layout: Layout): void {
    if (layout !== "side" && !this.facts?.result) return;
    this.layout = layout;
    this.box.dataset.layout = layout;
    byId("divider").hidden = layout === "side";
    for (const button of document.querySelectorAll<HTMLElement>("[data-layout][role=radio]")) {
      button.setAttribute("aria-checked", String(button.dataset.layout === layout));
    }
    this.setSplit(this.split);
    this.draw();
  }

  /** Where SR begins, in per cent of the width from the left. */
  setSplit(percent: number): void {
    this.split = Math.min(Math.max(percent, 0), 100);
    const divider = byId("divider");
    divider.style.left = `${this.split}%`;
    divider.setAttribute("aria-valuenow", String(Math.round(this.split)));
    const cut = this.layout === "side" ? "" : `inset(0 0 0 ${this.split}%)`;
    this.panes.sr.figure.style.clipPath = cut;
  }

  splitBy(percent: number): void {
    this.setSplit(this.split + percent);
  }

  /** Draw at the next frame, once. */
  draw(): void {
    if (this.queued || !this.facts) return;
    this.queued = true;
    requestAnimationFrame(() => {
      this.queued = false;
      for (const name of NAMES) this.panes[name].show(this.view);
      byId("position").textContent = places(this.view.cursor);
      this.onChange();
    });
  }
}
