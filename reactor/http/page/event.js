// An event in the pane: whole, what led to it and what of it, and what the rules make of it.

import { act, confirmed, facts, h, json, link, note, toast, when } from "./dom.js";
import { ask, first, session } from "./api.js";
import * as pane from "./pane.js";
import { verdict } from "./verdict.js";

export function showEvent(seq) {
  const tried = h("div", { id: "tried" });
  return pane.show(
    `Event ${seq}`,
    () => load(seq),
    (found) => draw(seq, found, tried),
  );
}

async function load(seq) {
  const event = await first(`/events/${encodeURIComponent(seq)}`);
  // An event may be read by who may not read what rules made of it.
  const failed = (error) => ({ problem: error.message });
  const [chain, why] = await Promise.all([
    first(`/events/${event.seq}/chain`).catch(failed),
    first(`/why/${event.seq}`).catch(failed),
  ]);
  return { event, chain, why };
}

function draw(seq, { event, chain, why }, tried) {
  const { _stamp: stamp, _cause: cause, ...data } = event.data;
  return [
    h("p", { class: "tag mono" }, event.tag),
    facts([
      ["Fired", when(stamp)],
      [
        "Because of",
        cause ? [`rule `, link("rules", cause.rule), ` on event `, link("events", cause.seq)] : "",
      ],
    ]),
    json(data),
    h(
      "div",
      { class: "bar" },
      act("Dry run", () => dryRun(event.seq, tried), "first", { "aria-keyshortcuts": "d", id: "dryrun" }),
      session.may("rules") ? act("Replay…", () => replay(event.seq), "danger") : "",
      act("Copy as JSON", () => copy(event)),
    ),
    tried,
    h("h3", {}, "Causes and effects"),
    chain.problem ? note(chain.problem) : chainOf(chain),
    h("h3", {}, "What the rules made of it"),
    why.problem ? note(why.problem) : whyOf(why),
  ];
}

async function copy(event) {
  if (!navigator.clipboard) throw new Error("browsers copy only from pages that they got over HTTPS");
  await navigator.clipboard.writeText(JSON.stringify(event, null, 2));
  toast("Copied.");
}

// Each event under the one that led to it.
function chainOf({ causes, event, effects }) {
  const all = [...causes, event, ...effects];
  const below = new Map(all.map((each) => [each.seq, []]));
  const jobs = new Map();
  all.forEach((each, index) => {
    const jid = jidOf(each);
    const known = [each.data._cause?.seq, each.data.event?.seq, jobs.get(jid)].find(
      (seq) => below.has(seq) && seq !== each.seq,
    );
    if (jid && !jobs.has(jid)) jobs.set(jid, each.seq);
    // Of what was read in part, the rest still stands in its order.
    const parent = index <= causes.length ? all[index - 1]?.seq : (known ?? event.seq);
    if (index) below.get(parent).push(each);
  });
  return [
    h("ol", { class: "chain" }, branch(all[0], below, event.seq, 0)),
    all.length === 1 ? note("Nothing led to it, and nothing has come of it.") : "",
  ];
}

const jidOf = (event) => /^salt\/job\/(\d+)\//.exec(event.tag)?.[1];

function branch(each, below, here, depth) {
  const jid = jidOf(each);
  const item = h(
    "li",
    { class: each.seq === here ? "here" : "", "aria-current": each.seq === here ? "true" : null },
    each.seq === here ? String(each.seq) : link("events", each.seq),
    " ",
    h("span", { class: "mono" }, each.tag),
    jid ? [" ", link("jobs", jid, "job")] : "",
  );
  item.style.marginLeft = `${Math.min(depth, 8) * 16}px`;
  return [item, below.get(each.seq).map((child) => branch(child, below, here, depth + 1))];
}

function whyOf(why) {
  const off = why.disabled.map((each) =>
    note(
      each.state === "disabled"
        ? `${each.rule} is disabled (${each.source} says enabled: false).`
        : `${each.rule} is ${each.why}.`,
    ),
  );
  if (why.rules.length) return [why.rules.map((each) => verdict(each)), off];
  return [
    why.stopped ? note(why.stopped) : note(`No rule matches this tag (${why.rules_in_force} in force).`),
    off,
    why.near.map((each) =>
      h("p", { class: "note" }, "Nearly: ", link("rules", each.rule), ` on ${each.pattern}: ${each.why}`),
    ),
  ];
}

async function dryRun(seq, at) {
  const [outcomes, why] = await Promise.all([
    ask("/replay", { seq }).then((said) => said.return),
    first(`/why/${seq}`),
  ]);
  const conditions = (one) =>
    why.rules.find((each) => each.rule === one.rule && each.source === one.source)?.conditions;
  at.replaceChildren(
    h("h3", {}, "Dry run: what the present rules would do"),
    note("Conditions are asked; throttles, counts and windows are not. Nothing was run."),
    ...outcomes.map((each) =>
      verdict(
        { ...each, state: each.error ? "failed" : each.calls.length ? "would run" : "would do nothing" },
        conditions(each),
      ),
    ),
    outcomes.length ? "" : note("No rule matches."),
  );
}

async function replay(seq) {
  if (
    !(await confirmed(
      `The present rules react to event ${seq} once more, and their actions are run.`,
      "Replay",
    ))
  )
    return;
  const done = await first("/replay", { seq, run: true });
  toast(`${done.begun} ${done.begun === 1 ? "reaction" : "reactions"} begun.`);
}
