// Numbers, times and filters in words.

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

// clock is hours and minutes of the viewer's time.
export const clock = (t) => `${two(t.getHours())}:${two(t.getMinutes())}`;

// day is the viewer's date.
export const day = (t) => `${t.getFullYear()}-${two(t.getMonth() + 1)}-${two(t.getDate())}`;

// absolute is the viewer's date and time.
export const absolute = (t) => `${day(t)} ${clock(t)}:${two(t.getSeconds())}`;

// bytes is a size for people.
export function bytes(n) {
  if (n < 1024) return `${n} B`;
  if (n < 1024 * 1024) return `${(n / 1024).toFixed(1)} KiB`;
  return `${(n / 1024 / 1024).toFixed(1)} MiB`;
}

// FILTER names the members of a filter, in the order in which they are shown.
export const FILTER = { sink: "Sink", reason: "Reason", q: "Text", delivery_id: "Delivery id", fingerprint: "Cause", since: "Since", until: "Before" };

// REASONS are the reasons of dead letters, with what they mean.
export const REASONS = {
  exhausted: "The last allowed attempt failed; it may pass.",
  terminal: "No further attempt can cure it. The schedule does not replay it.",
  ambiguous: "It was sent and no answer came; sending again may duplicate. The schedule does not replay it.",
  deadline: "No time was left for another attempt.",
  canceled: "The caller went away.",
  config: "The sink is configured wrongly.",
  invalid: "The message can never be sent as it is. The schedule does not replay it.",
};

// BY_HAND are the reasons that the schedule leaves to an operator.
export const BY_HAND = new Set(["terminal", "ambiguous", "invalid"]);

// filterOf picks a filter's members from query parameters; empty ones are left out.
export function filterOf(params) {
  const filter = {};
  for (const name of Object.keys(FILTER)) {
    const value = params.get(name);
    if (value) filter[name] = value;
  }
  return filter;
}

// filterText is a filter in one line.
export function filterText(filter) {
  const parts = Object.keys(FILTER).filter((n) => filter?.[n]).map((n) =>
    `${FILTER[n].toLowerCase()} ${n === "since" || n === "until" ? absolute(new Date(filter[n])) : filter[n]}`);
  return parts.length ? parts.join(", ") : "every dead letter";
}

// stateOf says what the schedule will do with an item: {word, tone, why}.
export function stateOf(item, now = Date.now()) {
  if (item.decode_error) return { word: "unreadable", tone: "bad", why: "The entry cannot be read. It can be discarded." };
  if (item.delivered_at) return { word: "delivered", tone: "good", why: "A replay delivered it, and it was kept." };
  if (item.parked) return { word: "parked", tone: "warn", why: "Replayed too often: the schedule leaves it alone." };
  if (item.held) return { word: "held", tone: "warn", why: "A replay failed in a way that must not be repeated without a look: the schedule leaves it alone." };
  if (item.next_replay_at) {
    const at = new Date(item.next_replay_at);
    if (at.getTime() > now) return { word: `due ${relative(at, now)}`, tone: "", why: "The schedule replays it then.", at };
    return { word: "due", tone: "", why: "The schedule replays it at its next tick." };
  }
  if (BY_HAND.has(item.reason)) return { word: "waits for you", tone: "warn", why: "The schedule never replays this reason by itself." };
  return { word: "due", tone: "", why: "The schedule replays it at its next tick." };
}
