// When dead letters came: the chart of the overview, by sink, cause or reason.

import { api, Problem } from "./api.js";
import { asTable, chart } from "./chart.js";
import { h } from "./dom.js";
import { num, relative } from "./format.js";
import { empty, panel, when } from "./parts.js";
import { go, to } from "./router.js";

const HOUR = 3600_000;

// RANGES are the times that can be looked at.
export const RANGES = {
  "1h": { label: "1 hour", last: "hour", ms: HOUR, interval: "5m", step: HOUR / 12 },
  "6h": { label: "6 hours", last: "6 hours", ms: 6 * HOUR, interval: "15m", step: HOUR / 4 },
  "24h": { label: "24 hours", last: "24 hours", ms: 24 * HOUR, interval: "1h", step: HOUR },
  "7d": { label: "7 days", last: "7 days", ms: 168 * HOUR, interval: "6h", step: 6 * HOUR },
  "30d": { label: "30 days", last: "30 days", ms: 720 * HOUR, interval: "1d", step: 24 * HOUR },
};

const BY = { sink: "Sink", group: "Cause", reason: "Reason" };
const SHOWN = 6; // series with a colour of their own; the others are one

// OTHER is the group of what is in no group of its own; no filter selects it.
export const OTHER = "(other)";

// causeText is a cause without the code that nearly all of them begin with.
export const causeText = (fingerprint) => fingerprint.replace(/^(SINK_UNAVAILABLE|NOT_ATTEMPTED): /, "");

// chosenOf is what the address chooses: {range, by}.
export function chosenOf(params) {
  const of = (all, name, without) => (Object.hasOwn(all, params.get(name) ?? "") ? params.get(name) : without);
  return { range: of(RANGES, "range", "24h"), by: of(BY, "by", "sink") };
}

// histogram fetches what the overview draws; null: this API keeps none.
export async function histogram(by, range, now, signal) {
  const { ms, interval, step } = RANGES[range];
  try {
    return await api.histogram({ by, interval, since: new Date(now - ms + step).toISOString() }, signal); // the last bar is of now
  } catch (err) {
    if (err instanceof Problem && err.status === 404) return null;
    throw err;
  }
}

// filterOfSeries selects a series' dead letters; null: no filter does.
function filterOfSeries(x, by) {
  if (x.other || x.fingerprint === OTHER) return null;
  return by === "group" ? { sink: x.sink, reason: x.reason, fingerprint: x.fingerprint } : by === "reason" ? { reason: x.reason } : { sink: x.sink };
}

function nameOf(x, by) {
  if (x.other) return "others";
  if (x.fingerprint === OTHER) return by === "group" ? `in no group, ${x.sink}` : "without a reason";
  return by === "group" ? causeText(x.fingerprint) : by === "reason" ? x.reason : x.sink;
}

// seriesOf are the series to draw, the largest first; what has no colour of its own is one.
function seriesOf(hist) {
  const some = hist.series.filter((x) => x.arrived_total > 0 || x.count > 0);
  const own = some.slice(0, some.length > SHOWN + 1 ? SHOWN : SHOWN + 1).filter((x) => !x.other);
  const rest = some.filter((x) => !own.includes(x));
  const out = own.map((x, i) => ({ ...x, name: nameOf(x, hist.by), filter: filterOfSeries(x, hist.by), tone: `s${i}` }));
  if (rest.length === 0) return out;
  const added = (name) => hist.buckets.map((_, i) => rest.reduce((n, x) => n + x[name][i], 0));
  const times = (name) => rest.map((x) => x[name]).filter(Boolean).sort();
  out.push({
    name: `${rest.some((x) => x.other) ? "all" : rest.length} others`, filter: null, tone: "rest", counts: added("counts"), arrived: added("arrived"),
    count: rest.reduce((n, x) => n + x.count, 0), arrived_total: rest.reduce((n, x) => n + x.arrived_total, 0), first_seen: times("first_seen")[0], last_seen: times("last_seen").at(-1),
  });
  return out;
}

// choice is a row of links of which one is chosen.
export function choice(label, all, chosen, place, key) {
  return h("nav", { class: "ranges", "aria-label": label }, Object.entries(all).map(([value, name]) =>
    h("a", { href: place(value), "aria-current": value === chosen ? "true" : null, "data-key": `${key}-${value}` }, name)));
}

// placeOf is the overview with another choice.
export const placeOf = (params, change) => to([], { ...Object.fromEntries(params), ...change });

// overTime is the panel with the chart.
export function overTime({ hist, range, by }, view) {
  const { params, memory } = view;
  const actions = h("div", { class: "choices" },
    choice("What the chart tells apart", Object.fromEntries(Object.entries(BY).map(([k, name]) => [k, `By ${name.toLowerCase()}`])), by, (v) => placeOf(params, { by: v }), "by"),
    choice("Time range", Object.fromEntries(Object.entries(RANGES).map(([k, r]) => [k, r.label])), range, (v) => placeOf(params, { range: v }), "range"));
  const title = "Over time";
  if (!hist) return panel(title, {}, empty("This API counts nothing over time.", "It is older than this console."));
  const series = seriesOf(hist);
  if (series.length === 0) return panel(title, { actions }, empty(`No dead letter came in the last ${RANGES[range].last}.`));
  const chosen = (time) => to(["items"], { ...(series.length === 1 ? series[0].filter : {}), ...time });
  const gone = hist.arrived_total - hist.count;
  return panel(title, { actions },
    h("p", {}, h("strong", {}, `${num(hist.arrived_total)} came`), ` in the last ${RANGES[range].last}, ${num(hist.count)} of them ${hist.count === 1 ? "is" : "are"} still there.`,
      hist.first_seen && [" Began at ", when(hist.first_seen), ","], hist.last_seen && [" last at ", when(hist.last_seen), "."]),
    chart(hist, series, {
      label: `Dead letters over time, by ${BY[by].toLowerCase()}`, memory, link: chosen,
      open: (time) => go(["items"], { ...(series.length === 1 ? series[0].filter : {}), ...time }),
    }),
    legend(series, gone),
    h("details", { open: memory.asTable, ontoggle: (e) => { memory.asTable = e.target.open; } }, h("summary", { "data-key": "as-table" }, `As a table, one row per ${hist.interval}`), asTable(hist, series)));
}

function legend(series, gone) {
  return h("ul", { class: "legend", "aria-label": "What the chart shows" }, series.map((x) => h("li", {},
    swatch(x.tone), " ", x.filter ? h("a", { href: to(["items"], x.filter), "data-key": `legend ${x.name}`, title: x.fingerprint || null }, x.name) : h("span", {}, x.name),
    " ", h("strong", {}, num(x.count)), " ", h("small", { class: "muted" }, sinceLast(x)))),
  gone > 0 && h("li", {}, swatch("gone"), " gone since ", h("strong", {}, num(gone)), " ", h("small", { class: "muted" }, "replayed or discarded")));
}

const swatch = (tone) => h("span", { class: `swatch ${tone}`, "aria-hidden": "true" });

// sinceLast says for how long a series fails, and when it did last.
function sinceLast(x) {
  return [x.first_seen && `began ${relative(new Date(x.first_seen))}`, x.last_seen && `last ${relative(new Date(x.last_seen))}`].filter(Boolean).join(", ");
}
