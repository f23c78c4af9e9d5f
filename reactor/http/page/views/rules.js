// The rules in force: counters, state, last error, source, and what each did lately.

import {
  act,
  bare,
  cell,
  facts,
  h,
  lately,
  link,
  mark,
  note,
  place,
  toast,
  toggle,
  when,
} from "../dom.js";
import { ask, first, session } from "../api.js";
import { list } from "../list.js";
import * as pane from "../pane.js";
import { row, table, body } from "../rows.js";
import { traceRow, TRACE_COLUMNS } from "./traces.js";
import { whole } from "../verdict.js";

const COLUMNS = [
  ["Rule", "w-name"],
  ["State", "w-switch"],
  ["Matched", "w-num wide"],
  ["Fired", "w-num"],
  ["Skipped", "w-num"],
  ["Failed", "w-num"],
  ["Last fired", "w-time wide"],
  ["Last error, or why it did nothing", ""],
];

const load = () => first("/rules");

const isOn = (rule) => rule.state === "on";

function state(rule) {
  return mark(rule.state, isOn(rule) ? "good" : "warn");
}

// The switch of a rule, where its file leaves something to switch and this person may.
function switchOf(rule, again) {
  if (!session.may("rules") || (!isOn(rule) && !rule.switched_off)) return "";
  return toggle(`Rule ${rule.name}`, isOn(rule), async (on) => {
    const { return: done } = await ask(`/rules/${on ? "enable" : "disable"}`, { rules: [rule.name] });
    toast(`${rule.name} is ${done[0].state}${done[0].why && on ? `: ${done[0].why}` : ""}.`);
    await again();
  });
}

function switched(rule, again) {
  return h("div", { class: "row" }, state(rule), switchOf(rule, again));
}

const count = (value) => (value ?? 0).toLocaleString("en");

export const rules = list({
  title: "Rules",
  load,
  columns: COLUMNS,
  empty: "No rule is in force: see reactor up --rules.",
  open: showRule,
  controls: (again) =>
    session.may("rules")
      ? [
          act("Read the files again", async () => {
            await ask("/rules/reload", {});
            toast("The files are read again.");
            await again();
          }),
        ]
      : [],
  head: (found) => [
    found.problems.length
      ? h(
          "div",
          { class: "problem" },
          h("strong", {}, "Could not be loaded:"),
          h(
            "ul",
            {},
            found.problems.map((each) => h("li", { class: "mono" }, said(each))),
          ),
        )
      : null,
  ],
  items: (found) => found.rules,
  row: (rule, again) =>
    row(
      place("rules", rule.name),
      rule.name,
      [
        h("td", { class: "w-switch", title: rule.why_off || null }, switched(rule, again)),
        cell(count(rule.matched), "w-num wide"),
        cell(count(rule.fired), "w-num"),
        cell(count(rule.skipped), "w-num"),
        cell(rule.failed ? mark(count(rule.failed), "bad") : "0", "w-num"),
        cell(lately(rule.last_fired), "mono wide"),
        rule.switched_off
          ? cell(offSince(rule), "warn")
          : cell(
              bare(rule.last_error, rule.source) || rule.last_skip,
              rule.last_error ? "bad" : "dim",
            ),
      ],
      { bad: Boolean(rule.last_error) && isOn(rule) },
    ),
});

function said(problem) {
  const source =
    typeof problem.source === "string"
      ? problem.source
      : [problem.file, problem.line].filter(Boolean).join(":");
  const kept = problem.kept ? " (its last good version is in force)" : "";
  return `${source ? `${source}: ` : ""}${problem.message}${kept}`;
}

function showRule(name) {
  return pane.show(
    `Rule ${name}`,
    async () => {
      const [found, traces] = await Promise.all([
        load(),
        ask(`/traces?limit=50&rule=${encodeURIComponent(name)}`),
      ]);
      return { rule: found.rules.find((each) => each.name === name), traces: traces.return };
    },
    ({ rule, traces }) =>
      rule ? ruleOf(rule, traces) : [note(`No rule ${name} is in force now.`), ...tracesOf(traces)],
  );
}

const offSince = (rule) =>
  `switched off by ${rule.switched_off.user}, ${lately(rule.switched_off.at)}`;

function whyOff(rule) {
  return rule.switched_off
    ? offSince(rule)
    : `as its file says: change “enabled” in ${rule.source}`;
}

async function changed() {
  pane.again();
  await rules.again();
}

function ruleOf(rule, traces) {
  return [
    rule.description ? h("p", {}, rule.description) : "",
    facts([
      [
        "State",
        [switched(rule, changed), isOn(rule) ? "" : whyOff(rule)],
      ],
      ["Source", h("span", { class: "mono" }, rule.source)],
      ["On", h("span", { class: "mono" }, (rule.patterns ?? []).join("  "))],
      [
        "Matched",
        `${count(rule.matched)}: fired ${count(rule.fired)}, skipped ${count(rule.skipped)}, failed ${count(rule.failed)}`,
      ],
      ["Last fired", when(rule.last_fired)],
      ["Last skipped", rule.last_skip],
    ]),
    rule.last_error
      ? h("p", { class: "problem" }, rule.last_error, " ", link("dead", "", "Dead letters"))
      : "",
    ...tracesOf(traces),
    whole(rule),
  ];
}

function tracesOf(traces) {
  const rows = body();
  rows.append(...traces.map((each) => traceRow(each, false)));
  return [
    h("h3", {}, "Its newest traces"),
    traces.length
      ? table(
          "Traces",
          TRACE_COLUMNS.filter(([title]) => title !== "Rule"),
          rows,
        )
      : note("Nothing is traced yet."),
  ];
}
