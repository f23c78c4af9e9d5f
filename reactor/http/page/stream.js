// The one stream of events of the page, whatever view is shown.
//
// Messages wait, unparsed, in a bounded buffer for whoever shows them. If more come than it
// takes, every other one is dropped, so that what is left is a sample of all, and they are counted.

const MOST_WAITING = 400;
const SOON = 500;
const LATEST = 10_000;
const GAP = '{"tag": "reactor/http/gap"';

export class Stream {
  constructor({ onState, onSome, why }) {
    this.onState = onState;
    this.onSome = onSome;
    this.why = why;
    this.globs = [];
    this.text = "";
    this.arrived = 0;
    this.source = null;
    this.clear();
  }

  clear() {
    this.waiting = [];
    this.skipped = 0;
  }

  open(globs) {
    this.close();
    this.globs = globs;
    this.last = "";
    this.delay = SOON;
    this.connect();
  }

  connect() {
    const query = new URLSearchParams(this.globs.map((glob) => ["tag", glob]));
    // After an end the page goes on where it was.
    if (this.last) query.set("since", this.last);
    const source = new EventSource(`/events?${query}`);
    this.source = source;
    source.onopen = () => {
      this.delay = SOON;
      this.onState("live");
    };
    // A browser connects again by itself after a loss, but not after a refusal.
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED) this.refused(source);
      else this.onState("lost");
    };
    source.onmessage = (message) => this.take(message);
  }

  async refused(source) {
    const text = await this.why();
    if (this.source !== source) return;
    this.onState("lost", text);
    this.timer = setTimeout(() => this.connect(), this.delay);
    this.delay = Math.min(LATEST, this.delay * 2);
  }

  close() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
    this.clear();
  }

  take(message) {
    this.last = message.lastEventId;
    if (message.data.startsWith(GAP)) {
      this.lose(JSON.parse(message.data).data.lost);
      return;
    }
    if (this.text && !message.data.toLowerCase().includes(this.text)) return;
    this.arrived += 1;
    this.waiting.push(message);
    if (this.waiting.length > MOST_WAITING) {
      const kept = this.waiting.filter((_, index) => index % 2);
      this.lose(this.waiting.length - kept.length);
      this.waiting = kept;
    }
    this.onSome();
  }

  lose(count) {
    this.skipped += count;
  }

  // Return at most `most` of what waits, evenly chosen, and how many others there were.
  some(most) {
    const step = Math.max(1, this.waiting.length / most);
    const chosen = [];
    for (let at = this.waiting.length - 1; at >= 0 && chosen.length < most; at -= step) chosen.push(this.waiting[Math.round(at)]);
    const others = this.skipped + this.waiting.length - chosen.length;
    this.clear();
    const events = chosen.reverse().map((message) => ({ seq: Number(message.lastEventId), ...JSON.parse(message.data) }));
    return { events, others };
  }
}
