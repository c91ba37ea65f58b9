/** Keyboard shortcuts, and the table of them in the help. */

import { byId } from "./dom";

export interface Shortcut {
  keys: string[]; // as KeyboardEvent.key gives them
  shown: string;
  does: string;
  run: (event: KeyboardEvent) => void;
}

const TYPING = "input, select, textarea, dialog[open]";

/** Act on `shortcuts` and `silent` ones; list the former in the help. */
export function listen(shortcuts: Shortcut[], silent: Shortcut[]): void {
  const byKey = new Map([...shortcuts, ...silent].flatMap((s) => s.keys.map((key): [string, Shortcut] => [key, s])));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target instanceof Element && event.target.closest(TYPING)) return;
    const found = byKey.get(event.key.length === 1 ? event.key.toLowerCase() : event.key);
    if (!found) return;
    event.preventDefault();
    found.run(event);
  });
  for (const { shown, does } of shortcuts) {
    const row = byId<HTMLTableElement>("keys").insertRow();
    const head = row.insertCell();
    for (const key of shown.split(" ")) {
      const cap = document.createElement("kbd");
      cap.textContent = key;
      head.append(cap, " ");
    }
    row.insertCell().textContent = does;
  }
}
