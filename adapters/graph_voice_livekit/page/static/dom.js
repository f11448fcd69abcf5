// Elements of the page. Whatever comes from a call is set as text, never as HTML.

export const $ = (id) => document.getElementById(id);

/** An element with a class, and with texts and elements in it. */
export function make(name, kind, ...content) {
  const element = document.createElement(name);
  if (kind) element.className = kind;
  for (const part of content) if (part !== null && part !== undefined) element.append(part);
  return element;
}

/** A button that does something. `key` finds it again after its surroundings were made anew. */
export function button(text, kind, key, action) {
  const element = make("button", kind, text);
  element.type = "button";
  element.dataset.key = key;
  element.addEventListener("click", action);
  return element;
}

/** Put `made` in the place of `old`, and keep the focus if it was inside. */
export function replace(old, made) {
  const key = old.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  old.replaceWith(made);
  if (key !== undefined) [...made.querySelectorAll("[data-key]")].find((e) => e.dataset.key === key)?.focus();
}

/** Say this to who listens to the page with a screen reader. */
export function announce(text) {
  const line = make("p", "", text);
  $("spoken").append(line);
  while ($("spoken").childElementCount > 5) $("spoken").firstChild.remove();
}

export function notice(kind, text) {
  const line = make("div", `notice ${kind}`, make("span", "", text));
  line.append(button("×", "close", "", () => line.remove()));
  line.lastChild.setAttribute("aria-label", "dismiss");
  $("notices").append(line);
  while ($("notices").childElementCount > 4) $("notices").firstChild.remove();
  if (kind !== "error") setTimeout(() => line.remove(), 6000);
}

export const seconds = (value) => (value < 9.95 ? `${value.toFixed(2)} s` : `${value.toFixed(1)} s`);
