/** Mouse, pen and fingers on the stage. */

import { byId } from "./dom";
import type { Point } from "./geometry";
import type { Pane } from "./pane";
import type { Stage } from "./stage";

export type Tool = "pan" | "window";
const ZOOM_PER_PIXEL = 0.002;
const WINDOW_PER_PIXEL = 0.004;

export class Pointer {
  tool: Tool = "pan";
  private readonly down = new Map<number, PointerEvent>();
  private wheel = 0;

  constructor(private readonly stage: Stage) {
    const { box } = stage;
    box.addEventListener("pointerdown", (event) => this.press(event));
    box.addEventListener("pointermove", (event) => this.move(event));
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"] as const) {
      box.addEventListener(end, (event) => this.down.delete(event.pointerId));
    }
    box.addEventListener("contextmenu", (event) => event.preventDefault());
    box.addEventListener("wheel", (event) => this.turn(event), { passive: false });
    box.addEventListener("dblclick", () => stage.reset());
    this.divide(byId("divider"));
  }

  private press(event: PointerEvent): void {
    if (!this.pane(event) || event.target === byId("divider")) return;
    this.stage.box.setPointerCapture(event.pointerId);
    this.down.set(event.pointerId, event);
    this.stage.box.focus({ preventScroll: true });
    this.inspect(event);
  }

  private move(event: PointerEvent): void {
    const before = this.down.get(event.pointerId);
    if (!before) {
      this.inspect(event);
      return;
    }
    const others = [...this.down.values()].filter((e) => e.pointerId !== event.pointerId);
    this.down.set(event.pointerId, event);
    if (others.length === 1) {
      this.pinch(before, event, others[0]);
    } else if (before.buttons === 2 || this.tool === "window") {
      const [dx, dy] = [event.clientX - before.clientX, event.clientY - before.clientY];
      this.stage.windowBy(dy * WINDOW_PER_PIXEL, dx * WINDOW_PER_PIXEL);
    } else {
      this.drag(before, event);
    }
  }

  private drag(before: PointerEvent, event: PointerEvent): void {
    const from = this.place(before);
    const to = this.place(event);
    if (from && to) this.stage.panBy(from, to);
  }

  private pinch(before: PointerEvent, event: PointerEvent, other: PointerEvent): void {
    const apart = (e: PointerEvent) => Math.hypot(e.clientX - other.clientX, e.clientY - other.clientY);
    const about = this.place(other);
    this.stage.zoomBy(apart(event) / Math.max(apart(before), 1), about ?? undefined);
  }

  private turn(event: WheelEvent): void {
    event.preventDefault();
    if (event.ctrlKey || event.metaKey) {
      this.stage.zoomBy(Math.exp(-event.deltaY * ZOOM_PER_PIXEL), this.place(event) ?? undefined);
      return;
    }
    // A wheel gives about 100 a notch, a touch pad many small steps.
    this.wheel += event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? event.deltaY / 60 : event.deltaY;
    const steps = Math.trunc(this.wheel);
    this.wheel -= steps;
    if (steps) this.stage.slice -= steps;
  }

  private inspect(event: PointerEvent): void {
    const found = this.pane(event)?.at(event.clientX, event.clientY);
    if (found) this.stage.point(found.mm);
  }

  /** The place under an event as NiiVue counts it for panning. */
  private place(event: MouseEvent): Point | null {
    return this.pane(event)?.at(event.clientX, event.clientY)?.flat ?? null;
  }

  private pane(event: MouseEvent): Pane | undefined {
    const panes = Object.values(this.stage.panes);
    const under = document.elementsFromPoint(event.clientX, event.clientY);
    return panes.find((pane) => pane.loaded && under.find((e) => panes.some((p) => p.figure === e)) === pane.figure);
  }

  /** The divider of the swipe: dragged, or moved with the arrow keys. */
  private divide(divider: HTMLElement): void {
    divider.addEventListener("pointerdown", (event) => divider.setPointerCapture(event.pointerId));
    divider.addEventListener("pointermove", (event) => {
      if (!divider.hasPointerCapture(event.pointerId)) return;
      event.stopPropagation();
      const box = this.stage.box.getBoundingClientRect();
      this.stage.setSplit(((event.clientX - box.left) / box.width) * 100);
    });
    divider.addEventListener("keydown", (event) => {
      const big = event.shiftKey ? 10 : 2;
      const step = { ArrowLeft: -big, ArrowDown: -big, ArrowRight: big, ArrowUp: big }[event.key];
      if (step) this.stage.splitBy(step);
      else if (event.key === "Home") this.stage.setSplit(0);
      else if (event.key === "End") this.stage.setSplit(100);
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
  }
}
