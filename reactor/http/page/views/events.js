// Live events: filters, a pause, and each one whole on a click.

import { byId, clock, h, place, short } from "../dom.js";
import { ask } from "../api.js";
import { showEvent } from "../event.js";
import { body, focusKey, keepOneChosen, row, step, table } from "../rows.js";

const MOST_ROWS = 300;
const AIMING = 1500; // milliseconds for which the list stands still under a pointer that moves
const RECENT = 100;

const COLUMNS = [
  ["Number", "w-seq"],
  ["Time", "w-time"],
  ["Tag", "w-tag"],
  ["Data", ""],
];
const KINDS = [
  ["Everything", ""],
  ["Jobs", "salt/job/*"],
  ["Minions", "salt/minion/* salt/presence/*"],
  ["Keys", "salt/auth salt/key"],
  ["Webhooks", "salt/netapi/hook/*"],
  ["Reactions and rules", "reactor/*"],
  ["Failures", "reactor/*/failed reactor/*/dead reactor/*/error"],
  ["These tags:", "-"],
];

export const events = {
  title: "Events",
  open: showEvent,

  // Built once: the list goes on while other views are shown.
  begin(stream) {
    this.stream = stream;
    this.paused = false;
    this.still = 0;
    this.frame = 0;
    this.tally = { shown: 0, others: 0, held: 0 };
    this.recent = new Set();
    this.rows = body();
    this.rows.addEventListener("pointermove", () => {
      this.still = performance.now() + AIMING;
    });
    this.element = this.make();
    clearInterval(this.second);
    this.second = setInterval(() => this.tell(), 1000);
    this.restart();
  },
  end() {
    clearInterval(this.second);
    this.stream?.close();
    this.stream = null;
  },
  make() {
    const kept = (name) => sessionStorage.getItem(name) ?? "";
    this.filter = h("input", {
      type: "search",
      id: "filter",
      placeholder: "Tags: globs, blanks between, such as salt/job/* my/*",
      "aria-label": "Tags",
      "aria-keyshortcuts": "/",
      value: kept("tags"),
    });
    this.text = h("input", {
      type: "search",
      id: "text",
      placeholder: "Text in tag or data",
      "aria-label": "Text in tag or data",
      value: kept("text"),
    });
    this.kind = h(
      "select",
      {
        "aria-label": "Which events",
        onchange: () => this.choose(this.kind.value),
      },
      KINDS.map(([title, globs]) => h("option", { value: globs }, title)),
    );
    this.pause = h(
      "button",
      {
        type: "button",
        id: "pause",
        "aria-pressed": "false",
        "aria-keyshortcuts": "p",
        onclick: () => this.toggle(),
      },
      "Pause",
    );
    this.rate = h("p", { class: "note", id: "rate" });
    this.aloud = h("p", { class: "hush", role: "status", id: "aloud" });
    this.problem = h("p", { class: "problem", hidden: true });
    const form = h(
      "form",
      {
        class: "bar",
        onsubmit: (event) => {
          event.preventDefault();
          this.restart();
        },
      },
      this.kind,
      this.filter,
      this.text,
      h("button", { type: "submit" }, "Filter"),
      this.pause,
      h("button", { type: "button", onclick: () => this.rows.replaceChildren() }, "Clear"),
    );
    return h(
      "div",
      {},
      form,
      this.rate,
      this.aloud,
      this.problem,
      table("Events, the newest first", COLUMNS, this.rows),
    );
  },
  build(main) {
    main.replaceChildren(this.element);
    this.later();
  },
  leave() {},
  choose(globs) {
    if (globs === "-") {
      this.filter.focus();
      return;
    }
    this.filter.value = globs;
    this.restart();
  },
  globs() {
    return this.filter.value.split(/\s+/).filter(Boolean);
  },
  restart() {
    sessionStorage.setItem("tags", this.filter.value);
    sessionStorage.setItem("text", this.text.value);
    const globs = this.filter.value.trim();
    this.kind.value = KINDS.some(([, known]) => known === globs) ? globs : "-";
    this.rows.replaceChildren();
    this.recent.clear();
    this.problem.hidden = true;
    this.stream.open(this.globs(), this.text.value.toLowerCase());
  },
  // First the stream, then what was before it: nothing falls in between.
  async past() {
    const { stream } = this;
    const { globs, text } = stream;
    const query = new URLSearchParams([["limit", RECENT], ...globs.map((glob) => ["tag", glob])]);
    try {
      const found = (await ask(`/events/recent?${query}`)).return;
      if (this.stream !== stream || stream.globs !== globs) return;
      this.putBelow(found.filter((each) => !text || JSON.stringify(each).toLowerCase().includes(text)));
    } catch (error) {
      this.problem.textContent = error.message;
      this.problem.hidden = false;
    }
  },
  putBelow(found) {
    const newest = found.at(-1)?.seq ?? 0;
    for (const each of [...this.rows.children])
      if (Number(each.dataset.key.split("/")[1]) <= newest) each.remove();
    this.recent = new Set(found.map((each) => each.seq));
    this.rows.append(...found.reverse().map(rowOf));
    keepOneChosen(this.rows);
  },
  toggle() {
    this.paused = !this.paused;
    this.pause.setAttribute("aria-pressed", String(this.paused));
    this.pause.textContent = this.paused ? "Go on" : "Pause";
    this.tally.held = 0;
    if (!this.paused) this.later();
    this.tell(true);
  },
  // Called when something waits: so many came since, and these are some of them.
  some(arrived, found) {
    if (this.paused) this.tally.held += arrived - found.filter((each) => this.recent.has(each.seq)).length;
    else this.later();
  },
  later() {
    if (this.frame) return;
    // A page in the background gets no frames: there it is a timer.
    this.frame = document.hidden
      ? setTimeout(() => this.draw(), 1000)
      : requestAnimationFrame(() => this.draw());
  },
  draw() {
    this.frame = 0;
    if (this.paused || !this.stream) return;
    if (performance.now() < this.still) {
      this.later();
      return;
    }
    const { events: found, others } = this.stream.some();
    if (!found.length && !others) return;
    const fresh = found.filter((each) => !this.recent.has(each.seq));
    this.tally.shown += fresh.length;
    this.tally.others += others;
    this.rows.prepend(...fresh.reverse().map(rowOf));
    this.trim();
    keepOneChosen(this.rows);
  },
  trim() {
    while (this.rows.childElementCount > MOST_ROWS) {
      const last = this.rows.lastElementChild;
      // Nobody's focus is taken away: a row that has it stays, as the last.
      const held = last.contains(document.activeElement);
      (held ? last.previousElementSibling : last).remove();
    }
  },
  // Say how much there is, and how much of it is shown.
  tell(again = false) {
    const rate = this.stream.arrived;
    const { shown, others, held } = this.tally;
    if (!again) {
      this.stream.arrived = 0;
      this.tally.shown = 0;
      this.tally.others = 0;
    }
    const number = (value) => value.toLocaleString("en");
    const came = `${number(rate)} ${rate === 1 ? "event" : "events"} a second`;
    const sampled = !this.paused && others > 0;
    let text = came;
    if (this.paused) text = `Paused. ${number(held)} came meanwhile. ${came}.`;
    else if (sampled)
      text = `${came}: showing ${number(shown)} of ${number(Math.max(rate, shown + others))}, sampled. Filter to see all of fewer.`;
    if (again && !this.paused) return;
    this.rate.textContent = text;
    this.rate.classList.toggle("warn", sampled || this.paused);
    const aloud = this.paused ? "Paused" : sampled ? "Too many to show all: this is a sample" : "";
    if (this.aloud.textContent !== aloud) this.aloud.textContent = aloud;
  },
  refocus(href) {
    if (!focusKey(this.rows, href)) byId("main").focus();
  },
  step(by) {
    step(this.rows, by);
  },
  keys: {
    p: (view) => view.toggle(),
  },
};

function isFault({ tag, data }) {
  return (
    /\/(failed|dead|error)$/.test(tag) ||
    data?.success === false ||
    (tag.includes("/ret/") && Boolean(data?.retcode))
  );
}

function rowOf(event) {
  const { _stamp: stamp, _cause, ...data } = event.data;
  return row(
    place("events", event.seq),
    String(event.seq),
    [
      h("td", { class: "mono" }, clock(stamp)),
      h("td", { class: "mono", title: event.tag }, event.tag),
      h("td", { class: "mono dim" }, short(data)),
    ],
    { bad: isFault(event) },
  );
}
