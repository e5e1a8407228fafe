// Pieces that several views share.

import { h } from "./dom.js";
import { absolute, clock, day, relative, REASONS, stateOf, zone } from "./format.js";
import { utc } from "./settings.js";

const otherZone = (t) => (utc.on ? `${absolute(t, false)} here` : absolute(t, true));

// when is a time: how long ago, and date, time and zone; its title has the other zone.
export function when(iso, { stacked = false } = {}) {
  if (!iso) return h("span", { class: "muted" }, "–");
  const t = new Date(iso);
  const el = h("time", { datetime: iso, title: otherZone(t) });
  if (stacked) el.append(h("span", {}, relative(t)), h("small", { class: "muted" }, absolute(t)));
  else el.append(h("span", {}, absolute(t)), " ", h("span", { class: "muted" }, `(${relative(t)})`));
  if (stacked) el.className = "stacked";
  return el;
}

// whenShort is a time where there is little room: how long ago, and month, day, minute and zone.
export function whenShort(iso) {
  const t = new Date(iso);
  return h("time", { datetime: iso, title: otherZone(t) }, relative(t), h("small", { class: "muted" }, ` ${day(t).slice(5)} ${clock(t)} ${zone(t)}`));
}

// tag is a short word with a tone: good, warn, bad or none.
export function tag(word, tone = "", why = "") {
  return h("span", { class: `tag ${tone}`, title: why || null }, word);
}

// reasonTag is the reason of a dead letter.
export function reasonTag(reason) {
  if (!reason) return h("span", { class: "muted" }, "–");
  return tag(reason, "reason", REASONS[reason] ?? "");
}

// stateTag says what will happen to an item.
export function stateTag(item) {
  const s = stateOf(item);
  return tag(s.word, s.tone, s.at ? `${absolute(s.at)}. ${s.why}` : s.why);
}

// note is a box with a remark; tone as for tags.
export function note(tone, ...children) {
  return h("div", { class: `note ${tone}` }, children);
}

// problemBox shows what went wrong, and offers another try.
export function problemBox(problem, again) {
  return h("div", { class: "note bad", role: "alert" },
    h("p", {}, h("strong", {}, problem.title ?? "Something went wrong in this page")),
    problem.title ? problem.detail && h("p", {}, problem.detail) : h("p", {}, String(problem.message ?? problem)),
    (problem.code || problem.status || advice(problem)) && h("p", { class: "muted" },
      problem.code && h("code", {}, problem.code), problem.code && " ", problem.status ? `HTTP ${problem.status}` : null,
      problem.retryAfter && `, try again after ${problem.retryAfter} s`, advice(problem) && ` ${advice(problem)}`),
    again && h("p", {}, h("button", { type: "button", onclick: again, "data-key": "try-again" }, "Try again")));
}

function advice(problem) {
  if (problem.code === "CONSOLE_CREDENTIALS") return "Renew your AWS credentials (aws sso login) in the terminal; the console need not be restarted.";
  if (problem.status === 401 || (problem.status === 403 && problem.code !== "CONSOLE_FORBIDDEN")) return "Check which credentials the console was started with.";
  if (problem.code === "PRECONDITION_FAILED") return "It changed meanwhile: look at it again.";
  return "";
}

// loading stands in for what is being fetched.
export function loading(what) {
  return h("p", { class: "loading", "aria-busy": "true" }, `Loading ${what}…`);
}

// empty says that there is nothing, and why that is so.
export function empty(title, ...more) {
  return h("div", { class: "empty" }, h("p", {}, h("strong", {}, title)), more.length ? h("p", { class: "muted" }, more) : null);
}

// button is a push button.
export function button(label, onclick, { kind = "", key, disabled = false, describe } = {}) {
  return h("button", { type: "button", class: kind || null, onclick, "data-key": key, disabled, "aria-label": describe }, label);
}

// facts is a list of names and values; values that are null are left out.
export function facts(entries) {
  return h("dl", { class: "facts" }, entries.filter(([, value]) => value !== null && value !== undefined && value !== "").map(([name, value]) =>
    h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

// text shows something of unknown content and length, as it is. It can be scrolled with
// the keyboard.
export function text(content, label) {
  return h("pre", { tabindex: "0", role: "region", "aria-label": label }, content);
}

// panel is a titled part of a view.
export function panel(title, { actions, id } = {}, ...children) {
  const heading = id ?? `h-${title.toLowerCase().replace(/[^a-z]+/g, "-")}`;
  return h("section", { class: "panel", "aria-labelledby": heading },
    h("div", { class: "panel-head" }, h("h2", { id: heading }, title), actions), children);
}
