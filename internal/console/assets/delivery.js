// The way of one delivery: what happened to it, what comes, and how to take it back.

import { api, Problem } from "./api.js";
import { copyButton } from "./copy.js";
import { h, replace } from "./dom.js";
import { DELIVERY_STATUSES, num } from "./format.js";
import { button, empty, facts, note, panel, problemBox, tag, when } from "./parts.js";
import { go, to } from "./router.js";
import { cancelDelivery } from "./single.js";
import { comingFor, nextOf, way } from "./way.js";

const UNKNOWN = "SINK_DLQ_NOT_FOUND";

// OPEN are the statuses of deliveries of which an attempt may begin still.
const OPEN = ["accepting", "accepted", "in_progress", "dead_lettered", "expired"];

export const delivery = {
  title: () => "Delivery",
  what: "the delivery",
  still: true, // somebody may be typing

  async load({ params, signal }) {
    const sink = (params.get("sink") ?? "").trim(), id = (params.get("id") ?? "").trim();
    const found = sink && id ? api.delivery(sink, id, signal).then((d) => ({ d }), (err) => {
      if (!(err instanceof Problem) || err.outage) throw err;
      return { problem: err };
    }) : {};
    const [{ sinks }, { d = null, problem = null }] = await Promise.all([api.sinks(signal), found]);
    return { sink, id, sinks, d, problem };
  },

  show(content, { sink, id, sinks, d, problem }, view) {
    const cancel = () => cancelDelivery(sink, id, d, view.reload);
    replace(content,
      search(sink, id, sinks, view),
      problem?.code === UNKNOWN && [
        empty("Nothing is known of this delivery.", problem.detail.replace(/^nothing is known of this delivery: /, "")),
        h("div", { class: "buttons" }, button("Cancel it all the same…", cancel, { kind: "danger", key: "cancel" }),
          h("span", { class: "muted" }, "It may be on its way in a queue of the caller's own.")),
      ],
      problem && problem.code !== UNKNOWN && problemBox(problem),
      d && [
        h("div", { class: "headline" },
          h("p", {}, h("bdi", { class: "subject" }, d.delivery_id), " ", statusTag(d.status), d.may_have_arrived && [" ", tag("may have arrived", "warn", "It was sent, and nobody answered.")]),
          h("div", { class: "buttons" }, copyButton("delivery id", () => d.delivery_id, "Copy delivery id"), OPEN.includes(d.status) && button("Cancel delivery…", cancel, { kind: "danger", key: "cancel" }))),
        h("div", { class: "columns" }, panel("Its way", {}, way(d.timeline, comingFor(d))), panel("Facts", {}, facts([
          ["Status", [statusTag(d.status), " ", DELIVERY_STATUSES[d.status]?.why ?? ""]],
          ["Next", d.next && nextOf(d.next)],
          ["Sink", d.sink],
          ["Since", d.updated_at && when(d.updated_at)],
          ["Accepted", d.accepted_at && when(d.accepted_at)],
          ["Not before", d.not_before && when(d.not_before)],
          ["Expires", d.expires_at && when(d.expires_at)],
          ["Attempts", num(d.attempts)],
          ["Event", d.event && `${d.event}: what became of it is not told yet`],
          ["Dead letter", d.spilled ? "waits in the journal for room in the queue" : d.item_id && h("a", { href: to(["items", d.item_id]) }, h("code", {}, d.item_id))],
        ]))),
      ],
      !d && !problem && empty("Name a sink and a delivery id.", "One id sent to two sinks is two deliveries."));
  },
};

export const statusTag = (status) => tag(status, DELIVERY_STATUSES[status]?.tone, DELIVERY_STATUSES[status]?.why);

function search(sink, id, sinks, view) {
  const names = sinks.map((s) => s.name);
  const known = !sink || names.includes(sink) ? names : [...names, sink];
  const choice = h("select", { name: "sink" }, known.map((n) => h("option", { value: n, selected: n === sink }, n)));
  const field = h("input", { name: "id", value: id, autocomplete: "off", spellcheck: "false", placeholder: "as it was sent" });
  const find = (e) => {
    e.preventDefault();
    const place = { sink: choice.value, id: field.value.trim() };
    if (place.sink === sink && place.id === id) view.reload();
    else go(["deliveries"], place);
  };
  return h("form", { class: "filter panel", role: "search", "aria-label": "Find a delivery", onsubmit: find },
    h("div", { class: "fields way" }, h("label", {}, "Delivery id", field), h("label", {}, "Sink", choice),
      h("div", { class: "buttons" }, h("button", { type: "submit", class: "primary" }, "Find"))));
}
