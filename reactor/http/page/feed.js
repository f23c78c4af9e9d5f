// The one stream of events of the page, in a thread of its own: however much comes, the page
// itself is told a few times a second, of no more than it can show.
//
// Messages wait, unparsed, in a bounded buffer. If more come than it takes, every other one is
// dropped, so that what is left is a sample of all; how many were dropped is counted.

const EVERY = 200; // milliseconds: no eye follows more
const MOST = 40; // events in each of them
const MOST_WAITING = 400;
const GAP = '{"tag": "reactor/http/gap"';

let source = null;
let wanted = { run: 0, globs: [], text: "" };
let last = "";
let waiting = [];
let others = 0;
let arrived = 0;
let timer = 0;

function tell(kind, what = {}) {
  postMessage({ kind, run: wanted.run, ...what });
}

function connect() {
  const query = new URLSearchParams(wanted.globs.map((glob) => ["tag", glob]));
  // After an end it goes on where it was.
  if (last) query.set("since", last);
  const opened = new EventSource(`/events?${query}`);
  source = opened;
  opened.onopen = () => tell("live");
  // A browser connects again by itself after a loss, but not after a refusal.
  opened.onerror = () => tell(opened.readyState === EventSource.CLOSED ? "refused" : "lost");
  opened.onmessage = take;
}

function take(message) {
  last = message.lastEventId;
  timer ||= setTimeout(flush, EVERY);
  if (message.data.startsWith(GAP)) {
    others += JSON.parse(message.data).data.lost;
    return;
  }
  if (wanted.text && !message.data.toLowerCase().includes(wanted.text)) return;
  arrived += 1;
  waiting.push(message);
  if (waiting.length > MOST_WAITING) {
    const kept = waiting.filter((_, index) => index % 2);
    others += waiting.length - kept.length;
    waiting = kept;
  }
}

// Tell of the newest and of some before it, evenly chosen.
function flush() {
  const step = Math.max(1, waiting.length / MOST);
  const chosen = [];
  for (let at = waiting.length - 1; Math.round(at) >= 0 && chosen.length < MOST; at -= step)
    chosen.push(waiting[Math.round(at)]);
  const events = chosen
    .reverse()
    .map((message) => ({ seq: Number(message.lastEventId), ...JSON.parse(message.data) }));
  others += waiting.length - chosen.length;
  if (arrived || others) tell("some", { events, others, arrived });
  clear();
}

function clear() {
  clearTimeout(timer);
  timer = 0;
  waiting = [];
  others = 0;
  arrived = 0;
}

onmessage = ({ data }) => {
  source?.close();
  if (data.kind === "open") {
    clear();
    wanted = data;
    last = "";
  }
  connect();
};
