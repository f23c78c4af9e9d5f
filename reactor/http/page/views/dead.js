// Reactions that failed for good.

import {
  act,
  bare,
  cell,
  confirmed,
  facts,
  h,
  json,
  lately,
  link,
  note,
  place,
  toast,
  when,
} from "../dom.js";
import { ask, first, session } from "../api.js";
import { list } from "../list.js";
import * as pane from "../pane.js";
import { row } from "../rows.js";
import { whole } from "../verdict.js";

const COLUMNS = [
  ["Time", "w-time"],
  ["Rule", "w-name"],
  ["Event", "w-seq"],
  ["Tries", "w-num"],
  ["Error", ""],
  ["Again?", "w-acts"],
];

const load = () => first("/dead?limit=500");

function retry(wanted, again) {
  return async () => {
    const { return: done } = await ask("/dead/retry", wanted);
    const problem = done.find((each) => each?.problem)?.problem;
    const begun = done.filter((each) => !each?.problem).length;
    toast(problem ? `Not begun: ${problem}` : `${begun} begun again.`, problem ? "bad" : "");
    await again();
  };
}

function drop(letter, again) {
  return async () => {
    if (
      !(await confirmed(
        `The failed reaction of ${letter.rule} is forgotten and cannot be tried again.`,
        "Drop",
      ))
    )
      return;
    await ask("/dead/drop", { ids: [letter.id] });
    toast("Dropped.");
    await again();
  };
}

function buttons(letter, again) {
  if (!session.may("rules")) return [];
  return [
    letter.can_retry === false ? "" : act("Retry", retry({ ids: [letter.id] }, again), "first"),
    act("Drop", drop(letter, again), "danger"),
  ];
}

export const dead = list({
  title: "Dead letters",
  load,
  columns: COLUMNS,
  empty: "None: no reaction has failed for good.",
  open: (id) => (id ? showLetter(id) : pane.hide()),
  head: (found) => [
    found.letters.length
      ? note(
          `${found.kept.toLocaleString("en")} ${found.kept === 1 ? "reaction" : "reactions"} failed for good, also after retries.`,
        )
      : null,
    found.dropped
      ? h(
          "p",
          { class: "warn" },
          `${found.dropped.toLocaleString("en")} older ones had to go (reactor_dead_keep).`,
        )
      : null,
  ],
  items: (found) => found.letters,
  row: (letter, again) =>
    row(place("dead", letter.id), lately(letter.at), [
      cell(letter.rule),
      cell(letter.event.seq, "mono"),
      cell(letter.tries, "w-num"),
      cell(bare(letter.error, letter.source), "bad"),
      h("td", {}, h("div", { class: "row" }, buttons(letter, again))),
    ]),
});

function showLetter(id) {
  return pane.show(
    "Dead letter",
    async () => (await load()).letters.find((each) => each.id === id) ?? null,
    (letter) =>
      letter
        ? [
            h("p", { class: "problem" }, letter.error),
            facts([
              ["Rule", link("rules", letter.rule)],
              ["Source", h("span", { class: "mono" }, letter.source)],
              [
                "Event",
                [link("events", letter.event.seq), " ", h("span", { class: "mono" }, letter.event.tag)],
              ],
              ["Failed", when(letter.at)],
              ["Tries", letter.tries],
              ["Reaction", h("span", { class: "mono" }, letter.id)],
            ]),
            h(
              "div",
              { class: "bar" },
              buttons(letter, () => dead.again()),
              session.may("rules")
                ? act(
                    `Retry all of ${letter.rule}`,
                    retry({ rule: letter.rule }, () => dead.again()),
                  )
                : "",
            ),
            letter.done?.length
              ? [h("h3", {}, "Calls that were done, and are left out of a retry"), json(letter.done)]
              : "",
            whole(letter),
          ]
        : note("It is not there any more: it was begun again, or dropped."),
  );
}
