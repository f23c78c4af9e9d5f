// Rates and latencies as plots, from what the parts of the master say of themselves.

import uPlot from "../vendor/uPlot.esm.js";
import { byId, h, seconds } from "../dom.js";
import { ask } from "../api.js";

const MOST = 900;
const LOOK = 2000;

const SHORT = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 4 });

function number(value) {
  if (typeof value !== "number") return "–";
  return value < 1e7 ? value.toLocaleString("en") : SHORT.format(value);
}

export const numbers = {
  title: "Numbers",
  points: [],
  before: null,
  stats: null,
  took: [null, null],

  open() {},
  // Told again and again, whichever view is shown: so there is something to see at once.
  take(stats, now) {
    const counters = stats.reactor?.counters ?? {};
    const totals = { events: stats.bus?.last_seq, done: counters.done, failed: counters.failed ?? 0 };
    const { before } = this;
    this.before = { now, ...totals };
    this.stats = stats;
    if (before && now > before.now) {
      // A part that was away, or began anew, makes a gap and no mountain.
      const rate = (name) =>
        totals[name] >= before[name] ? (totals[name] - before[name]) / (now - before.now) : null;
      this.points.push([
        now,
        rate("events"),
        rate("done"),
        rate("failed"),
        stats.reactor?.behind ?? null,
        ...this.took,
      ]);
      this.points = this.points.slice(-MOST);
    }
    if (this.plots) this.draw();
  },
  forget() {
    this.points = [];
    this.before = null;
    this.stats = null;
  },
  build(main) {
    this.tiles = h("div", { class: "tiles" });
    const plot = (id, title, text) => {
      const at = h("div", { id, class: "plot", role: "img", "aria-label": title });
      return [at, h("section", {}, h("h2", {}, title), h("p", { class: "note" }, text), at)];
    };
    const [rates, one] = plot(
      "rates",
      "Events and reactions a second",
      "From the counters of bus and reactor, every two seconds.",
    );
    const [latencies, two] = plot(
      "latencies",
      "How long reactions took, in milliseconds",
      "Of the newest reactions that are traced, while this view is open.",
    );
    const [behind, three] = plot(
      "behind",
      "Events that wait for the reactor",
      "How far it is behind the journal.",
    );
    main.replaceChildren(this.tiles, h("div", { class: "plots" }, one, two, three));
    this.plots = [
      chart(
        rates,
        [line("events", "--accent"), line("reactions done", "--good"), line("failed", "--bad")],
        [1, 2, 3],
      ),
      chart(latencies, [line("median", "--accent"), line("95 of 100 are faster", "--warn")], [5, 6]),
      chart(behind, [line("behind", "--accent")], [4]),
    ];
    this.onSize = () => this.plots.forEach((each) => each.plot.setSize(size(each.at)));
    this.watch = new ResizeObserver(this.onSize);
    this.watch.observe(main);
    this.draw();
    this.look();
  },
  leave() {
    clearTimeout(this.timer);
    this.watch?.disconnect();
    this.plots?.forEach((each) => each.plot.destroy());
    this.plots = null;
    this.took = [null, null];
  },
  async look() {
    try {
      const { return: traces } = await ask("/traces?limit=200");
      const took = traces
        .filter((each) => each.state === "done")
        .map((each) => each.seconds * 1000)
        .sort((a, b) => a - b);
      const at = (share) =>
        took.length ? took[Math.min(took.length - 1, Math.floor(took.length * share))] : null;
      this.took = [at(0.5), at(0.95)];
    } catch {
      this.took = [null, null]; // what is wrong is said above all views
    }
    if (this.plots) this.timer = setTimeout(() => this.look(), LOOK);
  },
  draw() {
    // One point makes no line, and no scale.
    const points = this.points.length > 1 ? this.points : [];
    const column = (index) => points.map((point) => point[index]);
    for (const { plot, columns } of this.plots) plot.setData([column(0), ...columns.map(column)]);
    const { bus, link, reactor, http } = this.stats ?? {};
    const tile = (name, value, kind = "") =>
      h("div", { class: `tile ${kind}` }, name, h("b", {}, String(value)));
    this.tiles.replaceChildren(
      tile("Events", number(bus?.last_seq)),
      tile("In the journal", number(bus?.journal?.events)),
      tile("Connected", number(link?.connected)),
      tile("Rules", number(reactor?.rules)),
      tile("Reactions", number(reactor?.counters?.done)),
      tile("Failed", number(reactor?.counters?.failed ?? 0)),
      tile("Under way", number(reactor?.under_way)),
      tile("Dead letters", number(reactor?.dead), reactor?.dead ? "bad" : ""),
      tile("Event streams", number(http?.streams)),
      tile("HTTP up for", http ? seconds(http.seconds) : "–"),
    );
  },
  refocus() {
    byId("main").focus();
  },
  step() {},
  keys: {},
};

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function line(label, name) {
  return {
    label,
    stroke: colour(name),
    width: 2,
    spanGaps: false,
    value: (_, value) => (value === null || value === undefined ? "–" : value.toFixed(value < 10 ? 1 : 0)),
  };
}

function size(at) {
  return { width: Math.max(280, at.clientWidth), height: 220 };
}

function chart(at, series, columns) {
  const axis = {
    stroke: colour("--dim"),
    grid: { stroke: colour("--line"), width: 1 },
    ticks: { stroke: colour("--line"), width: 1 },
  };
  const clockAxis = {
    ...axis,
    values: (_, ticks) => ticks.map((tick) => new Date(tick * 1000).toTimeString().slice(0, 8)),
    space: 80,
  };
  const time = {
    label: "time",
    value: (_, value) => (value ? new Date(value * 1000).toTimeString().slice(0, 8) : "–"),
  };
  // From nought up: a quiet line is to look quiet.
  // And a minute at least, so that the first points do not fill the plot.
  const scales = {
    x: { range: (_, low, high) => (high ? [Math.min(low, high - 60), high] : [low, high]) },
    y: { range: (_, low, high) => [0, Math.max(4, (high ?? 0) * 1.1)] },
  };
  const plot = new uPlot(
    { ...size(at), scales, axes: [clockAxis, { ...axis, size: 56 }], series: [time, ...series] },
    [[], ...series.map(() => [])],
    at,
  );
  return { at, plot, columns };
}
