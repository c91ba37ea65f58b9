/** Residual and spread as colours over SR, with a bar that says what the colours mean. */

import { type Facts, type Map, colours, imageUrl } from "./api";
import { announce, byId, radios } from "./dom";
import { type Stops, format } from "./pane";
import type { Stage } from "./stage";

const STOPS: Record<Map, Stops> = {
  residual: {
    R: [64, 70, 0, 250, 255],
    G: [190, 120, 0, 130, 220],
    B: [255, 255, 0, 40, 120],
    A: [255, 190, 0, 190, 255],
    I: [0, 64, 128, 192, 255],
  },
  spread: {
    R: [60, 120, 235, 255],
    G: [20, 40, 110, 240],
    B: [110, 140, 60, 130],
    A: [0, 150, 220, 255],
    I: [0, 64, 160, 255],
  },
};

export class Layers {
  private shown: Map | null = null;
  private wanted: Map | null = null;

  /** `compute` begins the spread's job where it has not been computed yet. */
  constructor(
    private readonly stage: Stage,
    private readonly compute: () => Promise<void>,
    private readonly fail: (problem: unknown) => void,
  ) {
    radios("[data-layer]", (button) => void this.choose(button.dataset.layer as Map | "none"));
    for (const map of ["residual", "spread"] as const) {
      stage.panes.sr.addColours(map, STOPS[map]);
    }
    byId("opacity").addEventListener("input", () => this.fade());
    this.mark();
  }

  async choose(name: Map | "none"): Promise<void> {
    const { facts } = this.stage;
    this.wanted = name === "none" || !facts?.images.sr ? null : name;
    try {
      if (this.wanted === "spread" && !facts!.spread) await this.compute();
      else await this.show();
    } catch (problem) {
      this.wanted = this.shown;
      this.fail(problem);
    }
    this.mark();
  }

  /** After a case was loaded: what was chosen is laid over it again, if it can be. */
  async renew(facts: Facts): Promise<void> {
    this.shown = null;
    if (!facts.images.sr || (this.wanted === "spread" && !facts.spread)) this.wanted = null;
    await this.show();
    this.mark();
  }

  /** The job that was to compute the spread has ended without it. */
  giveUp(): void {
    this.wanted = this.shown;
    this.mark();
  }

  private async show(): Promise<void> {
    const { stage, wanted } = this;
    const { sr } = stage.panes;
    if (wanted === null) {
      await sr.overlay(null, "", 0, 0);
    } else {
      const { low, high } = await colours(stage.id, wanted);
      await sr.overlay(imageUrl(stage.id, wanted), wanted, low, high);
      this.explain(wanted, low, high);
      this.fade();
    }
    this.shown = wanted;
    stage.draw();
    announce(wanted ? `${wanted} shown over SR` : "No overlay");
  }

  private explain(map: Map, low: number, high: number): void {
    const facts = this.stage.facts!;
    byId("low").textContent = low ? `≤ ${format(low)}` : "0";
    byId("high").textContent = `≥ ${format(high)}`;
    byId("unit").textContent = "signal units";
    byId("layer-text").textContent =
      map === "residual"
        ? `SR degraded again (${facts.degradation}) minus LR. What is far from 0 is not in the input.`
        : `Standard deviation over the eight flips and transposes (${facts.spread}). Where it is high, trust less.`;
    const canvas = byId<HTMLCanvasElement>("colours");
    canvas.setAttribute("aria-label", `${map}: colours from ${format(low)} to ${format(high)}`);
    paint(canvas, STOPS[map]);
  }

  private fade(): void {
    const value = byId<HTMLInputElement>("opacity").valueAsNumber;
    this.stage.panes.sr.setOpacity(value / 100);
  }

  private mark(): void {
    const name = this.wanted ?? "none";
    for (const button of document.querySelectorAll<HTMLElement>("[data-layer]")) {
      button.setAttribute("aria-checked", String(button.dataset.layer === name));
    }
    byId("layer").hidden = this.shown === null;
  }
}

/** The colours over black, as they lie over dark tissue. */
function paint(canvas: HTMLCanvasElement, stops: Stops): void {
  const context = canvas.getContext("2d")!;
  const gradient = context.createLinearGradient(0, 0, canvas.width, 0);
  stops.I.forEach((at, i) => {
    gradient.addColorStop(at / 255, `rgba(${stops.R[i]} ${stops.G[i]} ${stops.B[i]} / ${stops.A[i] / 255})`);
  });
  context.fillStyle = "#000";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = gradient;
  context.fillRect(0, 0, canvas.width, canvas.height);
}
