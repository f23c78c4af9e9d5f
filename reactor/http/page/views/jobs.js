// Jobs and what came back.

import { cell, facts, h, json, mark, note, place, short, when, lately } from "../dom.js";
import { ask, first } from "../api.js";
import { list } from "../list.js";
import * as pane from "../pane.js";
import { row } from "../rows.js";

const MOST_RETURNS = 200;

const COLUMNS = [
  ["Job", "w-jid"],
  ["Time", "w-time wide"],
  ["Function", "w-name"],
  ["Target", "w-name"],
  ["Minions", "w-num"],
  ["User", "w-state wide"],
  ["Arguments", ""],
];

// The id of a job is its time, in UTC.
function stamp(jid) {
  const [, ...part] = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d{3})/.exec(jid) ?? [];
  return part.length ? `${part[0]}-${part[1]}-${part[2]}T${part[3]}:${part[4]}:${part[5]}.${part[6]}Z` : "";
}

// A job may run several functions, one after the other.
const named = (fun) => [].concat(fun).join(", ");

export const jobs = list({
  title: "Jobs",
  load: () => first("/jobs?limit=300"),
  columns: COLUMNS,
  empty: "No job was sent yet.",
  open: showJob,
  items: (found) => Object.values(found).sort((one, other) => (one.jid < other.jid ? 1 : -1)),
  row: (job) =>
    row(place("jobs", job.jid), job.jid, [
      cell(lately(stamp(job.jid)), "mono wide"),
      cell(named(job.Function)),
      cell(short(job.Target, 60)),
      cell(job.Minions.length, "w-num"),
      cell(job.User, "wide"),
      cell(job.Arguments.length ? short(job.Arguments, 120) : "", "mono dim"),
    ]),
});

function showJob(jid) {
  return pane.show(`Job ${jid}`, async () => (await ask(`/jobs/${encodeURIComponent(jid)}`)).info[0], jobOf);
}

const isGood = (data) => data.success !== false && !data.retcode;

function jobOf(job) {
  const all = Object.entries(job.Result);
  // What went wrong comes first.
  const sorted = [...all.filter(([, data]) => !isGood(data)), ...all.filter(([, data]) => isGood(data))];
  const bad = all.filter(([, data]) => !isGood(data)).length;
  const silent = job.Minions.filter((minion) => !(minion in job.Result));
  return [
    facts([
      ["Function", h("strong", {}, named(job.Function))],
      ["Target", `${short(job.Target, 200)} (${job["Target-type"] || "glob"})`],
      ["Sent", when(stamp(job.jid))],
      ["By", job.User],
      [
        "Returned",
        [`${all.length} of ${job.Minions.length}`, bad ? [", ", mark(`${bad} failed`, "bad")] : ""],
      ],
    ]),
    job.Arguments.length ? [h("h3", {}, "Arguments"), json(job.Arguments)] : "",
    silent.length ? h("p", { class: "warn" }, `No return yet: ${short(silent.join(", "), 500)}`) : "",
    job.Missing.length ? h("p", { class: "warn" }, `Not there: ${short(job.Missing.join(", "), 500)}`) : "",
    h("h3", {}, "Returns"),
    all.length ? "" : note("None yet."),
    all.length > MOST_RETURNS ? note(`Showing ${MOST_RETURNS} of ${all.length}; failed ones first.`) : "",
    sorted
      .slice(0, MOST_RETURNS)
      .map(([minion, data]) =>
        h(
          "section",
          { class: "return" },
          h(
            "h4",
            {},
            minion,
            " ",
            mark(
              isGood(data) ? "ok" : data.retcode ? `failed, status ${data.retcode}` : "failed",
              isGood(data) ? "good" : "bad",
            ),
          ),
          typeof data.return === "string" ? h("pre", { tabindex: "0" }, data.return) : json(data.return),
        ),
      ),
  ];
}
