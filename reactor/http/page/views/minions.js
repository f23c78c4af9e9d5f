// Minions, and the keys of those who would be some.

import { act, cell, confirmed, facts, h, mark, note, place, toast } from "../dom.js";
import { ask, first, session } from "../api.js";
import { list } from "../list.js";
import * as pane from "../pane.js";
import { row } from "../rows.js";
import { whole } from "../verdict.js";

// Who waits for an answer comes first.
const STATES = {
  minions_pre: "pending",
  minions_denied: "denied",
  minions: "accepted",
  minions_rejected: "rejected",
};

const COLUMNS = [
  ["Id", "w-name"],
  ["Key", "w-state"],
  ["Link", "w-state"],
  ["System", "w-name wide"],
  ["Fingerprint", ""],
  ["Change the key", "w-act"],
];

const DONE = { accept: "accepted", reject: "rejected", delete: "deleted" };

async function load() {
  const [keys, known] = await Promise.all([ask("/keys"), first("/minions")]);
  return Object.entries(STATES).flatMap(([folder, key]) =>
    Object.entries(keys.fingerprints[folder] ?? {}).map(([id, fingerprint]) => ({
      id,
      key,
      fingerprint,
      grains: known[id],
    })),
  );
}

function change({ id, key }, action, again) {
  return async () => {
    const cut = key === "accepted" ? `${id} is cut off, and gets no more jobs.` : `${id} is not let in.`;
    const text = { reject: cut, delete: `The key of ${id} is forgotten; it may ask again.` }[action];
    if (text && !(await confirmed(text, action === "reject" ? "Reject" : "Delete"))) return;
    await ask(`/keys/${encodeURIComponent(id)}`, { action });
    toast(`The key of ${id} is ${DONE[action]}.`);
    await again();
  };
}

function buttons(minion, again) {
  if (!session.may("wheel")) return [];
  const { key } = minion;
  const found = [];
  if (key === "pending" || key === "rejected")
    found.push(act("Accept", change(minion, "accept", again), "first"));
  if (key === "pending" || key === "accepted") found.push(act("Reject", change(minion, "reject", again)));
  found.push(act("Delete", change(minion, "delete", again), "danger"));
  return found;
}

const keyMark = ({ key }) => mark(key, { accepted: "good", pending: "warn" }[key] ?? "bad");

function linkMark({ key, grains }) {
  if (key !== "accepted" || !grains) return "";
  return grains.connected ? mark("connected", "good") : mark("away", "warn");
}

function system(grains) {
  return [grains?.osfullname ?? grains?.os, grains?.osrelease].filter(Boolean).join(" ");
}

export const minions = list({
  title: "Minions",
  load,
  every: 5000,
  columns: COLUMNS,
  empty: "No minion has come yet.",
  open: showMinion,
  head: (found) => {
    const count = (test) => found.filter(test).length;
    const pending = count((each) => each.key === "pending");
    return note(
      `${count((each) => each.key === "accepted").toLocaleString("en")} accepted, ` +
        `${count((each) => each.grains?.connected).toLocaleString("en")} connected` +
        (pending
          ? `; ${pending.toLocaleString("en")} ${pending === 1 ? "waits for its" : "wait for their"} key to be accepted: compare fingerprints first`
          : ""),
    );
  },
  items: (found) => found,
  row: (each, again) =>
    row(
      place("minions", each.id),
      each.id,
      [
        cell(keyMark(each)),
        cell(linkMark(each)),
        cell(system(each.grains), "wide"),
        cell(each.fingerprint, "mono dim"),
        h("td", {}, h("div", { class: "row" }, buttons(each, again))),
      ],
      { bad: each.key === "denied" },
    ),
});

function showMinion(id) {
  return pane.show(
    `Minion ${id}`,
    async () => {
      const name = encodeURIComponent(id);
      const keys = await ask(`/keys/${name}`);
      // Whose key is not accepted is no minion yet.
      const known = keys.return.minions ? await first(`/minions/${name}`) : {};
      return Object.entries(keys.return).map(([folder, fingers]) => ({
        id,
        key: STATES[folder],
        fingerprint: fingers[id],
        grains: known[id],
      }));
    },
    (found) => found.map(minionOf),
  );
}

function minionOf(minion) {
  const { grains } = minion;
  return [
    facts([
      ["Key", keyMark(minion)],
      ["Link", linkMark(minion)],
      ["System", system(grains)],
      ["Addresses", (grains?.ipv4 ?? []).join(", ")],
      ["Fingerprint", h("span", { class: "mono" }, minion.fingerprint)],
    ]),
    h(
      "div",
      { class: "bar" },
      buttons(minion, () => minions.again()),
    ),
    grains ? whole(grains) : note("It has told nothing of itself yet."),
  ];
}
