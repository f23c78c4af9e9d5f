// Small helpers for the document. Text is only ever set as text: events come from strangers.

export function h(name, props = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "class") element.className = value;
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  element.append(...flat(children));
  return element;
}

// Content without its nesting, and without what is not there.
export function flat(content) {
  return [content].flat(Infinity).filter((child) => child !== null && child !== undefined && child !== "");
}

export function byId(id) {
  return document.getElementById(id);
}

// Where a thing of a view is shown: an address that can be sent to somebody.
export function place(view, id) {
  return `#${view}/${encodeURIComponent(id)}`;
}

export function link(view, id, text = id) {
  return h("a", { href: place(view, id) }, String(text));
}

export function cell(content, kind = "") {
  const text = content === null || content === undefined ? "" : content;
  if (text instanceof Node) return h("td", { class: kind }, text);
  const shown = String(text);
  return h("td", { class: kind, title: shown.length > 20 ? shown : null }, shown);
}

// A state in a colour, and always in a word too.
export function mark(text, kind = "") {
  return h("span", { class: `mark ${kind}` }, text);
}

export function note(text) {
  return h("p", { class: "note" }, text);
}

const MOST_TEXT = 200_000;

export function json(value) {
  const text = JSON.stringify(value, null, 2) ?? "null";
  const shown =
    text.length > MOST_TEXT
      ? `${text.slice(0, MOST_TEXT)}\n… and ${(text.length - MOST_TEXT).toLocaleString()} characters more`
      : text;
  return h("pre", { tabindex: "0" }, shown);
}

export function folded(title, value) {
  return h("details", {}, h("summary", {}, title), json(value));
}

export function facts(pairs) {
  const known = pairs.filter(([, value]) => value !== undefined && value !== null && value !== "");
  return h(
    "dl",
    { class: "facts" },
    known.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]),
  );
}

export function short(value, most = 300) {
  const text = typeof value === "string" ? value : (JSON.stringify(value) ?? "");
  return text.length > most ? `${text.slice(0, most)}…` : text;
}

// An error without its place, where that is told beside it or one click away.
export function bare(text, source = "") {
  const file = source.replace(/:\d+$/, "");
  return file && text?.startsWith(file) ? text.slice(text.indexOf(": ", file.length) + 2) : text;
}

function moment(stamp) {
  // ISO 8601 text, or seconds since 1970.
  const found = typeof stamp === "number" ? new Date(stamp * 1000) : new Date(stamp ?? NaN);
  return Number.isNaN(found.getTime()) ? null : found;
}

const two = (number, digits = 2) => String(number).padStart(digits, "0");

export function clock(stamp) {
  const at = moment(stamp);
  return at
    ? `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${two(at.getMilliseconds(), 3)}`
    : "";
}

export function when(stamp) {
  const at = moment(stamp);
  return at ? `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${clock(stamp)}` : "";
}

// The time of day, with the date before it unless that is today.
export function lately(stamp) {
  const at = moment(stamp);
  if (!at) return "";
  return at.toDateString() === new Date().toDateString() ? clock(stamp) : when(stamp).slice(0, 19);
}

export function seconds(value) {
  if (typeof value !== "number") return "";
  if (value < 1) return `${(value * 1000).toFixed(1)} ms`;
  if (value < 120) return `${value.toFixed(1)} s`;
  if (value < 7200) return `${Math.round(value / 60)} min`;
  return value < 172_800 ? `${Math.round(value / 3600)} h` : `${Math.round(value / 86_400)} d`;
}

let toastTimer;

// One line about what a click led to, or did not.
export function toast(text, kind = "") {
  const at = byId("toast");
  at.className = kind;
  at.replaceChildren(
    h("span", {}, text),
    h(
      "button",
      {
        type: "button",
        "aria-label": "Dismiss",
        onclick: () => {
          at.hidden = true;
        },
      },
      "✕",
    ),
  );
  at.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => {
    at.hidden = true;
  }, 10_000);
}

// A button that does something once at a time and says what went wrong.
export function act(label, action, kind = "", props = {}) {
  const button = h("button", { type: "button", class: kind, ...props }, label);
  button.addEventListener("click", async () => {
    if (button.getAttribute("aria-busy")) return;
    button.setAttribute("aria-busy", "true");
    try {
      await action();
    } catch (error) {
      toast(error.message, "bad");
    } finally {
      button.removeAttribute("aria-busy");
    }
  });
  return button;
}

// A switch that shows whether something is on; `change` is told what it is to be.
export function toggle(label, isOn, change) {
  const props = { role: "switch", "aria-checked": String(isOn), "aria-label": label, title: label };
  return act("", () => change(!isOn), "switch", { ...props, "data-key": "switch" });
}

export function dialog(title, content, ...buttons) {
  const box = h(
    "dialog",
    { "aria-label": title },
    h("h2", {}, title),
    content,
    h("form", { method: "dialog", class: "bar" }, buttons),
  );
  box.addEventListener("close", () => box.remove());
  document.body.append(box);
  box.showModal();
  return box;
}

export function confirmed(question, label) {
  return new Promise((resolve) => {
    const box = dialog(
      "Are you sure?",
      h("p", {}, question),
      h("button", { value: "no", autofocus: true }, "Cancel"),
      h("button", { value: "yes", class: "danger" }, label),
    );
    box.addEventListener("close", () => resolve(box.returnValue === "yes"));
  });
}
