/** Residual and spread as colours over SR, with a bar that says what the colours mean. */

import { type Facts, type Map, colours, imageUrl } from "./api";
import { announce, byId, radios } from "./dom";
import { type Colours, SOLID, type Stops, format } from "./pane";
import type { Stage } from "./stage";

const STOPS: Record<string, Stops> = {
  residual: { R: [120, 225, 255], G: [30, 110, 235], B: [10, 20, 120], I: [0, 128, 255] },
  negative: { R: [10, 30, 150], G: [40, 120, 240], B: [120, 240, 255], I: [0, 128, 255] },
  spread: { R: [60, 160, 240, 255], G: [10, 40, 120, 245], B: [90, 120, 60, 150], I: [0, 90, 180, 255] },
};
const COLOURS: Record<Map, Colours> = {
  residual: { above: "residual", below: "negative" },
  spread: { above: "spread" },
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
    for (const [name, stops] of Object.entries(STOPS)) stage.panes.sr.addColours(name, stops);
    byId("opacity").addEventListener("input", () => this.fade());
    this.mark();
  }

  async choose(name: Map | "none"): Promise<void> {
    const { facts } = this.stage;
    this.wanted = name === "none" || !facts?.result ? null : name;
    try {
      if (this.wanted === "spread" && !facts!.result!.spread) await this.compute();
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
    if (!facts.result || (this.wanted === "spread" && !facts.result.spread)) this.wanted = null;
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
      await sr.overlay(null);
    } else {
      const { low, high } = await colours(stage.id, wanted);
      await sr.overlay({ url: imageUrl(stage.id, wanted), name: wanted, colours: COLOURS[wanted], high });
      this.explain(wanted, low, high);
      this.fade();
    }
    this.shown = wanted;
    stage.draw();
    announce(wanted ? `${wanted} shown over SR` : "No overlay");
  }

  private explain(map: Map, low: number, high: number): void {
    const { degradation, noise } = this.stage.facts!.result!;
    const end = format(high, 3);
    byId("low").textContent = low ? `≤ −${end}` : "0";
    byId("high").textContent = `≥ ${end}`;
    byId("legend-title").textContent = map === "residual" ? "Residual" : "Spread";
    byId("unit").textContent = "signal units";
    byId("layer-text").textContent =
      map === "residual"
        ? `SR degraded again (${degradation}) minus LR; the noise of LR is ${format(noise, 3)}. Structure here is what LR does not hold.`
        : "Standard deviation over the eight flips and transposes of LR. Where it is high, SR is a guess.";
    const canvas = byId<HTMLCanvasElement>("colours");
    canvas.setAttribute("aria-label", `${map}: colours from ${low ? -high : 0} to ${high}`);
    paint(canvas, COLOURS[map]);
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
    for (const id of ["layer", "legend"]) byId(id).hidden = this.shown === null;
  }
}

/** The colours over mid grey, as they lie over tissue: see-through near 0. */
function paint(canvas: HTMLCanvasElement, { above, below }: Colours): void {
  const context = canvas.getContext("2d")!;
  context.fillStyle = "#777";
  context.fillRect(0, 0, canvas.width, canvas.height);
  for (let x = 0; x < canvas.width; x++) {
    const at = (x + 0.5) / canvas.width;
    const value = below ? 2 * at - 1 : at;
    const [r, g, b] = colour(STOPS[value < 0 ? below! : above], Math.abs(value) * 255);
    context.fillStyle = `rgba(${r} ${g} ${b} / ${Math.min(Math.abs(value) / SOLID, 1) ** 2})`;
    context.fillRect(x, 0, 1, canvas.height);
  }
}

function colour({ R, G, B, I }: Stops, at: number): number[] {
  const next = Math.max(I.findIndex((edge) => edge >= at), 1);
  const share = (at - I[next - 1]) / (I[next] - I[next - 1]);
  return [R, G, B].map((c) => c[next - 1] + share * (c[next] - c[next - 1]));
}
