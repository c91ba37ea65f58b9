/** Light and dark: the system's choice until the user makes one. */

import { byId } from "./dom";

const KEPT = "mrlift-theme";

export function theme(): void {
  const kept = localStorage.getItem(KEPT);
  if (kept) document.documentElement.dataset.theme = kept;
  byId("theme").addEventListener("click", turn);
}

export function turn(): void {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const now = (root.dataset.theme ?? system) === "dark" ? "light" : "dark";
  root.dataset.theme = now;
  localStorage.setItem(KEPT, now);
}
