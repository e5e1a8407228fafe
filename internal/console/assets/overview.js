// The overview: how each sink is, since when it fails, and why.

import { api } from "./api.js";
import { bulk } from "./bulk.js";
import { h, replace } from "./dom.js";
import { num, plural, relative, span } from "./format.js";
import { causes } from "./groups.js";
import { chosenOf, histogram, overTime } from "./histogram.js";
import { button, note } from "./parts.js";
import { sinkPanel } from "./sinks.js";

export const overview = {
  title: () => "Overview",
  what: "the overview",

  // load fetches what the view shows. The rows' small charts are of the same time as the large one.
  async load({ params, signal }) {
    const { range, by } = chosenOf(params);
    const now = Date.now();
    const kinds = [...new Set([by, "sink", "group"])];
    const [sinks, groups, ...hists] = await Promise.all([api.sinks(signal), api.groups(signal), ...kinds.map((k) => histogram(k, range, now, signal))]);
    const of = (k) => hists[kinds.indexOf(k)];
    return { now, range, by, sinks, groups, hist: of(by), bySink: of("sink"), byGroup: of("group") };
  },

  show(content, data, view) {
    if (view.memory.dragging) return; // the next look draws it
    const { sinks } = data.sinks;
    replace(content,
      data.sinks.config_error && note("bad", h("p", {}, h("strong", {}, "The sinks' configuration could not be read.")), h("p", {}, data.sinks.config_error)),
      sinks.filter((s) => s.config_error).map((s) => note("bad",
        h("p", {}, h("strong", {}, `${s.name} is misconfigured.`), " What is sent to it becomes a dead letter with reason config."), h("p", {}, s.config_error))),
      lost(sinks, data.now, view),
      totals(sinks),
      overTime(data, view),
      causes(data, view),
      sinkPanel(data, view));
  },
};

// lost says that queues lost dead letters, and what to do.
function lost(sinks, now, view) {
  const of = sinks.filter((s) => s.queue_lost_since);
  if (of.length === 0) return null;
  const first = Math.min(...of.map((s) => Date.parse(s.queue_lost_since)));
  return note("bad",
    h("p", {}, h("strong", {}, `The queue lost dead letters of ${of.map((s) => s.name).join(", ")}`), `, found ${relative(new Date(first), now)}. The journal has them.`),
    h("p", {}, "Bring them back, here or with ", h("code", {}, "backstop dlq restore"), ": it changes nothing that is in the queue. ",
      h("code", {}, "backstop dlq audit"), " tells whether all are accounted for."),
    h("div", { class: "buttons" }, button("Restore…", () => bulk({ action: "restore", ondone: view.reload }), { kind: "primary", key: "restore" })));
}

function totals(sinks) {
  const sum = (name) => sinks.reduce((n, s) => n + Math.max(0, s[name]), 0);
  const depth = sum("depth"), kept = sum("kept"), trimmed = sum("trimmed");
  const failing = sinks.filter((s) => s.depth > s.kept).length;
  const oldest = Math.max(0, ...sinks.filter((s) => s.depth > 0).map((s) => s.oldest_age_seconds));
  const unknown = sinks.some((s) => s.due < 0);
  const waiting = sum("waiting");
  const expired = sinks.reduce((n, s) => n + (s.states?.expired ?? 0), 0);
  const stat = (label, value, remark) => h("div", { class: "stat" }, h("dt", {}, label), h("dd", {}, h("span", { class: "value" }, value), remark && h("small", { class: "muted" }, remark)));
  return h("dl", { class: "stats", "aria-label": "All sinks together" },
    stat("Dead letters", `${unknown ? "≥ " : ""}${num(depth)}`, kept ? `${num(kept)} of them delivered and kept` : `in ${plural(failing, "sink")}`),
    stat("Due", `${unknown ? "≥ " : ""}${num(sum("due"))}`, waiting ? `${num(waiting)} of them wait for a receiver` : "the schedule replays them"),
    stat("Left to you", unknown ? "?" : num(Math.max(0, depth - kept - expired - sum("due"))), sum("parked") ? `${num(sum("parked"))} of them parked` : "the schedule does not"),
    stat("Oldest", depth ? span(oldest) : "–", depth ? "since its failure" : "none"),
    expired > 0 && stat("Expired", num(expired), "their time is over"),
    sum("spilled") > 0 && stat("Spilled", num(sum("spilled")), "wait in the journal for room"),
    trimmed > 0 && stat("Lost to overflow", num(trimmed), "trimmed, ever"));
}
