// One dead letter in full.

import { api, Problem } from "./api.js";
import { copyButton, showByCLI, showByCurl } from "./copy.js";
import { h, replace } from "./dom.js";
import { editOne } from "./edit.js";
import { bytes, heirOf, num, REASONS, stateOf } from "./format.js";
import { button, facts, loading, note, panel, problemBox, reasonTag, stateTag, text, when } from "./parts.js";
import { go, to } from "./router.js";
import { discardOne, replayOne, unparkOne } from "./single.js";
import { way, wayOf } from "./way.js";

const HISTORY = 10; // replays that a dead letter remembers

const utf8 = new TextEncoder();

export const item = {
  title: ({ parts }) => `Dead letter ${parts[1]}`,
  what: "the dead letter",

  async load({ parts, signal }) {
    const [{ body, etag }, { sinks }] = await Promise.all([api.item(parts[1], signal), api.sinks(signal)]);
    return { it: body, etag, sinks, delivery: deliveryOf(body, signal) };
  },

  show(content, { it, etag, sinks, delivery }, view) {
    const names = sinks.filter((s) => s.configured && !s.config_error).map((s) => s.name);
    const readable = !it.decode_error;
    const state = stateOf(it);
    const force = it.state === "expired" || it.superseded_by;
    replace(content,
      h("p", { class: "crumbs" }, h("a", { href: to(["items"], { sink: it.sink }) }, `All of ${it.sink}`),
        it.reason && [" · ", h("a", { href: to(["items"], { sink: it.sink, reason: it.reason }) }, `${it.reason} ones`)],
        it.delivery_id && [" · ", h("a", { href: to(["items"], { sink: it.sink, delivery_id: it.delivery_id }) }, "all of this delivery"),
          " · ", h("a", { href: to(["deliveries"], { sink: it.sink, id: it.delivery_id }) }, "its whole way")]),
      h("div", { class: "headline" }, h("p", {}, h("bdi", { class: "subject" }, it.message.subject || "(no subject)"), " ", stateTag(it), " ", reasonTag(it.reason)),
        h("div", { class: "buttons" },
          readable && button(it.delivered_at ? "Send again…" : force ? "Send all the same…" : "Replay…", () => replayOne(it, etag, names, view.reload), { kind: it.superseded_by ? "" : "primary", key: "replay" }),
          readable && !heirOf(it) && button("Edit and replay…", () => editOne(it, etag, names, view.reload), { key: "edit" }),
          state.unpark && button("Unpark…", () => unparkOne(it, etag, view.reload), { key: "unpark" }),
          button("Discard…", () => discardOne(it, etag, (gone) => (gone ? go(["items"], { sink: it.sink }) : view.reload())), { kind: "danger", key: "discard" }))),
      h("div", { class: "buttons copies" }, h("span", { class: "muted" }, "Copy"), copyButton("id", () => it.id), it.delivery_id && copyButton("delivery id", () => it.delivery_id),
        readable && copyButton("body", () => it.message.body ?? ""), copyButton("as curl", () => showByCurl(it.id)), copyButton("as CLI line", () => showByCLI(it.id))),
      it.superseded_by && note("warn", h("strong", {}, "Superseded. "), heirOf(it) ? ["Another was made of it, and is sent in its place: ", h("a", { href: to(["items", heirOf(it)]), "data-key": "heir" }, h("code", {}, heirOf(it)))]
        : `Another was to be made of it, for ${it.superseded_by}, and whoever did so was interrupted. Edit and replay it once more with the same changes: that ends it.`),
      it.decode_error && note("bad", h("p", {}, h("strong", {}, "This entry cannot be read.")), h("p", {}, it.decode_error)),
      h("div", { class: "columns" },
        h("div", {},
          panel("What went wrong", {}, h("p", { class: "last-error" }, it.last_error || h("span", { class: "muted" }, "There is no error text.")),
            facts([
              ["Reason", it.reason && [reasonTag(it.reason), " ", REASONS[it.reason] ?? ""]],
              ["State", [stateTag(it), " ", state.why]],
              ["Next replay", it.next_replay_at ? when(it.next_replay_at) : null],
              ["Not before", notBefore(it)],
            ])),
          it.decode_error ? panel("As it is stored", {}, text(it.raw ?? "", "The entry as it is stored")) : messagePanel(it)),
        h("div", {},
          waySlot(it, delivery),
          panel("Facts", {}, facts([
            ["Sink", it.sink],
            ["Delivery id", it.delivery_id && h("code", {}, it.delivery_id)],
            ["Dead letter id", h("code", {}, it.id)],
            ["Accepted", it.accepted_at ? when(it.accepted_at) : null],
            ["Message group", it.group && h("code", {}, it.group)],
            ["First failed", it.first_failed_at ? when(it.first_failed_at) : null],
            ["Dead letter since", when(it.at)],
            ["Expires", it.expires_at && it.state !== "expired" ? when(it.expires_at) : null],
            ["Expired", it.state === "expired" ? [when(it.expires_at ?? it.at), ": a replay needs force"] : null],
            ["Attempts before", num(it.attempts)],
            ["Replays charged", num(it.replays ?? 0)],
            ["Delivered", it.delivered_at ? when(it.delivered_at) : null],
            ["Came from", it.origin ? h("a", { href: to(["items", it.origin]) }, h("code", {}, it.origin)) : null],
            ["Trace", it.trace && h("code", {}, it.trace)],
          ])))));
  },
};

// notBefore is the time before which the schedule lets an item rest, and who says so. It
// means nothing for an item that is not scheduled.
function notBefore(it) {
  if (!it.not_before || it.state !== "scheduled") return null;
  const imported = (it.history ?? []).some((r) => (r.error ?? "").startsWith("imported; it was "));
  return [when(it.not_before), imported ? ", set by its import" : ", as the receiver asked"];
}

function messagePanel(it) {
  const body = it.message.body ?? "";
  const shown = h("div", {}, text(body, "Message body"));
  const pretty = formatted(body);
  const toggle = pretty !== null && pretty !== body && h("label", { class: "check" }, h("input", {
    type: "checkbox", onchange: (e) => shown.replaceChildren(text(e.target.checked ? pretty : body, "Message body")),
  }), " Indent JSON");
  const metadata = Object.entries(it.message.metadata ?? {});
  return panel("Message", { actions: toggle },
    facts([
      ["Recipient", it.recipient !== undefined && it.recipient !== null ? text(JSON.stringify(it.recipient, null, JSON.stringify(it.recipient).length > 60 ? 2 : 0), "Recipient") : h("span", { class: "muted" }, "the sink's own")],
      ["Message id", it.message.id && it.message.id !== it.delivery_id ? h("code", {}, it.message.id) : null],
    ]),
    h("h3", {}, "Body ", h("small", { class: "muted" }, `${bytes(utf8.encode(body).length)}, shown as text`)),
    shown,
    metadata.length > 0 && [h("h3", {}, "Metadata"), facts(metadata.map(([k, v]) => [h("code", {}, k), h("code", {}, v)]))]);
}

// formatted is a JSON text with line ends; null for any other text.
function formatted(body) {
  if (!/^\s*[[{]/.test(body)) return null;
  try {
    return JSON.stringify(JSON.parse(body), null, 2);
  } catch {
    return null;
  }
}

// deliveryOf is what is known of an item's delivery: it comes later than the item, which does not wait.
// {}: nothing is.
async function deliveryOf(it, signal) {
  if (!it.delivery_id) return {};
  try {
    return { d: await api.delivery(it.sink, it.delivery_id, signal) };
  } catch (err) {
    return { problem: err instanceof Problem && !err.outage ? null : err };
  }
}

function waySlot(it, delivery) {
  const slot = h("div", { class: "rows" }, loading("its way"));
  delivery.then(({ d, problem }) => {
    const { steps, coming } = wayOf(it, d);
    replace(slot, problem && problem.name !== "AbortError" && problemBox(problem), way(steps, coming),
      (it.history ?? []).length === HISTORY && h("p", { class: "muted small" }, `Of its replays, the last ${HISTORY} are kept.`),
      d && d.item_id !== it.id && h("p", { class: "muted small" }, `Its delivery has a record of its own (${d.status}): `, h("a", { href: to(["deliveries"], { sink: it.sink, id: it.delivery_id }) }, "its whole way")));
  });
  return panel("Its way", {}, slot);
}
