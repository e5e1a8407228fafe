// The causes: what went wrong, since when and how often of late, what was noted about it, and
// what can be done about all of one.

import { api } from "./api.js";
import { bulk } from "./bulk.js";
import { spark } from "./chart.js";
import { announce, h, table } from "./dom.js";
import { num, plural, relative } from "./format.js";
import { causeText, choice, OTHER, placeOf, RANGES } from "./histogram.js";
import { button, empty, panel, reasonTag, tag, whenShort } from "./parts.js";
import { to } from "./router.js";
import { ask } from "./single.js";

const AT_ONCE = 25; // rows, and how many more are shown when asked
const NEW = { "1h": "1 hour", "24h": "24 hours", "7d": "7 days" };

// causes is the panel with the groups of dead letters.
export function causes({ groups: { groups, complete }, sinks: { sinks }, byGroup, range, now }, view) {
  if (groups.length === 0) return panel("Causes", {}, empty("No dead letters.", "What cannot be delivered shows up here, grouped by what went wrong."));
  const chosen = Object.hasOwn(NEW, view.params.get("new") ?? "") ? view.params.get("new") : "24h";
  const isNew = (g) => g.first_seen && now - Date.parse(g.first_seen) < RANGES[chosen].ms;
  const fresh = groups.filter(isNew).length;
  const names = sinks.filter((s) => s.configured && !s.config_error).map((s) => s.name);
  const most = Math.max(...groups.map((g) => g.count));
  const shown = groups.slice(0, view.memory.causes ??= AT_ONCE);
  const columns = [
    { name: "Count", class: "n" }, { name: "Cause", head: true, class: "cause" }, { name: `Last ${RANGES[range].last}`, class: "spark" }, { name: "Seen", class: "seen" },
    { name: "Actions", hidden: true, class: "actions" },
  ];
  return panel("Causes", {
    actions: h("div", { class: "choices" }, h("span", { class: "muted small" }, fresh ? `${num(fresh)} of ${num(groups.length)} new since` : "None new since"),
      choice("A cause is new that was first seen within", NEW, chosen, (v) => placeOf(view.params, { new: v }), "new")),
  },
  table("Dead letters by cause, largest group first", columns, shown.map((g) => ({
    class: g.note?.acknowledged ? "calm" : null,
    cells: [
      h("span", { class: "share" }, num(g.count), h("progress", { class: "share-bar", max: 1, value: g.count / most, "aria-hidden": "true" })),
      cause(g, isNew(g) && chosen),
      trend(g, byGroup, range),
      seen(g),
      actions(g, names, view),
    ],
  }))),
  groups.length > shown.length && h("p", { class: "more" }, button(`Show ${num(Math.min(AT_ONCE * 4, groups.length - shown.length))} more of ${num(groups.length)}`,
    () => { view.memory.causes += AT_ONCE * 4; view.reload(); }, { kind: "link", key: "more-causes" })),
  !complete && h("p", { class: "muted small" }, "There are more groups than an answer holds; the smallest are left out."));
}

// labelOf names a group where a button is read out.
const labelOf = (g) => `${causeText(g.fingerprint)}, ${g.sink}`;

const nameless = (g) => g.fingerprint === OTHER || g.fingerprint === "";

const filterOf = (g) => ({ sink: g.sink, reason: g.reason, fingerprint: g.fingerprint });

function cause(g, fresh) {
  return h("div", {},
    nameless(g) ? h("span", { class: "muted" }, g.fingerprint === OTHER ? "in no group of their own" : "without an error text")
      : h("a", { href: to(["items"], filterOf(g)), "data-key": `cause ${labelOf(g)}`, title: g.fingerprint }, h("code", {}, causeText(g.fingerprint))),
    h("div", { class: "under" },
      h("a", { href: to(["items"], { sink: g.sink }), "data-key": `of ${labelOf(g)}` }, g.sink), reasonTag(g.reason),
      fresh && tag("new", "run", `First seen within ${NEW[fresh]}`),
      g.sample && h("a", { href: to(["items", g.sample]), "data-key": `newest ${labelOf(g)}`, "aria-label": `Newest of ${labelOf(g)}` }, "newest")),
    g.note && h("p", { class: "noted" }, g.note.acknowledged && [tag("acknowledged", "good", "Somebody knows and cares for it."), " "], h("bdi", {}, g.note.note), " ",
      h("small", { class: "muted" }, `${g.note.by ? `${g.note.by}, ` : ""}${relative(new Date(g.note.at))}`)));
}

// trend is when they came, small, and how many of late.
function trend(g, hist, range) {
  const series = hist?.series.find((x) => (g.id ? x.id === g.id : x.sink === g.sink && x.reason === g.reason && x.fingerprint === g.fingerprint));
  return h("div", { class: "trend" },
    series?.arrived_total > 0 && spark(hist, series, `${num(series.arrived_total)} came in the last ${RANGES[range].last}, ${num(series.count)} are still there`),
    g.last_hour !== undefined && h("small", { class: "muted" }, `${num(g.last_hour)} in 1 h · ${num(g.last_day)} in 24 h`));
}

function seen(g) {
  if (!g.first_seen && !g.last_seen) return h("span", { class: "muted" }, "–");
  const line = (word, iso) => iso && h("span", {}, h("span", { class: "muted" }, `${word} `), whenShort(iso));
  return h("span", { class: "stacked" }, line("first", g.first_seen), line("last", g.last_seen));
}

function actions(g, names, view) {
  if (nameless(g)) return null;
  const label = labelOf(g);
  const act = (action, verb) => button(verb, () => bulk({ action, scope: { filter: filterOf(g) }, sinks: names, ondone: view.reload }),
    { kind: "quiet", key: `${action} ${label}`, describe: `${verb.replace("…", "")} ${plural(g.count, "dead letter")}: ${label}` });
  return h("span", { class: "buttons" }, act("replay", "Replay…"), act("discard", "Discard…"),
    g.id && button("Note…", () => noteGroup(g, view.reload), { kind: "quiet", key: `note ${label}`, describe: `Note: ${label}` }));
}

// noteGroup asks what to note about a cause.
function noteGroup(g, ondone) {
  const text = h("textarea", { class: "prose", name: "note", rows: "3", maxlength: "2000", "data-focus": "" }, g.note?.note ?? "");
  text.addEventListener("focus", () => text.setSelectionRange(text.value.length, text.value.length), { once: true }); // one goes on writing
  const acknowledged = h("input", { type: "checkbox", name: "acknowledged", checked: g.note?.acknowledged ?? true });
  ask({
    title: "Note about a cause",
    text: [
      h("p", {}, h("code", {}, causeText(g.fingerprint)), ` in ${g.sink}`),
      h("p", { class: "muted" }, "It is kept with the queue, with your name and the time, for everybody who looks at this cause. Empty and not acknowledged: it is taken away."),
      g.note && h("p", { class: "muted" }, `Last noted ${g.note.by ? `by ${g.note.by}, ` : ""}${relative(new Date(g.note.at))}.`),
    ].filter(Boolean),
    fields: [h("label", {}, "Note", text), h("label", { class: "check" }, acknowledged, " Acknowledge: somebody knows, and cares for it")],
    label: "Save", again: true, ondone,
    act: async (signal) => {
      const now = await api.noteGroup(g.id, { note: text.value.trim(), acknowledged: acknowledged.checked }, signal);
      announce(now.note ? "Noted." : "The note is gone.");
      return null;
    },
  });
}
