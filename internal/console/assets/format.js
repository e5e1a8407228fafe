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
export const FILTER = { sink: "Sink", state: "State", reason: "Reason", q: "Text", delivery_id: "Delivery id", fingerprint: "Cause", since: "Since", until: "Before" };

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

// stateOf is an item's state: {word, tone, why, unpark}, and for a scheduled one {at}.
export function stateOf(item, now = Date.now()) {
  const state = { word: item.state, tone: "", why: "", ...STATES[item.state] };
  if (item.state !== "scheduled" || !item.next_replay_at) return state;
  const at = new Date(item.next_replay_at);
  return { ...state, at, word: `${state.word} ${relative(at, now)}` };
}
