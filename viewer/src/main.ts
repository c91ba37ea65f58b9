/** The page: puts the parts together. */

import * as api from "./api";
import { announce, byId, complain, quiet, radios } from "./dom";
import { type Shortcut, listen } from "./keys";
import { Layers } from "./layers";
import { format } from "./pane";
import { Pointer, type Tool } from "./pointer";
import { type Layout, Stage } from "./stage";
import { theme, turn } from "./theme";
import { Uploads } from "./upload";

interface Progress {
  title: string;
  done: number;
  total: number;
  seconds: number;
}

const stage = new Stage();
const pointer = new Pointer(stage);
let working = false;

/** Progress of whatever goes on; null hides it. */
function report(text: string, share: number | null): void {
  working = share !== null;
  byId("progress").hidden = share === null;
  byId("progress-text").textContent = text;
  const bar = byId<HTMLProgressElement>("bar");
  if (share) bar.value = share;
  else bar.removeAttribute("value"); // it moves to and fro until something is done
  byId<HTMLButtonElement>("start").disabled = working || !stage.facts;
}

async function take(id: string, facts: api.Facts): Promise<void> {
  quiet();
  await stage.load(id, facts);
  await layers.renew(facts);
  byId("welcome").hidden = true;
  byId("case").textContent = facts.name;
  document.title = `${facts.name} · mrlift view`;
  describe(facts);
  offer(facts.result !== null);
  const link = byId<HTMLAnchorElement>("download");
  const name = facts.result?.download;
  link.hidden = !name;
  if (name) {
    link.href = api.resultUrl(id);
    link.download = name;
    link.textContent = `Download ${name}`;
  }
  for (const input of document.querySelectorAll<HTMLInputElement>("#level, #width, #slice")) {
    input.disabled = false;
  }
  byId("times").hidden = facts.times < 2;
  byId<HTMLInputElement>("time").max = String(facts.times);
  if (facts.result) chooseScale(facts.result.scale, facts.result.model);
  report("", null);
  document.body.dataset.shown = `${id} ${facts.result?.model ?? ""}`;
}

function describe(facts: api.Facts): void {
  const { shape, spacing } = facts.images.lr!;
  const rows: [string, string][] = [
    ["Format", facts.format],
    ["Voxels", shape.join(" × ") + (facts.times > 1 ? ` × ${facts.times}` : "")],
    ["Spacing", `${spacing.map((v) => +v.toFixed(3)).join(" × ")} mm`],
    ...facts.notes.map((note): [string, string] => ["Note", note]),
  ];
  const { findings } = facts.result ?? {};
  byId("check").hidden = !findings;
  byId("passed").hidden = !findings || findings.length > 0;
  byId("findings").replaceChildren(
    ...(findings ?? []).map((text) => {
      const item = document.createElement("li");
      item.textContent = text;
      return item;
    }),
  );
  byId("facts").replaceChildren(
    ...rows.flatMap(([name, value]) => {
      const [dt, dd] = [document.createElement("dt"), document.createElement("dd")];
      [dt.textContent, dd.textContent] = [name, value];
      return [dt, dd];
    }),
  );
}

// Weights
let models: api.Model[] = [];

/** Offer the weights of a scale; those of `name` are chosen, else the default. */
function chooseScale(scale: number, name = ""): void {
  for (const button of document.querySelectorAll<HTMLElement>("[data-scale]")) {
    button.setAttribute("aria-checked", String(Number(button.dataset.scale) === scale));
  }
  const fitting = models.filter((model) => model.scale === scale);
  fitting.sort((a, b) => Number(b.default) - Number(a.default));
  byId("model").replaceChildren(...fitting.map((model) => new Option(model.name)));
  if (fitting.some((model) => model.name === name)) byId<HTMLSelectElement>("model").value = name;
  explain();
}

/** Say what the chosen weights are for. */
function explain(): void {
  const model = models.find(({ name }) => name === byId<HTMLSelectElement>("model").value)!;
  const made = model.degradation === "kspace" ? "a coarse scan" : "an image that was reduced";
  byId("model-text").textContent = `For ${made}${model.default ? "; the usual choice" : ""}.`;
}

/** What needs a result can be chosen only where there is one. */
function offer(result: boolean): void {
  const needing = "[data-layout=lr][role], [data-layout=bicubic][role], [data-layer=residual], [data-layer=spread]";
  for (const button of document.querySelectorAll<HTMLButtonElement>(needing)) button.disabled = !result;
}

function offerScales(): void {
  for (const scale of [...new Set(models.map((model) => model.scale))].sort()) {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.scale = String(scale);
    button.setAttribute("role", "radio");
    button.textContent = `×${scale}`;
    byId("scales").append(button);
  }
  radios("[data-scale]", (button) => chooseScale(Number(button.dataset.scale)));
  chooseScale(models[0].scale);
}

async function begin(work: "upscale" | "spread"): Promise<void> {
  await api.start(stage.id, work, byId<HTMLSelectElement>("model").value);
  report(work === "upscale" ? "Upscaling" : "Computing the spread", 0);
  byId("cancel").focus();
}

const layers = new Layers(stage, () => begin("spread"), complain);

function duration(seconds: number): string {
  return seconds < 100 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
}

function follow(): void {
  const source = api.events();
  const on = <T>(kind: string, act: (facts: T) => void) =>
    source.addEventListener(kind, (event) => act(JSON.parse((event as MessageEvent).data)));
  on<Progress>("progress", ({ title, done, total, seconds }) => {
    const left = done ? `, ${duration((seconds / done) * (total - done))} left` : "";
    const name = title === "upscale" ? "Upscaling" : "Spread";
    const rest = done === total ? ", checking and writing" : left;
    report(total ? `${name}: slice ${done} of ${total}${rest}` : name, total ? done / total : 0);
  });
  on<{ case: string; facts: api.Facts }>("done", ({ case: id, facts }) => {
    const here = document.activeElement === byId("cancel"); // about to be hidden
    take(id, facts).then(() => {
      announce("Done");
      const spread = document.querySelector<HTMLElement>("[data-layer=spread]")!;
      if (here) (facts.result?.spread ? spread : byId("download")).focus();
    }, complain);
  });
  const end = (text: string) => {
    report("", null);
    layers.giveUp();
    announce(text);
    byId("start").focus();
  };
  on<{ error: string }>("failed", ({ error }) => {
    end("Failed");
    complain(error);
  });
  on("cancelled", () => end("Cancelled"));
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) {
      report("", null);
      complain("The server has closed this page or ended. Reload the page.");
    }
  });
}

function controls(): void {
  radios("[data-layout][role=radio]", (button) => stage.setLayout(button.dataset.layout as Layout));
  radios("[data-tool]", (button) => chooseTool(button.dataset.tool as Tool));
  byId("upscale").addEventListener("submit", (event) => {
    event.preventDefault();
    begin("upscale").catch(complain);
  });
  byId("model").addEventListener("change", explain);
  byId("message-close").addEventListener("click", quiet);
  byId("help-open").addEventListener("click", () => byId<HTMLDialogElement>("help").showModal());
  byId("smooth").addEventListener("click", smooth);
  byId("cross").addEventListener("click", cross);
  byId("reset").addEventListener("click", () => stage.reset());
  const number = (id: string) => byId<HTMLInputElement>(id).valueAsNumber;
  byId("slice").addEventListener("input", () => (stage.slice = number("slice") - 1));
  byId("time").addEventListener("input", () => {
    stage.view.time = number("time") - 1;
    stage.draw();
  });
  for (const id of ["level", "width"]) {
    byId(id).addEventListener("input", () => {
      const [low, high] = stage.facts!.range;
      const unit = (high - low || 1) / 1000;
      stage.setWindow(low + number("level") * unit, number("width") * unit);
    });
  }
  stage.onChange = refresh;
}

/** The controls follow the view. */
function refresh(): void {
  const { view, facts } = stage;
  if (!facts) return;
  const [low, high] = facts.range;
  const unit = (high - low || 1) / 1000;
  const set = (id: string, value: number) => (byId<HTMLInputElement>(id).value = String(value));
  byId<HTMLInputElement>("slice").max = String(stage.slices);
  set("slice", stage.slice + 1);
  set("level", ((view.low + view.high) / 2 - low) / unit);
  set("width", (view.high - view.low) / unit);
  set("time", view.time + 1);
  const round = (value: number) => (facts.integer ? String(Math.round(value)) : format(value));
  byId("level-number").textContent = round((view.low + view.high) / 2);
  byId("width-number").textContent = round(view.high - view.low);
  byId("slice-number").textContent = `${stage.slice + 1} / ${stage.slices}`;
  byId("time-number").textContent = `${view.time + 1} / ${facts.times}`;
  byId("zoom-level").textContent = `${view.zoom.toFixed(1)}×`;
  byId("smooth").setAttribute("aria-pressed", String(view.smooth));
  byId("cross").setAttribute("aria-pressed", String(view.cross));
}

function chooseTool(tool: Tool): void {
  pointer.tool = tool;
  for (const button of document.querySelectorAll<HTMLElement>("[data-tool]")) {
    button.setAttribute("aria-checked", String(button.dataset.tool === tool));
  }
}

function smooth(): void {
  stage.view.smooth = !stage.view.smooth;
  stage.draw();
}

function cross(): void {
  stage.view.cross = !stage.view.cross;
  stage.draw();
}

function stop(): void {
  if (!working) return quiet();
  uploads?.cancel();
  api.cancel().catch(complain);
}

const key = (keys: string, shown: string, does: string, run: Shortcut["run"]): Shortcut => ({
  keys: keys.split(" "),
  shown,
  does,
  run,
});

const SHORTCUTS: Shortcut[] = [
  key("PageUp .", "PgUp .", "next slice", () => (stage.slice += 1)),
  key("PageDown ,", "PgDn ,", "slice before", () => (stage.slice -= 1)),
  key("ArrowLeft", "← → ↑ ↓", "move the cursor; with Shift by ten voxels", (e) => stage.step(e.shiftKey ? -10 : -1, 0)),
  key("+ =", "+", "zoom in at the cursor", () => stage.zoomBy(1.25)),
  key("- _", "-", "zoom out", () => stage.zoomBy(0.8)),
  key("[", "[ ]", "window darker, brighter", () => stage.windowBy(0.05, 0)),
  key("{", "{ }", "window narrower, wider", () => stage.windowBy(0, -0.1)),
  key("0", "0", "reset the view", () => stage.reset()),
  key("1", "1", "side by side", () => stage.setLayout("side")),
  key("2", "2", "swipe SR over LR", () => stage.setLayout("lr")),
  key("3", "3", "swipe SR over bicubic", () => stage.setLayout("bicubic")),
  key("a", "A D", "move the swipe", () => stage.splitBy(-5)),
  key("r", "R", "residual over SR", () => void layers.choose("residual")),
  key("s", "S", "spread over SR", () => void layers.choose("spread")),
  key("n", "N", "no overlay", () => void layers.choose("none")),
  key("i", "I", "smooth voxels or not", smooth),
  key("x", "X", "cursor in every image or not", cross),
  key("p", "P W", "dragging pans, or sets the window", () => chooseTool("pan")),
  key("u", "U", "upscale", () => byId("start").click()),
  key("Escape", "Esc", "cancel what is running; close the message", stop),
  key("t", "T", "light or dark", turn),
  key("?", "?", "this help", () => byId<HTMLDialogElement>("help").showModal()),
];

const OTHER_HALVES: Shortcut[] = [
  key("ArrowRight", "", "", (e) => stage.step(e.shiftKey ? 10 : 1, 0)),
  key("ArrowUp", "", "", (e) => stage.step(0, e.shiftKey ? -10 : -1)),
  key("ArrowDown", "", "", (e) => stage.step(0, e.shiftKey ? 10 : 1)),
  key("]", "", "", () => stage.windowBy(-0.05, 0)),
  key("}", "", "", () => stage.windowBy(0, 0.1)),
  key("d", "", "", () => stage.splitBy(5)),
  key("w", "", "", () => chooseTool("window")),
];

let uploads: Uploads | null = null;

async function start(): Promise<void> {
  history.replaceState(null, "", "/"); // the token need not stay in the address
  theme();
  controls();
  chooseTool("pan");
  stage.setLayout("side");
  listen(SHORTCUTS, OTHER_HALVES);
  byId("cancel").addEventListener("click", stop);
  const opened = await api.open();
  follow();
  models = opened.models;
  byId("version").textContent = `mrlift ${opened.version}`;
  offerScales();
  offer(false);
  uploads = new Uploads(opened.limit, (found) => take(found.case, found.facts), report, () => working, complain);
  await stage.attach();
  for (const [id, facts] of Object.entries(opened.cases)) await take(id, facts);
  document.body.dataset.ready = "yes";
}

start().catch(complain);
