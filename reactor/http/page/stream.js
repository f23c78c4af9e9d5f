// The page's end of its one stream of events: what waits to be shown, and how the link is.

const MOST_WAITING = 300;
const SOON = 500;
const LATEST = 10_000;

export class Stream {
  // `onState` hears "connecting", "live" and "lost", with why; `onBegin` that what comes from now
  // on comes whole, so that the past can be asked for.
  constructor({ onState, onBegin, onSome, why }) {
    this.onState = onState;
    this.onBegin = onBegin;
    this.onSome = onSome;
    this.why = why;
    this.run = 0;
    this.globs = [];
    this.text = "";
    this.feed = new Worker("/page/feed.js", { type: "module" });
    this.feed.onmessage = ({ data }) => data.run === this.run && this.told(data);
    this.clear();
  }

  clear() {
    this.waiting = [];
    this.others = 0;
    this.arrived = 0;
  }

  open(globs, text) {
    this.clear();
    clearTimeout(this.timer);
    this.run += 1;
    this.globs = globs;
    this.text = text;
    this.delay = SOON;
    this.hasBegun = false;
    this.onState("connecting");
    this.feed.postMessage({ kind: "open", run: this.run, globs, text });
  }

  close() {
    clearTimeout(this.timer);
    this.feed.terminate();
    this.run = -1;
  }

  told({ kind, events, others, arrived }) {
    if (kind === "some") this.take(events, others, arrived);
    else if (kind === "refused") this.refused();
    else this.onState(kind);
    if (kind === "live") this.isLive();
  }

  isLive() {
    this.delay = SOON;
    if (!this.hasBegun) this.onBegin();
    this.hasBegun = true;
  }

  take(events, others, arrived) {
    this.waiting.push(...events);
    const over = Math.max(0, this.waiting.length - MOST_WAITING);
    this.waiting.splice(0, over);
    this.others += others + over;
    this.arrived += arrived;
    this.onSome(arrived, events);
  }

  async refused() {
    const { run } = this;
    const text = await this.why();
    if (run !== this.run) return;
    this.onState("lost", text);
    if (!this.hasBegun) this.onBegin();
    this.timer = setTimeout(() => this.feed.postMessage({ kind: "again" }), this.delay);
    this.delay = Math.min(LATEST, this.delay * 2);
  }

  // Return what waits, and how many others there were that nobody sees.
  some() {
    const found = { events: this.waiting, others: this.others };
    this.waiting = [];
    this.others = 0;
    return found;
  }
}
