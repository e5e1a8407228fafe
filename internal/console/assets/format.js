// Numbers, times and filters in words.

import { utc } from "./settings.js";

const numbers = new Intl.NumberFormat();

export const num = (n) => numbers.format(n);

// plural is a number with its noun.
export const plural = (n, noun) => `${num(n)} ${noun}${n === 1 ? "" : "s"}`;

// span is a duration in seconds in its largest unit.
export function span(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} d`;
}

// relative is when t was, or will be.
export function relative(t, now = Date.now()) {
  const s = (now - t.getTime()) / 1000;
  return s >= 0 ? `${span(s)} ago` : `in ${span(-s)}`;
}

const two = (n) => String(n).padStart(2, "0");

// clock is hours and minutes, in the zone that is chosen.
export const clock = (t, inUTC = utc.on) => inUTC ? `${two(t.getUTCHours())}:${two(t.getUTCMinutes())}` : `${two(t.getHours())}:${two(t.getMinutes())}`;

// day is the date, likewise.
export const day = (t, inUTC = utc.on) => inUTC ? `${t.getUTCFullYear()}-${two(t.getUTCMonth() + 1)}-${two(t.getUTCDate())}`
  : `${t.getFullYear()}-${two(t.getMonth() + 1)}-${two(t.getDate())}`;

const names = new Intl.DateTimeFormat("en", { timeZoneName: "short" });

// zone is the name of the zone of clock and day at a time.
export const zone = (t = new Date(), inUTC = utc.on) => inUTC ? "UTC" : names.formatToParts(t).find((p) => p.type === "timeZoneName")?.value ?? "local time";

// absolute is date, time and zone.
export const absolute = (t, inUTC = utc.on) => `${day(t, inUTC)} ${clock(t, inUTC)}:${two(t.getSeconds())} ${zone(t, inUTC)}`;

// fieldTime is a time as a field of date and time has it, and timeOfField the time that one has;
// both are empty where there is none.
export function fieldTime(iso) {
  const t = iso ? new Date(iso) : null;
  return t && !Number.isNaN(t.getTime()) ? `${day(t)}T${clock(t)}:${two(t.getSeconds())}` : "";
}

export function timeOfField(value) {
  const t = value ? new Date(utc.on ? `${value}Z` : value) : null;
  return t && !Number.isNaN(t.getTime()) ? t.toISOString() : "";
}

// gap is the time between two things that happened, or that will.
export function gap(from, to) {
  const ms = to - from;
  if (ms < 1000) return `${Math.max(0, ms)} ms`;
  const s = Math.floor(ms / 1000);
  if (s < 60) return `${s} s`;
  const [large, small, each] = s < 3600 ? ["min", "s", 60] : s < 86400 ? ["h", "min", 3600] : ["d", "h", 86400];
  const rest = Math.floor((s % each) / (each === 60 ? 1 : each === 3600 ? 60 : 3600));
  return `${Math.floor(s / each)} ${large}${rest ? ` ${rest} ${small}` : ""}`;
}

// bytes is a size for people.
export function bytes(n) {
  if (n < 1024) return `${n} B`;
  if (n < 1024 * 1024) return `${(n / 1024).toFixed(1)} KiB`;
  return `${(n / 1024 / 1024).toFixed(1)} MiB`;
}

// FILTER names the members of a filter, in the order in which they are shown.
export const FILTER = {
  sink: "Sink", state: "State", reason: "Reason", q: "Text", meta: "Metadata", delivery_id: "Delivery id", group: "Group", fingerprint: "Cause", since: "Since", until: "Before",
};

// REASONS are the reasons of dead letters, with what they mean.
export const REASONS = {
  exhausted: "The last allowed attempt failed; it may pass.",
  terminal: "No further attempt can cure it. The schedule does not replay it.",
  ambiguous: "It was sent and no answer came; sending again may duplicate. The schedule does not replay it.",
  deadline: "No time was left for another attempt.",
  canceled: "The caller went away.",
  config: "The sink is configured wrongly.",
  invalid: "The message can never be sent as it is. The schedule does not replay it.",
  open: "The receiver is down and left alone.",
  throttled: "The receiver asked to wait, for longer than there was time.",
  expired: "Its time was over before it was delivered. The schedule does not replay it.",
};

// STATES are the states of dead letters: what will happen to them. An operator can unpark what
// the schedule does not replay by itself, or not yet.
export const STATES = {
  unreadable: { tone: "bad", why: "The entry cannot be read. It can be discarded." },
  delivered: { tone: "good", why: "A replay delivered it, and it was kept." },
  replaying: { tone: "", why: "A replay holds it just now." },
  expired: { tone: "bad", why: "Its time is over: nobody sends it any more, but by force." },
  parked: { tone: "warn", why: "Replayed too often: the schedule leaves it alone.", unpark: true },
  waiting: { tone: "warn", why: "Its reason, or how a replay failed, leaves it to you: the schedule does not replay it.", unpark: true },
  scheduled: { tone: "", why: "The schedule replays it then.", unpark: true },
  due: { tone: "", why: "The schedule replays it at its next tick." },
};

// DELIVERY_STATUSES are what becomes of deliveries.
export const DELIVERY_STATUSES = {
  accepting: { tone: "run", why: "It is being put on the queue." },
  accepted: { tone: "run", why: "It is in the queue." },
  in_progress: { tone: "run", why: "Somebody began with it." },
  delivered: { tone: "good", why: "The sink took it." },
  dead_lettered: { tone: "warn", why: "It failed, and is kept." },
  expired: { tone: "bad", why: "Its time was over before it was delivered." },
  discarded: { tone: "", why: "An operator gave it up." },
  canceled: { tone: "", why: "A caller took it back: no attempt begins any more." },
};

// EVENTS are the steps on a delivery's way.
export const EVENTS = {
  accepting: { word: "Being accepted", tone: "" },
  accepted: { word: "Accepted", tone: "" },
  waiting: { word: "Waiting", tone: "" },
  began: { word: "Sending began", tone: "" },
  first_failed: { word: "First attempt failed", tone: "warn" },
  dead_lettered: { word: "Dead-lettered", tone: "bad" },
  spilled: { word: "Spilled", tone: "warn" },
  imported: { word: "Imported", tone: "" },
  failed: { word: "Replay failed", tone: "bad" },
  died: { word: "Replay died", tone: "bad" },
  held: { word: "Held", tone: "warn" },
  parked: { word: "Parked", tone: "warn" },
  expired: { word: "Expired", tone: "warn" },
  delivered: { word: "Delivered", tone: "good" },
  discarded: { word: "Discarded", tone: "warn" },
  canceled: { word: "Canceled", tone: "warn" },
  superseded: { word: "Superseded", tone: "warn" },
};

// SINK_STATES are the states of sinks, and of receivers.
export const SINK_STATES = {
  ok: { tone: "good", why: "Nothing holds it back." },
  failing: { tone: "warn", why: "Deliveries fail. It is watched, and left alone if most of them do." },
  open: { tone: "bad", why: "It is down, and left alone by all but one probe at a time. Once a probe is answered, the schedule replays by itself." },
  held: { tone: "warn", why: "It asked everybody to wait." },
  paused: { tone: "warn", why: "Sends are dead-lettered at once; the schedule skips it." },
  misconfigured: { tone: "bad", why: "What is sent to it becomes a dead letter with reason config." },
};

// down reports whether a receiver is left alone.
export const down = (r) => r.state === "open" || r.state === "held";

// filterOf picks a filter's members from query parameters; empty ones are left out.
// Metadata is an object of keys and values, and key=value, each by itself, in a query.
export function filterOf(params) {
  const filter = {};
  for (const name of Object.keys(FILTER)) {
    const value = name === "meta" ? metaOf(params.getAll(name)) : params.get(name);
    if (value) filter[name] = value;
  }
  return filter;
}

// metaOf is the metadata that lines of key=value name; null: there is none.
export function metaOf(lines) {
  const pairs = lines.map((l) => l.trim()).filter((l) => l.indexOf("=") > 0).map((l) => [l.slice(0, l.indexOf("=")), l.slice(l.indexOf("=") + 1)]);
  return pairs.length ? Object.fromEntries(pairs) : null;
}

// valueText is a filter's value in words.
export function valueText(name, value) {
  if (name === "since" || name === "until") return absolute(new Date(value));
  return name === "meta" ? Object.entries(value).map(([k, v]) => `${k}=${v}`).join(", ") : value;
}

// filterText is a filter in one line.
export function filterText(filter) {
  const parts = Object.keys(FILTER).filter((n) => filter?.[n]).map((n) =>
    `${FILTER[n].toLowerCase()} ${valueText(n, filter[n])}`);
  return parts.length ? parts.join(", ") : "every dead letter";
}

// heirOf is the id of the dead letter that was made of an item, and is sent in its place; "" where there is
// none, or its id is not known.
export const heirOf = (item) => item.superseded_by?.includes("~") ? item.superseded_by : "";

// stateOf is an item's state: {word, tone, why, unpark}, and for a scheduled one {at}.
export function stateOf(item, now = Date.now()) {
  const state = { word: item.state, tone: "", why: "", ...STATES[item.state] };
  if (item.superseded_by && item.state === "waiting") return { word: "superseded", tone: "", why: "Another dead letter was made of it, and is sent in its place.", superseded: true };
  if (item.state !== "scheduled" || !item.next_replay_at) return state;
  const at = new Date(item.next_replay_at);
  return { ...state, at, word: `${state.word} ${relative(at, now)}` };
}
