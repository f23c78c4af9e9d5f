// What the views that are lists share: they ask again and again, filter, and open a pane.

import { byId, flat, h } from "./dom.js";
import { Rows, focusKey, step } from "./rows.js";

const EVERY = 3000;
const BUSY = 10; // times as long as an answer takes

// A view of what `load()` gives: `head(found, again)` above, and of each of `items(found)` a
// `row(item, again)`. `open(id)` shows one of them in the pane.
export function list({
  title,
  load,
  head = () => [],
  columns,
  items,
  row,
  empty,
  open,
  controls = () => [],
  every = EVERY,
}) {
  return {
    title,
    open,
    build(main) {
      this.found = undefined;
      this.before = undefined;
      this.isShown = true;
      this.rows = new Rows(title, columns, empty);
      this.head = h("div", { class: "head" });
      this.problem = h("p", { class: "problem", hidden: true });
      this.filter = h("input", {
        type: "search",
        id: "filter",
        placeholder: "Filter",
        "aria-label": `Filter ${title}`,
        "aria-keyshortcuts": "/",
        oninput: () => this.rows.filter(this.filter.value),
      });
      main.replaceChildren(
        h(
          "div",
          { class: "bar" },
          this.filter,
          controls(() => this.again()),
        ),
        this.head,
        this.problem,
        this.rows.element,
      );
      this.turn();
    },
    leave() {
      this.isShown = false;
      clearTimeout(this.timer);
    },
    async turn() {
      const begun = performance.now();
      if (!document.hidden) await this.again();
      clearTimeout(this.timer);
      // A long answer is asked for less often: the server has other things to do.
      const pause = Math.max(every, BUSY * (performance.now() - begun));
      if (this.isShown) this.timer = setTimeout(() => this.turn(), pause);
    },
    async again() {
      const rowsNow = this.rows;
      try {
        const found = await load();
        if (!this.isShown || this.rows !== rowsNow) return;
        this.problem.hidden = true;
        this.draw(found);
      } catch (error) {
        // What was there stays: it is old, and the line says so.
        this.problem.textContent =
          this.before === undefined ? error.message : `Not up to date: ${error.message}`;
        this.problem.hidden = false;
      }
    },
    draw(found) {
      const text = JSON.stringify(found);
      if (text === this.before) return;
      this.before = text;
      this.found = found;
      const again = () => this.again();
      this.head.replaceChildren(...flat(head(found, again)));
      this.rows.draw(items(found), (item) => row(item, again));
    },
    refocus(href) {
      if (!focusKey(this.rows.rows, href)) byId("main").focus();
    },
    step(by) {
      step(this.rows.rows, by);
    },
    keys: {},
  };
}
