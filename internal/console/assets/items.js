// The list of dead letters: filtered, paged, with a selection.

import { api, Problem } from "./api.js";
import { bulk } from "./bulk.js";
import { announce, focusKey, h, replace, table } from "./dom.js";
import { fieldTime, FILTER, filterOf, metaOf, num, plural, REASONS, STATES, timeOfField, valueText, zone } from "./format.js";
import { causeText } from "./histogram.js";
import { button, empty, note, problemBox, reasonTag, stateTag, tag, when } from "./parts.js";
import { go, to } from "./router.js";
import { replayOne } from "./single.js";

const NARROW = matchMedia("(max-width: 760px)"); // where rows are cards
const page = () => (NARROW.matches ? 20 : 50);
const MOST = 500; // rows that are shown at once; older ones are on a page of their own
const CALLS = 5; // what must search is filled with at most so many calls

export const items = {
  title: () => "Dead letters",
  what: "dead letters",

  async load({ params, signal }) {
    const filter = filterOf(params), cursor = params.get("cursor");
    const rows = Math.min(MOST, Math.max(page(), Number(params.get("rows")) || 0));
    const [{ sinks }, found, delivery] = await Promise.all([api.sinks(signal), pageOf(filter, cursor, rows, signal).catch(refused), deliveryOf(filter, signal)]);
    return { filter, cursor, found, sinks, delivery, selected: new Map() };
  },

  show(content, data, view) {
    const { filter, cursor, found, sinks, delivery, selected } = data;
    const bar = h("div", { class: "selection" });
    const names = sinks.filter((s) => s.configured && !s.config_error).map((s) => s.name);
    const act = (action, verb, scope, key) => button(verb, () => bulk({ action, scope, sinks: names, ondone: view.reload }), { kind: "quiet", key });
    const select = (i, on) => {
      boxes[i].checked = on;
      if (on) selected.set(found.items[i].id, found.items[i]);
      else selected.delete(found.items[i].id);
    };
    const boxes = found.items.map((it, i) => h("input", {
      type: "checkbox", checked: selected.has(it.id), "aria-label": `Select ${it.message.subject || it.delivery_id || it.id}`, "data-key": `select ${it.id}`,
      onchange: (e) => { select(i, e.target.checked); changed(); },
    }));
    const all = h("input", {
      type: "checkbox", "aria-label": "Select all on this page", "data-key": "select-all",
      onchange: () => { boxes.forEach((_, i) => select(i, all.checked)); changed(); },
    });
    const changed = () => {
      all.checked = selected.size > 0 && selected.size === boxes.length;
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

    const more = async (e) => {
      const { length } = found.items;
      e.target.disabled = true;
      try {
        const older = await pageOf(filter, found.next, Math.min(page(), MOST - length), view.signal);
        older.items = [...found.items, ...older.items];
        older.scanned += found.scanned;
        data.found = older;
        view.params.set("rows", older.items.length);
        history.replaceState(null, "", to(["items"], { ...filter, cursor, rows: older.items.length })); // whoever comes back finds them
        items.show(content, data, view);
        focusKey(older.items.length > length ? `item ${older.items[length].id}` : "more");
        announce(status(older, cursor));
      } catch (err) {
        if (!view.signal.aborted) e.target.replaceWith(problemBox(err, view.reload));
      }
    };

    const columns = [
      { name: "Select", label: all, class: "select", bare: true }, { name: "Failed" }, { name: "Message", head: true, class: "message" }, { name: "Sink" }, { name: "Reason" },
      { name: "Attempts", class: "n" }, { name: "State" },
    ];
    const replay = (e) => { // a key asks for a row
      const it = found.items[[...e.currentTarget.querySelectorAll("tbody tr")].indexOf(e.target)];
      if (it && !it.decode_error) replayOne(it, null, names, view.reload);
    };
    if (found.problem) {
      replace(content, filterForm(filter, sinks), problemBox(found.problem));
      return;
    }
    replace(content,
      filterForm(filter, sinks),
      delivery && deliveryNote(delivery),
      h("div", { class: "above" },
        h("p", { class: "status", tabindex: "-1", "data-focus": "" }, status(found, cursor)),
        found.items.length > 0 && bar),
      found.items.length > 0
        ? h("div", { class: "panel", onreplay: replay }, table("Dead letters, newest first", columns, found.items.map((it, i) => ({ cells: row(it, boxes[i]) }))))
        : found.next ? empty("Nothing found so far.", "The search stopped by its budget; go on below.")
          : Object.keys(filter).length ? empty("No dead letter matches this filter.", h("a", { href: "#/items" }, "Show all"))
            : empty("No dead letters.", "Everything was delivered, replayed or discarded."),
      pager(found, filter, cursor, more));
  },
};

// refused keeps a refusal of what the filter says: beside the filter it can be put right.
function refused(err) {
  if (!(err instanceof Problem) || err.status !== 400) throw err;
  return { items: [], next: null, complete: true, scanned: 0, problem: err };
}

// pageOf fetches some of the list, following the cursor while a search gives short pages.
async function pageOf(filter, cursor, rows, signal) {
  const out = { items: [], next: cursor, complete: false, scanned: 0 };
  for (let i = 0; i < CALLS && !out.complete && out.items.length < rows; i++) {
    const got = await api.items({ ...filter, limit: rows - out.items.length, cursor: out.next }, signal);
    out.items.push(...got.items);
    out.scanned += got.scanned;
    out.next = got.next_cursor;
    out.complete = got.complete || !out.next;
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

function status(found, cursor) {
  const n = plural(found.items.length, "dead letter");
  const which = cursor ? `${n} on this page, newest first.` : found.next && found.items.length ? `The newest ${n}.` : `${n}, newest first.`;
  const searched = found.scanned > found.items.length ? ` ${num(found.scanned)} entries were searched.` : "";
  const more = found.next ? (found.complete ? "There are older ones." : "The search stopped by its budget: there may be older ones.") : cursor ? "These are the oldest." : "That is all.";
  return `${which}${searched} ${more}`;
}

// pager leads to older ones: below what is shown, until that is a lot.
function pager(found, filter, cursor, more) {
  if (!found.next && !cursor) return null;
  const full = found.items.length >= MOST;
  return h("nav", { class: "pager", "aria-label": "Pages" },
    cursor && h("a", { href: to(["items"], filter) }, "Newest"),
    found.next && full && h("a", { href: to(["items"], { ...filter, cursor: found.next }) }, "Older"),
    found.next && !full && button(found.complete ? `Load ${num(Math.min(page(), MOST - found.items.length))} more` : "Search further", more, { key: "more" }));
}

function row(it, box) {
  const subject = it.message.subject || it.message.body_preview || it.delivery_id || it.id;
  return [
    box,
    when(it.at, { stacked: true }),
    h("span", { class: "stacked" },
      h("span", {}, h("a", { href: to(["items", it.id]), "data-key": `item ${it.id}` }, h("bdi", {}, subject)),
        it.delivery_id && h("small", { class: "muted" }, ` ${it.delivery_id}`)),
      h("small", { class: "error" }, it.decode_error ? `unreadable: ${it.decode_error}` : causeText(it.last_error || "") || "no error text")),
    it.sink,
    reasonTag(it.reason),
    h("span", { title: "attempts before it became a dead letter, and replays since" }, num(it.attempts), it.replays ? h("small", { class: "muted" }, ` + ${plural(it.replays, "replay")}`) : null),
    stateTag(it),
  ];
}

function filterForm(filter, sinks) {
  const field = (name, input, label = FILTER[name]) => h("label", {}, label, input);
  const input = (name, props) => h("input", { name, value: filter[name] ?? "", autocomplete: "off", spellcheck: "false", maxlength: "1000", ...props });
  const option = (value, label, chosen) => h("option", { value, selected: value === (chosen ?? "") }, label);
  const names = new Set(sinks.map((s) => s.name));
  if (filter.sink) names.add(filter.sink);
  const sink = h("select", { name: "sink" }, option("", "any", filter.sink), [...names].sort().map((n) => option(n, n, filter.sink)));
  const reason = h("select", { name: "reason" }, option("", "any", filter.reason), Object.keys(REASONS).map((r) => option(r, r, filter.reason)));
  const state = h("select", { name: "state" }, option("", "any", filter.state), Object.keys(STATES).map((s) => option(s, s, filter.state)));
  const time = (name) => field(name, input(name, { type: "datetime-local", step: "1", value: fieldTime(filter[name]) }), `${FILTER[name]} (${zone()})`);
  const more = ["meta", "delivery_id", "since", "until", "fingerprint"].some((n) => filter[n]);
  const apply = (form) => {
    const next = {};
    for (const [name, value] of new FormData(form)) {
      if (!value.trim()) continue;
      // A time that was not touched keeps its fractions.
      if (name === "since" || name === "until") next[name] = timeOfField(value) === timeOfField(fieldTime(filter[name])) ? filter[name] : timeOfField(value);
      else if (name === "meta") next.meta = { ...filter.meta, ...metaOf([value]) };
      else next[name] = name === "q" || name === "fingerprint" ? value : value.trim();
    }
    go(["items"], { ...(filter.meta && { meta: filter.meta }), ...next });
  };
  return h("form", { class: "filter panel", role: "search", "aria-label": "Filter", onsubmit: (e) => { e.preventDefault(); apply(e.target); } },
    h("div", { class: "fields" },
      field("q", input("q", { type: "search", placeholder: "in subject, body, recipient, delivery id, error" })),
      field("sink", sink), field("state", state), field("reason", reason),
      h("div", { class: "buttons" }, h("button", { type: "submit", class: "primary" }, "Apply"), Object.keys(filter).length > 0 && h("a", { href: "#/items" }, "Clear"))),
    filter.group && h("input", { type: "hidden", name: "group", value: filter.group }),
    h("details", { open: more }, h("summary", { "data-key": "more-filters" }, "Metadata, delivery id, time, cause"),
      h("div", { class: "fields" },
        field("meta", input("meta", { value: "", placeholder: "tenant=t3", pattern: "[^=]+=.*", title: "key=value, exactly as it is in the message" })),
        field("delivery_id", input("delivery_id")), time("since"), time("until"),
        field("fingerprint", input("fingerprint", { placeholder: "as in the overview's causes" })))),
    chips(filter));
}

// chips are the filters in use; each takes itself away.
function chips(filter) {
  const without = (...names) => Object.fromEntries(Object.entries(filter).filter(([n]) => !names.includes(n)));
  const both = filter.since && filter.until;
  const all = Object.keys(filter).flatMap((n) => {
    if (n === "meta") {
      return Object.entries(filter.meta).map(([k, v]) => ({ name: "metadata", value: `${k}=${v}`, left: { ...filter, meta: Object.fromEntries(Object.entries(filter.meta).filter(([key]) => key !== k)) } }));
    }
    if (both && n === "since") return [{ name: "time", value: `${valueText("since", filter.since)} to ${valueText("until", filter.until)}`, left: without("since", "until") }];
    if (both && n === "until") return [];
    return [{ name: FILTER[n].toLowerCase(), value: valueText(n, filter[n]), left: without(n) }];
  });
  return all.length > 0 && h("div", { class: "chips", role: "group", "aria-label": "Filters in use" }, all.map(({ name, value, left }) =>
    h("a", { class: "chip", href: to(["items"], left) }, h("span", { class: "hidden" }, "Remove the filter "), tag(name), " ", value, h("span", { "aria-hidden": "true" }, " ×"))));
}
