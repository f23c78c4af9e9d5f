// The pane at the side. What it shows stands in the address: #view/id.

import { act, byId, flat, h, note } from "./dom.js";

const EVERY = 3000;
const BUSY = 10; // times as long as an answer takes
let shown = 0;
let wake = () => {};

export function isOpen() {
  return !byId("pane").hidden;
}

// Show what `draw(await load())` gives, and look again every few seconds for what has changed.
export async function show(title, load, draw) {
  const mine = ++shown;
  const pane = byId("pane");
  const content = h("div", { class: "content" }, note("…"));
  pane.replaceChildren(
    h(
      "div",
      { class: "bar" },
      h("h2", {}, title),
      act("Close", leave, "", { "aria-keyshortcuts": "Escape" }),
    ),
    content,
  );
  pane.hidden = false;
  pane.scrollTop = 0;
  pane.focus();
  let before;
  while (mine === shown) {
    const begun = performance.now();
    before = await look(content, load, draw, before, () => mine === shown);
    const pause = Math.max(EVERY, BUSY * (performance.now() - begun));
    await new Promise((resolve) => {
      wake = resolve;
      setTimeout(resolve, pause);
    });
  }
}

async function look(content, load, draw, before, isMine) {
  if (document.hidden) return before;
  try {
    const found = await load();
    const text = JSON.stringify(found);
    // Nothing is drawn over a focus or a fold that somebody set, unless it says something new.
    if (isMine() && text !== before) redraw(content, draw(found));
    return text;
  } catch (error) {
    if (isMine() && before === undefined)
      content.replaceChildren(h("p", { class: "problem" }, error.message));
    return before;
  }
}

// A control that somebody has just used keeps the focus.
function redraw(content, drawn) {
  const held = content.contains(document.activeElement) && document.activeElement.dataset.key;
  content.replaceChildren(...flat(drawn));
  if (held) content.querySelector(`[data-key="${CSS.escape(held)}"]`)?.focus();
}

// Look now for what has changed.
export function again() {
  wake();
}

export function leave() {
  location.hash = location.hash.slice(1).split("/")[0];
}

export function hide() {
  shown += 1;
  const pane = byId("pane");
  const had = pane.contains(document.activeElement) || document.activeElement === document.body;
  pane.hidden = true;
  pane.replaceChildren();
  return had;
}
