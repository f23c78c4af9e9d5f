// What rules did, and what they turned away: each firing step by step.

import { bare, cell, facts, h, lately, link, mark, note, place, seconds, when } from "../dom.js";
import { ask, first } from "../api.js";
import { list } from "../list.js";
import * as pane from "../pane.js";
import { row } from "../rows.js";
import { verdict, whole } from "../verdict.js";

export const TRACE_COLUMNS = [
  ["Time", "w-time"],
  ["Rule", "w-name"],
  ["State", "w-state"],
  ["Took", "w-num"],
  ["Event", "w-seq"],
  ["Why, or the event's tag", ""],
];

let which = "";

// A firing has a name; what was turned away is found by event and rule.
const idOf = (trace) => trace.id ?? `${trace.event?.seq}:${trace.rule}`;

export function traceRow(trace, withRule = true) {
  const kind = { done: "good", failed: "bad" }[trace.state] ?? "warn";
  return row(
    place("traces", idOf(trace)),
    lately(trace.began ?? trace.event?.stamp),
    [
      withRule ? cell(trace.rule) : "",
      cell(mark(trace.state, kind)),
      cell(seconds(trace.seconds), "w-num"),
      cell(trace.event?.seq ?? "", "mono"),
      cell(bare(trace.error, trace.source) || trace.why || trace.event?.tag, trace.error ? "bad" : "dim"),
    ],
    { bad: trace.state === "failed" },
  );
}

export const traces = list({
  title: "Traces",
  load: async () => {
    const found = (await ask(`/traces?limit=300${which === "failed" ? "&failed=true" : ""}`)).return;
    return which === "done" ? found.filter((each) => each.state !== "skipped") : found;
  },
  columns: TRACE_COLUMNS,
  empty: "Nothing is traced yet.",
  open: showTrace,
  controls: (again) => {
    const select = h(
      "select",
      {
        "aria-label": "Which traces",
        onchange: () => {
          which = select.value;
          again();
        },
      },
      [
        ["", "All traces"],
        ["done", "What was done"],
        ["failed", "What failed"],
      ].map(([value, text]) => h("option", { value, selected: value === which }, text)),
    );
    return [select];
  },
  items: (found) => found,
  row: (trace) => traceRow(trace),
});

function showTrace(id) {
  return pane.show(
    "Trace",
    async () => {
      const [, seq, rule] = /^(\d+):(.*)$/.exec(id) ?? [];
      const query = seq ? { seq, rule } : { reaction: id };
      const [trace] = (await ask(`/traces?${new URLSearchParams(query)}`)).return;
      if (!trace) return {};
      // Its conditions are worked out again; an event that the journal has no more has none.
      const why = await first(`/why/${trace.event.seq}`).catch(() => ({ rules: [] }));
      return { trace, conditions: why.rules.find((each) => each.key === trace.key)?.conditions };
    },
    ({ trace, conditions }) => (trace ? traceOf(trace, conditions) : note("This trace is no longer kept.")),
  );
}

function traceOf(trace, conditions) {
  return [
    facts([
      ["Event", [link("events", trace.event.seq), " ", h("span", { class: "mono" }, trace.event.tag)]],
      ["Fired", when(trace.event.stamp)],
      ["Begun", when(trace.began)],
      [
        "Because of",
        trace.cause?.rule
          ? [`rule `, link("rules", trace.cause.rule), " on event ", link("events", trace.cause.seq)]
          : "",
      ],
      [
        "Dead letter",
        trace.state === "failed" && trace.id ? link("dead", trace.id, "try it again, or drop it") : "",
      ],
      ["Reaction", trace.id ? h("span", { class: "mono" }, trace.id) : ""],
    ]),
    verdict(trace, conditions ?? []),
    conditions?.length ? note("Conditions are worked out by the rule as it is now.") : "",
    whole(trace),
  ];
}
