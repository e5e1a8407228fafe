// The way of a message: what happened to it, with the time between, and what comes.

import { h } from "./dom.js";
import { EVENTS, gap, heirOf, plural } from "./format.js";
import { empty, when } from "./parts.js";
import { to } from "./router.js";

// way is a timeline. Steps: {at, event, detail}, oldest first. Coming: [word, what and when].
export function way(steps, coming = []) {
  if (steps.length + coming.length === 0) return empty("Nothing of it has a time.");
  return h("ol", { class: "way" },
    steps.map((e, i) => h("li", { class: EVENTS[e.event]?.tone || null },
      h("p", {}, h("strong", {}, EVENTS[e.event]?.word ?? e.event), " ", between(steps[i - 1], e)), h("p", { class: "muted" }, when(e.at)),
      e.detail && h("p", { class: EVENTS[e.event]?.tone === "bad" ? "error" : "muted" }, e.detail))),
    coming.map(([word, ...what]) => h("li", { class: "next" }, h("p", {}, h("strong", {}, word)), h("p", {}, what))));
}

// between is the time since the step before. Clocks may differ: what is no time is left out.
function between(before, e) {
  const ms = before ? new Date(e.at) - new Date(before.at) : 0;
  return ms > 0 && h("small", { class: "gap", title: "since the step before" }, `+${gap(new Date(before.at), new Date(e.at))}`);
}

// AFTER_RETURN says what comes once a dead letter is in the queue, by its state.
const AFTER_RETURN = {
  due: "then the schedule replays it",
  scheduled: "then the schedule replays it",
  waiting: "then it waits for you",
  expired: "its time is over, and nobody sends it",
};

// nextOf says what comes.
export function nextOf(n) {
  const at = (soon) => (n.at ? when(n.at) : soon);
  switch (n.event) {
    case "attempt": return ["it is sent: ", at("as soon as the queue hands it out")];
    case "replay": return n.state === "replaying" ? "a replay sends it just now" : ["the schedule replays it: ", at("at its next tick")];
    case "expiry": return ["its time is over: ", at("now")];
    case "return": return `it comes into the queue by itself, once there is room; ${AFTER_RETURN[n.state] ?? "then it goes on"}`;
    case "operator": return n.state === "expired" ? "nothing: only a replay by force sends it still" : `nothing by itself (${n.state}): replay, discard or cancel it`;
    default: return [n.event, n.at && [" ", when(n.at)]];
  }
}

// comingFor is what comes for a delivery.
export function comingFor(d) {
  return [
    d.next && ["Next", nextOf(d.next)],
    d.next && d.next.event !== "expiry" && d.expires_at && new Date(d.expires_at) > Date.now() && ["Expires", when(d.expires_at)],
  ].filter(Boolean);
}

// wayOf is the way of a dead letter: by the record of its delivery, d, where there is one and it speaks of
// this dead letter, else by what it knows itself.
export function wayOf(it, d) {
  const own = d?.item_id === it.id;
  const steps = own ? [...d.timeline] : stepsOf(it);
  const failed = it.first_failed_at && new Date(it.first_failed_at);
  const ended = steps.findIndex((s) => s.event === "dead_lettered");
  const said = steps.some((s) => s.event === "began" && Math.abs(new Date(s.at) - failed) < 1000);
  if (failed && ended >= 0 && !said && failed <= new Date(steps[ended].at)) steps.splice(ended, 0, { at: it.first_failed_at, event: "first_failed" });
  if (!it.superseded_by) return { steps, coming: own ? comingFor(d) : comingFor({ next: nextFor(it), expires_at: it.expires_at }) };
  const heir = [heirOf(it) ? h("a", { href: to(["items", heirOf(it)]) }, h("code", {}, heirOf(it))) : `one for ${it.superseded_by}`, " is sent in its place"];
  const noted = steps.findIndex((s) => s.event === "held" && s.detail?.startsWith("superseded by "));
  if (noted < 0) return { steps, coming: [["Superseded", heir]] };
  steps[noted] = { at: steps[noted].at, event: "superseded", detail: heir };
  return { steps, coming: [] };
}

// stepsOf is what a dead letter knows of its way.
function stepsOf(it) {
  const steps = [
    it.accepted_at && { at: it.accepted_at, event: "accepted" },
    { at: it.at, event: "dead_lettered", detail: `${it.reason || "failed"} after ${plural(it.attempts, "attempt")}${it.last_error ? `: ${it.last_error}` : ""}` },
    ...(it.history ?? []).map((r) => (r.error ? { at: r.at, event: r.error.startsWith("imported; ") ? "imported" : "failed", detail: r.error } : { at: r.at, event: "delivered", detail: "by a replay" })),
  ].filter(Boolean);
  if (it.delivered_at && !steps.some((s) => s.event === "delivered")) steps.push({ at: it.delivered_at, event: "delivered" });
  if (it.state === "expired" && it.expires_at) steps.push({ at: it.expires_at, event: "expired" });
  return steps;
}

// nextFor is what comes for a dead letter, as a delivery's record would say it.
function nextFor(it) {
  switch (it.state) {
    case "delivered": return null;
    case "due": case "replaying": return { event: "replay", state: it.state };
    case "scheduled": return { event: "replay", state: it.state, at: it.next_replay_at };
    default: return { event: "operator", state: it.state };
  }
}
