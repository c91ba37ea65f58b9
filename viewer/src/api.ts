/** The server's addresses. Every call either gives what it names or throws an Error to be shown. */

export interface Geometry {
  shape: [number, number, number];
  spacing: [number, number, number];
}

export type Plane = "axial" | "coronal" | "sagittal";
export type Image = "lr" | "bicubic" | "sr";
export type Map = "residual" | "spread";

export interface Facts {
  name: string;
  format: string;
  notes: string[];
  images: Partial<Record<Image, Geometry>>;
  plane: Plane;
  axis: number; // of the slices, 0 to 2
  times: number;
  window: [number, number];
  range: [number, number];
  integer: boolean;
  result: Result | null;
}

export interface Result {
  scale: number;
  model: string;
  degradation: string;
  noise: number;
  findings: string[];
  download: string | null;
  spread: boolean;
}

export interface Model {
  name: string;
  scale: number;
  degradation: string;
  default: boolean;
}

export interface Opened {
  tab: string;
  version: string;
  models: Model[];
  limit: number;
  cases: Record<string, Facts>;
}

export interface Series {
  uid: string;
  modality: string;
  description: string;
  instances: number;
  rows: number;
  columns: number;
}

export type Read = { case: string; facts: Facts } | { series: Series[] };

let tab = "";

async function call(method: string, path: string, body?: BodyInit, signal?: AbortSignal): Promise<Response> {
  let answer: Response;
  try {
    answer = await fetch(path, { method, body, signal });
  } catch {
    signal?.throwIfAborted();
    throw new Error("The server does not answer. Is `mrlift view` still running?");
  }
  if (!answer.ok) {
    const type = answer.headers.get("content-type") ?? "";
    const text = type.includes("json") ? (await answer.json()).error : await answer.text();
    throw new Error(text || `The server answered ${answer.status}.`);
  }
  return answer;
}

const json = (value: unknown): string => JSON.stringify(value);
const here = (path: string): string => `/api/tabs/${tab}${path}`;

export async function open(): Promise<Opened> {
  const opened: Opened = await (await call("POST", "/api/tabs")).json();
  tab = opened.tab;
  return opened;
}

export const events = (): EventSource => new EventSource(here("/events"));

export const imageUrl = (id: string, name: Image | Map): string => here(`/cases/${id}/${name}.nii`);

export const resultUrl = (id: string): string => here(`/cases/${id}/result`);

export async function colours(id: string, map: Map): Promise<{ low: number; high: number }> {
  return (await call("GET", here(`/cases/${id}/${map}.json`))).json();
}

export async function announce(name: string, bytes: number): Promise<void> {
  await call("POST", here("/upload"), json({ name, bytes }));
}

export async function send(name: string, file: File, signal: AbortSignal): Promise<void> {
  await call("PUT", here(`/upload?name=${encodeURIComponent(name)}`), file, signal);
}

export async function read(series: string): Promise<Read> {
  return (await call("POST", here("/upload/done"), json({ series }))).json();
}

export async function forget(): Promise<void> {
  await call("DELETE", here("/upload"));
}

export async function start(id: string, work: string, model: string): Promise<void> {
  await call("POST", here("/job"), json({ case: id, work, model }));
}

export async function cancel(): Promise<void> {
  await call("DELETE", here("/job"));
}
