// The page: views behind tabs, the one stream, the keyboard, the login.

import { byId, dialog, h, toast } from "./dom.js";
import { ask, first, onSession, session } from "./api.js";
import { showLogin, whoami } from "./login.js";
import * as pane from "./pane.js";
import { Stream } from "./stream.js";
import { dead } from "./views/dead.js";
import { events } from "./views/events.js";
import { jobs } from "./views/jobs.js";
import { minions } from "./views/minions.js";
import { numbers } from "./views/numbers.js";
import { rules } from "./views/rules.js";
import { traces } from "./views/traces.js";

const VIEWS = { events, rules, traces, jobs, minions, dead, numbers };
const NAMES = Object.keys(VIEWS);
const KEYS = [
  ["1 to 7", "the views"],
  ["/", "filter"],
  ["p", "pause the events, and go on"],
  ["j and k, ↓ and ↑", "next and previous row"],
  ["Home, End", "first and last row"],
  ["Enter", "open the row"],
  ["d", "dry run of the event that is open"],
  ["Escape", "close the pane"],
  ["t", "light or dark"],
  ["?", "these keys"],
];
const STATS_EVERY = 2000;

let name = null; // of the view that is shown; none before somebody has logged in
let statsTimer;

const view = () => (name ? VIEWS[name] : null);

// -- where we are -------------------------------------------------------------------------------

function route() {
  const [wanted, ...rest] = location.hash.slice(1).split("/");
  const next = wanted in VIEWS ? wanted : "events";
  const id = decode(rest.join("/"));
  if (next !== name) {
    view()?.leave();
    name = next;
    for (const link of byId("tabs").children) {
      if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    byId("main").scrollTop = 0;
    view().build(byId("main"));
  }
  document.title = `${view().title} – Reactor`;
  if (id) view().open(id);
  else if (pane.isOpen() && pane.hide()) view().refocus(opened);
  opened = id ? location.hash : "";
}

let opened = "";

// At once: the next key is for this view already.
function show(wanted) {
  location.hash = wanted;
  route();
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

// -- who we are ---------------------------------------------------------------------------------

function login(message = "") {
  view()?.leave();
  name = null;
  clearTimeout(statsTimer);
  events.end();
  numbers.forget();
  pane.hide();
  byId("tabs").replaceChildren();
  byId("state").textContent = "";
  byId("who").textContent = "";
  byId("lost").hidden = true;
  byId("logout").hidden = true;
  showLogin(message, () => start().catch((error) => toast(error.message, "bad")));
}

async function start() {
  await whoami();
  byId("who").textContent = session.user;
  byId("logout").hidden = false;
  byId("tabs").replaceChildren(
    ...Object.entries(VIEWS).map(([each, { title }], index) =>
      h("a", { href: `#${each}`, "aria-keyshortcuts": index + 1 }, title, h("span", { class: "count" })),
    ),
  );
  events.begin(
    new Stream({
      onState: tellState,
      onBegin: () => events.past(),
      onSome: (arrived, found) => events.some(arrived, found),
      why: whyRefused,
    }),
  );
  name = null;
  route();
  tellLink();
  watch();
}

// An ended stream was refused; what the API says about it is the reason.
async function whyRefused() {
  return ask("/events/recent?limit=1").then(
    () => "",
    (error) => error.message,
  );
}

const link = { state: "connecting", reached: true, text: "" };

function tellState(state, text = "") {
  link.state = state;
  link.text = text;
  tellLink();
}

function tellLink() {
  if (!name) return;
  const state = link.reached ? link.state : "lost";
  byId("state").textContent = { live: "live", connecting: "connecting", lost: "not connected" }[state];
  byId("state").className = `badge ${{ live: "good", lost: "bad" }[state] ?? ""}`;
  const lost = byId("lost");
  const text = `Connection lost${link.text ? ` (${link.text})` : ""}. Trying again; what was missed comes then.`;
  if (state === "lost" && lost.textContent !== text) lost.textContent = text;
  lost.hidden = state !== "lost";
}

// Counters for the plots, and what waits for somebody, on the tabs.
async function watch() {
  clearTimeout(statsTimer);
  if (!document.hidden) await look();
  if (name) statsTimer = setTimeout(watch, STATS_EVERY);
}

async function look() {
  try {
    const stats = await first("/stats");
    numbers.take(stats, Date.now() / 1000);
    badge("dead", stats.reactor?.dead, "dead letters");
    badge("minions", stats.link?.keys?.minions_pre, "keys wait");
    badge("rules", stats.reactor?.problems, "problems");
  } catch {
    // Lost or logged out: both are told elsewhere.
  }
}

function badge(tab, count, what) {
  const at = byId("tabs").children[NAMES.indexOf(tab)]?.querySelector(".count");
  if (!at) return;
  at.textContent = count ? String(count) : "";
  at.title = count ? `${count} ${what}` : "";
}

// -- the keyboard -------------------------------------------------------------------------------

function help() {
  const rows = KEYS.map(([keys, text]) => [h("dt", {}, h("kbd", {}, keys)), h("dd", {}, text)]);
  dialog("Keys", h("dl", { class: "keys" }, rows), h("button", { class: "first" }, "Close"));
}

function filter() {
  const input = byId("filter");
  input?.focus();
  input?.select();
}

const SHORTCUTS = {
  "?": help,
  "/": filter,
  j: () => view().step(1),
  k: () => view().step(-1),
  d: () => byId("dryrun")?.click(),
  t: theme,
};

const IN_ROWS = { ArrowDown: 1, ArrowUp: -1, Home: -1e9, End: 1e9 };

function onKey(event) {
  if (document.querySelector("dialog[open]")) return;
  if (event.key === "Escape" && leave(event.target)) return;
  const typing = event.target.closest?.("input, select, textarea");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !name) return;
  const number = Number(event.key);
  if (event.key in IN_ROWS && event.target.closest?.("main tr.pick")) view().step(IN_ROWS[event.key]);
  else if (number >= 1 && number <= NAMES.length) show(NAMES[number - 1]);
  else if (view().keys[event.key]) view().keys[event.key](view());
  else if (SHORTCUTS[event.key]) SHORTCUTS[event.key]();
  else return;
  event.preventDefault();
}

function leave(target) {
  if (pane.isOpen()) pane.leave();
  else if (target.matches?.("input")) byId("main").focus();
  else return false;
  return true;
}

// -- light and dark -----------------------------------------------------------------------------

function isDark() {
  const set = document.documentElement.dataset.theme;
  return set ? set === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function theme() {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  localStorage.setItem("theme", document.documentElement.dataset.theme);
  nameTheme();
}

function nameTheme() {
  byId("theme").textContent = isDark() ? "Light" : "Dark";
  if (name === "numbers") {
    // Plots take their colours when they are made.
    numbers.leave();
    numbers.build(byId("main"));
  }
}

async function main() {
  const kept = localStorage.getItem("theme");
  if (kept === "dark" || kept === "light") document.documentElement.dataset.theme = kept;
  nameTheme();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", nameTheme);
  addEventListener("hashchange", () => name && route());
  addEventListener("keydown", onKey);
  document.addEventListener("visibilitychange", () => name && !document.hidden && watch());
  byId("theme").addEventListener("click", theme);
  byId("help").addEventListener("click", help);
  byId("skip").addEventListener("click", (event) => {
    event.preventDefault();
    byId("main").focus();
  });
  byId("logout").addEventListener("click", async () => {
    await ask("/logout", {}).catch((error) => toast(error.message, "bad"));
    login();
  });
  onSession({
    loggedOut: () => name && login("Your token has ended: log in again."),
    reached: (is) => {
      link.reached = is;
      tellLink();
    },
  });
  try {
    await start();
  } catch (error) {
    login(error.status === 401 ? "" : error.message);
  }
}

main();
