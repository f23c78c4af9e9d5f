// Tables whose rows open something: one row at a time is reached by Tab, the others by j and k.

import { h } from "./dom.js";

const MOST_ROWS = 500;

export function row(href, label, cells, { key = href, bad = false } = {}) {
  const anchor = h("a", { href, tabindex: "-1" }, label);
  const element = h(
    "tr",
    { class: bad ? "pick fault" : "pick", "data-key": key },
    h("td", {}, anchor),
    cells,
  );
  for (const inner of element.querySelectorAll("button")) inner.tabIndex = -1;
  return element;
}

export function body() {
  const rows = h("tbody");
  rows.addEventListener("focusin", (event) => choose(event.target.closest("tr.pick")));
  rows.addEventListener("click", (event) => {
    const picked = event.target.closest("tr.pick");
    // Somebody who marks text does not want to go anywhere.
    if (!picked || event.target.closest("a, button") || String(getSelection())) return;
    location.hash = picked.querySelector("a").hash;
  });
  return rows;
}

export function table(label, columns, rows) {
  return h(
    "table",
    {
      "aria-label": label,
      class: columns[0][1] === "w-seq" || columns[0][1] === "w-jid" ? "numbered" : null,
    },
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        columns.map(([title, kind]) => h("th", { class: kind, scope: "col" }, title)),
      ),
    ),
    rows,
  );
}

function reach(picked, index) {
  for (const inner of picked.querySelectorAll("a, button")) inner.tabIndex = index;
}

export function choose(picked) {
  if (!picked) return;
  for (const other of picked.parentElement.querySelectorAll("tr.now")) {
    if (other === picked) continue;
    other.classList.remove("now");
    reach(other, -1);
  }
  picked.classList.add("now");
  reach(picked, 0);
}

// Tab has to lead somewhere, also when the chosen row is gone.
export function keepOneChosen(rows) {
  if (!rows.querySelector("tr.now") && rows.firstElementChild) choose(rows.firstElementChild);
}

export function step(rows, by) {
  const all = [...rows.children];
  if (!all.length) return;
  const at = all.findIndex((each) => each.contains(document.activeElement));
  const next = at < 0 ? all.findIndex((each) => each.classList.contains("now")) : at + by;
  const found = all[Math.min(all.length - 1, Math.max(0, next))];
  found.querySelector("a").focus();
  found.scrollIntoView({ block: "nearest" });
}

export function focusKey(rows, key, index = 0) {
  const found = [...rows.children].find((each) => each.dataset.key === key);
  const inner = found?.querySelectorAll("a, button")[index] ?? found?.querySelector("a");
  inner?.focus();
  return Boolean(inner);
}

// Rows that are drawn anew now and then, without taking focus or place from the reader.
export class Rows {
  constructor(label, columns, empty) {
    this.rows = body();
    this.told = h("p", { class: "note" });
    this.empty = empty;
    this.table = table(label, columns, this.rows);
    this.element = h("div", {}, this.told, this.table);
    this.all = [];
    this.text = "";
  }

  // Only of what is shown a row is made: there may be thousands of rules or minions.
  draw(items, make) {
    this.all = items;
    this.make = make;
    const wanted = this.text
      ? items.filter((each) => JSON.stringify(each).toLowerCase().includes(this.text))
      : items;
    const shown = wanted.slice(0, MOST_ROWS).map(make);
    const held = document.activeElement?.closest?.("tr.pick");
    const key = held && this.rows.contains(held) ? held.dataset.key : null;
    const index = key === null ? 0 : [...held.querySelectorAll("a, button")].indexOf(document.activeElement);
    const now = this.rows.querySelector("tr.now")?.dataset.key;
    this.rows.replaceChildren(...shown);
    choose(shown.find((each) => each.dataset.key === now));
    keepOneChosen(this.rows);
    if (key !== null && !focusKey(this.rows, key, index)) this.rows.querySelector("tr.now a")?.focus();
    this.table.hidden = !shown.length;
    this.told.textContent = this.said(items.length, wanted.length, shown.length);
    this.told.hidden = !this.told.textContent;
  }

  said(all, wanted, shown) {
    if (!all) return this.empty;
    if (shown < wanted)
      return `Showing ${shown} of ${wanted.toLocaleString()}: type more into the filter to see others.`;
    return wanted < all ? `${wanted.toLocaleString()} of ${all.toLocaleString()} match the filter.` : "";
  }

  filter(text) {
    this.text = text.toLowerCase();
    if (this.make) this.draw(this.all, this.make);
  }
}
