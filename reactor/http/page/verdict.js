// What a rule made of an event, step by step: conditions with their values, policies, calls.

import { folded, h, link, mark, seconds, short } from "./dom.js";

const KINDS = {
  done: "good",
  failed: "bad",
  "would run": "good",
  "under way": "warn",
  skipped: "warn",
  stopped: "warn",
};

export function verdict(each, conditions = each.conditions ?? []) {
  const steps = [...conditions.map(condition), ...policies(each, conditions), ...calls(each)];
  return h(
    "section",
    { class: "verdict" },
    h(
      "h3",
      {},
      link("rules", each.rule),
      " ",
      mark(each.state, KINDS[each.state]),
      typeof each.seconds === "number" ? ` in ${seconds(each.seconds)}` : "",
    ),
    each.source ? h("p", { class: "note mono" }, each.source) : "",
    each.error ? h("p", { class: "problem" }, each.error) : "",
    each.why && !(each.steps ?? []).some((step) => step.why === each.why) ? h("p", {}, each.why) : "",
    each.now ? h("p", { class: "note" }, `By the rule as it is now: ${each.now}`) : "",
    each.note ? h("p", { class: "note" }, each.note) : "",
    steps.length ? h("ol", { class: "steps" }, steps) : "",
  );
}

function item(sign, kind, ...content) {
  return h(
    "li",
    { class: kind },
    h("span", { class: "sign", "aria-hidden": "true" }, sign),
    h("div", {}, content),
  );
}

function condition({ text, state, values }) {
  const held = state === "true";
  return item(
    held ? "✓" : "✗",
    held ? "good" : "bad",
    h("code", {}, text),
    " is ",
    h("strong", {}, state),
    values.length
      ? h(
          "div",
          { class: "values mono" },
          values.map((value) => h("div", {}, value)),
        )
      : "",
  );
}

// The step named "when" stands for the conditions, which are told one by one.
function policies(each, conditions) {
  return (each.steps ?? [])
    .filter((step) => step.policy !== "when" || !conditions.length)
    .map((step) =>
      item(
        step.passed ? "✓" : "✗",
        step.passed ? "good" : "bad",
        h("strong", {}, step.policy),
        step.passed ? " let it pass" : " stopped it",
        step.why ? h("div", { class: "note" }, step.why) : "",
      ),
    );
}

function calls(each) {
  return [...(each.calls ?? []), ...(each.would ?? [])].map((call) =>
    item(
      call.error ? "✗" : "→",
      call.error ? "bad" : "call",
      h("strong", {}, `${call.kind} `),
      h("code", {}, call.function ?? ""),
      call.target === undefined ? "" : ` on ${short(call.target, 80)}`,
      ["args", "kwargs", "data", "options"]
        .filter((name) => call[name] !== undefined)
        .map((name) => h("div", { class: "values mono" }, `${name}: ${short(call[name], 600)}`)),
      call.error ? h("div", { class: "problem" }, call.error) : "",
      call.result === undefined ? "" : h("div", { class: "values mono" }, "gave ", result(call.result)),
      call.source ? h("div", { class: "note mono" }, call.source) : "",
    ),
  );
}

function result(value) {
  if (value?.jid)
    return [
      "job ",
      link("jobs", value.jid),
      value.minions ? ` on ${short(value.minions.join(", "), 200)}` : "",
    ];
  if (Number.isInteger(value?.seq)) return ["event ", link("events", value.seq)];
  return short(value, 600);
}

export function whole(value) {
  return folded("All of it, as JSON", value);
}
