// The list of dead letters: filtered, paged, with a selection.

import { api, Problem } from "./api.js";
import { bulk } from "./bulk.js";
import { announce, h, replace, table } from "./dom.js";
import { absolute, FILTER, filterOf, num, plural, REASONS, STATES } from "./format.js";
import { button, empty, note, reasonTag, stateTag, tag, when } from "./parts.js";
import { go, to } from "./router.js";

const PAGE = 50;
const CALLS = 5; // a page that must search is filled with at most so many calls

export const items = {
  title: () => "Dead letters",
  what: "dead letters",

  async load({ params, signal }) {
    const filter = filterOf(params);
    const [{ sinks }, page, delivery] = await Promise.all([api.sinks(signal), pageOf(filter, params.get("cursor"), signal), deliveryOf(filter, signal)]);
    return { filter, page, sinks, delivery };
  },

  show(content, { filter, page, sinks, delivery }, view) {
    const selected = new Map();
    const bar = h("div", { class: "selection" });
    const names = sinks.filter((s) => s.configured && !s.config_error).map((s) => s.name);
    const act = (action, verb, scope, key) => button(verb, () => bulk({ action, scope, sinks: names, ondone: view.reload }), { kind: "quiet", key });
    const boxes = page.items.map((it) => h("input", {
      type: "checkbox", "aria-label": `Select ${it.message.subject || it.delivery_id || it.id}`,
      onchange: (e) => { if (e.target.checked) selected.set(it.id, it); else selected.delete(it.id); changed(); },
    }));
    const all = h("input", {
      type: "checkbox", "aria-label": "Select all on this page",
      onchange: () => {
        boxes.forEach((b, i) => { b.checked = all.checked; if (all.checked) selected.set(page.items[i].id, page.items[i]); else selected.delete(page.items[i].id); });
        changed();
      },
    });
    const changed = () => {
      all.checked = selected.size === boxes.length;
      all.indeterminate = selected.size > 0 && !all.checked;
      const scope = { ids: [...selected.keys()] };
      replace(bar, selected.size > 0
        ? [h("strong", {}, `${num(selected.size)} selected`), h("span", { class: "buttons" },
          act("replay", "Replay selected…", scope, "replay-selected"), act("unpark", "Unpark selected…", scope, "unpark-selected"), act("discard", "Discard selected…", scope, "discard-selected"))]
        : filter.state ? h("span", { class: "muted" }, "Select what to act on: a state changes meanwhile.")
        : [h("span", { class: "muted" }, Object.keys(filter).length ? "All that match:" : "All dead letters:"), h("span", { class: "buttons" },
          act("replay", "Replay all…", { filter }, "replay-all"), act("unpark", "Unpark all…", { filter }, "unpark-all"), act("discard", "Discard all…", { filter }, "discard-all"))]);
      if (selected.size) announce(`${num(selected.size)} selected`);
    };
    changed();

    const columns = [
      { name: "Select", label: all, class: "select", bare: true }, { name: "Failed" }, { name: "Message", head: true, class: "message" }, { name: "Sink" }, { name: "Reason" },
      { name: "Attempts", class: "n" }, { name: "State" },
    ];
    replace(content,
      filterForm(filter, sinks),
      delivery && deliveryNote(delivery),
      h("div", { class: "above" },
        h("p", { class: "status", tabindex: "-1", "data-focus": "" }, status(page, view.params.get("cursor"))),
        page.items.length > 0 && bar),
      page.items.length > 0
        ? h("div", { class: "panel" }, table("Dead letters, newest first", columns, page.items.map((it, i) => ({ cells: row(it, boxes[i]) }))))
        : page.next ? empty("Nothing found so far.", "The search stopped by its budget; go on below.")
          : Object.keys(filter).length ? empty("No dead letter matches this filter.", h("a", { href: "#/items" }, "Show all"))
            : empty("No dead letters.", "Everything was delivered, replayed or discarded."),
      pager(page, filter, view.params.get("cursor")));
  },
};

// pageOf fetches a page, following the cursor while a search gives short pages.
async function pageOf(filter, cursor, signal) {
  const out = { items: [], next: cursor, complete: false, scanned: 0 };
  for (let i = 0; i < CALLS && !out.complete && out.items.length < PAGE; i++) {
    const page = await api.items({ ...filter, limit: PAGE - out.items.length, cursor: out.next }, signal);
    out.items.push(...page.items);
    out.scanned += page.scanned;
    out.next = page.next_cursor;
    out.complete = page.complete || !out.next;
  }
  return out;
}

// deliveryOf asks what became of a delivery when the filter names one.
async function deliveryOf(filter, signal) {
  if (!filter.sink || !filter.delivery_id) return null;
  try {
    return await api.delivery(filter.sink, filter.delivery_id, signal);
  } catch (err) {
    if (err instanceof Problem && !err.outage) return null;
    throw err;
  }
}

function deliveryNote(d) {
  const words = {
    accepting: "is being accepted", accepted: "is in the queue", in_progress: "is under way", delivered: "was delivered", dead_lettered: "is a dead letter",
    expired: "expired", discarded: "was discarded", canceled: "was canceled",
  };
  return note(d.status === "delivered" ? "good" : "", `Delivery ${d.delivery_id} to ${d.sink} `, h("strong", {}, words[d.status] ?? d.status),
    d.updated_at && [": ", when(d.updated_at)], ". ", d.item_id && [h("a", { href: to(["items", d.item_id]) }, "Open"), " · "],
    h("a", { href: to(["deliveries"], { sink: d.sink, id: d.delivery_id }) }, "Its whole way"));
}

function status(page, cursor) {
  const n = plural(page.items.length, "dead letter");
  const which = cursor ? `${n} on this page, newest first.` : page.next && page.items.length ? `The newest ${n}.` : `${n}, newest first.`;
  const searched = page.scanned > page.items.length ? ` ${num(page.scanned)} entries were searched.` : "";
  const more = page.next ? (page.complete ? "There are older ones." : "The search stopped by its budget: there may be older ones.") : cursor ? "These are the oldest." : "That is all.";
  return `${which}${searched} ${more}`;
}

function pager(page, filter, cursor) {
  if (!page.next && !cursor) return null;
  return h("nav", { class: "pager", "aria-label": "Pages" },
    cursor && h("a", { href: to(["items"], filter) }, "Newest"),
    page.next && h("a", { href: to(["items"], { ...filter, cursor: page.next }) }, page.complete ? "Older" : "Search further"));
}

function row(it, box) {
  const subject = it.message.subject || it.message.body_preview || it.delivery_id || it.id;
  return [
    box,
    when(it.at, { stacked: true }),
    h("span", { class: "stacked" },
      h("span", {}, h("a", { href: to(["items", it.id]), "data-key": `item ${it.id}` }, h("bdi", {}, subject)),
        it.delivery_id && h("small", { class: "muted" }, ` ${it.delivery_id}`)),
      h("small", { class: "error" }, it.decode_error ? `unreadable: ${it.decode_error}` : it.last_error || "no error text")),
    it.sink,
    reasonTag(it.reason),
    h("span", { title: "attempts before it became a dead letter, and replays since" }, num(it.attempts), it.replays ? h("small", { class: "muted" }, ` + ${plural(it.replays, "replay")}`) : null),
    stateTag(it),
  ];
}

// local is a time as a datetime-local field wants it.
function local(iso) {
  const t = iso ? new Date(iso) : null;
  return t && !Number.isNaN(t.getTime()) ? absolute(t).replace(" ", "T") : "";
}

function filterForm(filter, sinks) {
  const field = (name, input) => h("label", {}, FILTER[name], input);
  const input = (name, props) => h("input", { name, value: filter[name] ?? "", autocomplete: "off", spellcheck: "false", maxlength: "1000", ...props });
  const option = (value, label, chosen) => h("option", { value, selected: value === (chosen ?? "") }, label);
  const names = new Set(sinks.map((s) => s.name));
  if (filter.sink) names.add(filter.sink);
  const sink = h("select", { name: "sink" }, option("", "any", filter.sink), [...names].sort().map((n) => option(n, n, filter.sink)));
  const reason = h("select", { name: "reason" }, option("", "any", filter.reason), Object.keys(REASONS).map((r) => option(r, r, filter.reason)));
  const state = h("select", { name: "state" }, option("", "any", filter.state), Object.keys(STATES).map((s) => option(s, s, filter.state)));
  const since = input("since", { type: "datetime-local", step: "1", value: local(filter.since) });
  const until = input("until", { type: "datetime-local", step: "1", value: local(filter.until) });
  const more = ["delivery_id", "since", "until", "fingerprint"].some((n) => filter[n]);
  const apply = (form) => {
    const next = {};
    for (const [name, value] of new FormData(form)) {
      if (!value.trim()) continue;
      // A time that was not touched keeps its fractions.
      if (name === "since" || name === "until") next[name] = value === local(filter[name]) ? filter[name] : new Date(value).toISOString();
      else next[name] = name === "q" || name === "fingerprint" ? value : value.trim();
    }
    go(["items"], next);
  };
  return h("form", { class: "filter panel", role: "search", "aria-label": "Filter", onsubmit: (e) => { e.preventDefault(); apply(e.target); } },
    h("div", { class: "fields" },
      field("q", input("q", { type: "search", placeholder: "in subject, body, recipient, delivery id, error" })),
      field("sink", sink), field("state", state), field("reason", reason),
      h("div", { class: "buttons" }, h("button", { type: "submit", class: "primary" }, "Apply"), Object.keys(filter).length > 0 && h("a", { href: "#/items" }, "Clear"))),
    h("details", { open: more }, h("summary", {}, "Delivery id, time, cause"),
      h("div", { class: "fields" }, field("delivery_id", input("delivery_id")), field("since", since), field("until", until),
        field("fingerprint", input("fingerprint", { placeholder: "as in the overview's causes" })))),
    Object.keys(filter).length > 0 && h("div", { class: "chips", role: "group", "aria-label": "Filters in use" }, Object.keys(filter).map((n) =>
      h("a", { class: "chip", href: to(["items"], { ...filter, [n]: "" }) }, h("span", { class: "hidden" }, "Remove the filter "), tag(FILTER[n].toLowerCase()), " ", n === "since" || n === "until" ? local(filter[n]).replace("T", " ") : filter[n],
        h("span", { "aria-hidden": "true" }, " ×")))));
}
