/** Small helpers over the page. */

export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`The page has no #${id}.`);
  return found as T;
}

/** Say something to everybody, readers of the screen too. */
export function announce(text: string): void {
  byId("live").textContent = text;
}

/** Show an error until it is closed. */
export function complain(problem: unknown): void {
  byId("message-text").textContent = problem instanceof Error ? problem.message : String(problem);
  byId("message").hidden = false;
}

export function quiet(): void {
  byId("message").hidden = true;
}

/** A group of buttons of which one is chosen; arrow keys move within, as in a radio group. */
export function radios(selector: string, choose: (button: HTMLElement) => void): void {
  const buttons = [...document.querySelectorAll<HTMLButtonElement>(selector)];
  buttons.forEach((button) => {
    button.addEventListener("click", () => choose(button));
    button.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      const open = buttons.filter((other) => !other.disabled);
      const next = open[(open.indexOf(button) + step + open.length) % open.length];
      next.focus();
      next.click();
    });
  });
}
