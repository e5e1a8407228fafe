// The overview: how each sink is, when it failed, and why.

import { api } from "./api.js";
import { bulk } from "./bulk.js";
import { axis, bars, count, scale } from "./chart.js";
import { h, replace, table } from "./dom.js";
import { clock, day, down, num, plural, relative, SINK_STATES, span, STATES } from "./format.js";
import { button, empty, note, panel, problemBox, reasonTag, tag, when } from "./parts.js";
import { to } from "./router.js";
import { pauseSink } from "./single.js";

const HOUR = 3600_000;
const RANGES = { "": ["All", 0], "1h": ["1 hour", HOUR], "24h": ["24 hours", 24 * HOUR], "7d": ["7 days", 168 * HOUR] };
const PAGE = 1000;

// OTHER is the group of what is in no group of its own; no filter selects it.
export const OTHER = "(other)";

export const overview = {
  title: () => "Overview",
  what: "the overview",

  // load fetches what the view shows. The pages of failures that were asked for one by
  // one are fetched again.
  async load({ params, signal, memory }) {
    const range = RANGES[params.get("range")] ? params.get("range") : "";
    if (memory.range !== range) Object.assign(memory, { range, pages: 1 });
    const now = Date.now();
    const since = range ? now - RANGES[range][1] : 0;
    const [sinks, groups, failures] = await Promise.all([api.sinks(signal), api.groups(signal), failuresSince(since, memory.pages, signal)]);
    return { now, range, since, sinks, groups, failures };
  },

  show(content, data, view) {
    const { sinks } = data.sinks;
    replace(content,
      data.sinks.config_error && note("bad", h("p", {}, h("strong", {}, "The sinks' configuration could not be read.")), h("p", {}, data.sinks.config_error)),
      sinks.filter((s) => s.config_error).map((s) => note("bad",
        h("p", {}, h("strong", {}, `${s.name} is misconfigured.`), " What is sent to it becomes a dead letter with reason config."), h("p", {}, s.config_error))),
      lost(sinks, data.now, view),
      totals(sinks),
      over(data, view),
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

// failuresSince fetches the newest dead letters: {at: [{sink, t}], oldest (of them), more
// (there are older ones), back (the time from which on all are known)}.
async function failuresSince(since, pages, signal) {
  const out = { at: [], more: false, back: since };
  let cursor = "";
  for (let i = 0; i < pages; i++) {
    const page = await api.items({ limit: PAGE, cursor, since: since ? new Date(since).toISOString() : "" }, signal);
    for (const it of page.items) {
      const t = Date.parse(it.at);
      if (t >= since) out.at.push({ sink: it.sink, t }); // since is when it was stored; imported ones failed before
    }
    cursor = page.next_cursor;
    out.more = Boolean(cursor);
    if (!cursor) break;
  }
  out.oldest = out.at.reduce((m, f) => Math.min(m, f.t), Infinity);
  if (out.more) out.back = out.oldest;
  return out;
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

// over is the chart of all sinks.
function over(data, view) {
  const { failures, range, now } = data;
  const ranges = h("nav", { class: "ranges", "aria-label": "Time range of the chart" }, Object.entries(RANGES).map(([key, [label]]) =>
    h("a", { href: to([], { range: key }), "aria-current": key === range ? "true" : null, "data-key": `range-${key}` }, label)));
  if (failures.at.length === 0) {
    return panel("Failures over time", { actions: ranges }, empty(range ? "Nothing failed in this time that is still in the queue." : "The queue is empty."));
  }
  const s = spanOf(data);
  const counts = count(failures.at.map((f) => f.t), s);
  const back = new Date(failures.back);
  const seen = failures.more
    ? `The newest ${num(failures.at.length)} dead letters, back to ${day(back)} ${clock(back)}. Older ones are not drawn.`
    : `All ${plural(failures.at.length, "dead letter")} ${range ? "of this time" : "in the queue"}.`;
  const peak = Math.max(...counts);
  return panel("Failures over time", { actions: ranges },
    h("div", { class: "chart" },
      bars(counts, s, { label: `Failures over time. ${seen} At most ${num(peak)} in ${span(s.step / 1000)}, the last ${relative(new Date(Math.max(...failures.at.map((f) => f.t))), now)}.`, looked: failures.back, height: 84 }),
      axis(s, now)),
    h("p", { class: "muted small" }, `${seen} Only what is still in the queue is counted. One bar is ${span(s.step / 1000)}, the tallest ${num(peak)}. `,
      failures.more && button("Look further back", () => { view.memory.pages++; view.reload(); }, { kind: "link", key: "further" })));
}

// spanOf is the scale that all charts of the page share.
function spanOf({ failures, since, now }, most = 60) {
  const from = since || Math.min(failures.oldest, now - HOUR);
  return scale(from, now, most);
}

function causes(data, view) {
  const { groups, complete } = data.groups;
  const names = data.sinks.sinks.filter((s) => s.configured && !s.config_error).map((s) => s.name);
  if (groups.length === 0) return panel("Causes", {}, empty("No dead letters.", "What cannot be delivered shows up here, grouped by what went wrong."));
  const most = Math.max(...groups.map((g) => g.count));
  const columns = [
    { name: "Count", class: "n" }, { name: "Cause", head: true, class: "cause" }, { name: "Sink" }, { name: "Reason" }, { name: "Actions", hidden: true, class: "actions" },
  ];
  return panel("Causes", {}, table("Dead letters by cause, largest group first", columns, groups.map((g) => {
    const filter = { sink: g.sink, reason: g.reason, fingerprint: g.fingerprint };
    const label = `${g.fingerprint}, ${g.sink}`;
    const other = g.fingerprint === OTHER || g.fingerprint === "";
    const act = (action, verb) => button(verb, () => bulk({ action, scope: { filter }, sinks: names, ondone: view.reload }),
      { kind: "quiet", key: `${action} ${label}`, describe: `${verb.replace("…", "")} ${plural(g.count, "dead letter")}: ${label}` });
    return {
      cells: [
        h("span", { class: "share" }, num(g.count), share(g.count / most)),
        other ? h("span", { class: "muted" }, g.fingerprint === OTHER ? "in no group of their own" : "without an error text")
          : h("a", { href: to(["items"], filter), "data-key": `cause ${label}` }, h("code", {}, g.fingerprint)),
        h("a", { href: to(["items"], { sink: g.sink }), "data-key": `of ${label}` }, g.sink),
        reasonTag(g.reason),
        other ? null : h("span", { class: "buttons" }, act("replay", "Replay…"), act("discard", "Discard…")),
      ],
    };
  })), !complete && h("p", { class: "muted small" }, "There are more groups than an answer holds; the smallest are left out."));
}

// share is a bar of a part of the largest.
function share(part) {
  return h("progress", { class: "share-bar", max: 1, value: part, "aria-hidden": "true" });
}

function sinkPanel(data, view) {
  const { sinks, config_age_seconds: age } = data.sinks;
  if (sinks.length === 0) return panel("Sinks", {}, empty("No sinks are configured.", "See config/sinks for samples."));
  const s = spanOf(data, 30);
  const columns = [
    { name: "Sink", head: true }, { name: "Dead letters", label: "Depth", class: "n" }, { name: "Due", class: "n" }, { name: "Parked", class: "n" },
    { name: "Oldest" }, { name: "Failures over time", class: "spark" }, { name: "Actions", hidden: true, class: "actions" },
  ];
  const order = [...sinks].sort((a, b) => b.depth - a.depth || a.name.localeCompare(b.name));
  return panel("Sinks", {}, table("Sinks, with the most dead letters first", columns, order.map((k) => ({
    class: k.depth ? null : "calm",
    cells: [
      [
        h("span", { class: "sink" }, h("a", { href: to(["items"], { sink: k.name }), "data-key": `sink ${k.name}` }, k.name), " ", k.kind && h("small", { class: "muted" }, k.kind), flags(k)),
        receivers(k, data.now, view),
      ],
      k.depth < 0 ? "?" : num(k.depth),
      k.due < 0 ? "?" : k.waiting > 0 ? h("span", { class: "stacked" }, h("span", {}, num(k.due)), h("small", { class: "muted" }, `${num(k.waiting)} wait`)) : num(k.due),
      num(k.parked),
      k.depth > 0 && k.oldest_at ? when(k.oldest_at, { stacked: true }) : h("span", { class: "muted" }, "–"),
      spark(k, data, s),
      h("span", { class: "buttons" }, switches(k, view)),
    ],
  }))), h("p", { class: "muted small" }, age < 0 ? "There is no sink configuration." : `The configuration was read ${span(age)} ago.`, journal(sinks)));
}

// journal says what is still to be done in the journal.
function journal(sinks) {
  const sum = (name) => sinks.reduce((n, s) => n + (s[name] ?? 0), 0);
  const parts = [
    sum("unjournaled") > 0 && `${plural(sum("unjournaled"), "dead letter")} to be written`,
    sum("ending") > 0 && `${num(sum("ending"))} to be deleted`,
  ].filter(Boolean);
  return parts.length > 0 && ` In the journal: ${parts.join(", ")}; the schedule does it.`;
}

// switches are the buttons that pause a sink, and resume what an operator or its receiver holds
// back. The focus stays among them: one that is alone has the key of the other.
function switches(k, view) {
  const one = (pause, key) => {
    const el = button(pause ? "Pause…" : "Resume…", () => pauseSink(k, pause, view.reload),
      { kind: "quiet", key, describe: `${pause ? "Pause" : "Resume"} ${k.name}` });
    el.dataset.near = `pause ${k.name}`;
    return el;
  };
  if (k.paused) return one(false, `pause ${k.name}`);
  return [(down(k) || (k.receivers ?? []).some(down)) && one(false, `resume ${k.name}`), one(true, `pause ${k.name}`)];
}

// receivers tells how the receivers of a sink are that are not well. The list stays as it was
// opened when the page is fetched again.
function receivers(k, now, view) {
  const others = k.receivers ?? [];
  const own = down(k) || k.state === "failing";
  if (!own && others.length === 0) return null;
  const more = k.more_receivers ?? 0;
  const opened = view.memory.opened ??= new Set();
  return h("div", { class: "receivers" },
    own && condition(k, now),
    others.length > 0 && h("details", { open: opened.has(k.name), ontoggle: (e) => (e.target.open ? opened.add(k.name) : opened.delete(k.name)) },
      h("summary", { "data-key": `receivers ${k.name}` }, `${plural(others.length + more, own ? "other receiver" : "receiver")} ${others.length + more === 1 ? "is" : "are"} not well`),
      h("ul", {}, others.map((r) => h("li", {}, h("code", {}, r.name), " ", stateOfReceiver(r), condition(r, now)))),
      more > 0 && h("p", { class: "muted" }, `and ${num(more)} more`)));
}

const stateOfReceiver = (r) => tag(r.state, SINK_STATES[r.state]?.tone, SINK_STATES[r.state]?.why);

// condition is what is known of a receiver: since when it is as it is, what comes, and what
// came last.
function condition(r, now) {
  const ago = (iso, before) => iso && `${before} ${relative(new Date(iso), now)}`;
  const soon = r.next_probe && new Date(r.next_probe) > now;
  const next = soon ? ago(r.next_probe, "next probe") : r.next_probe ? "the next delivery is the probe"
    : r.state === "open" && "it answers again, and gets more step by step";
  const facts = [r.since && `since ${span((now - new Date(r.since)) / 1000)}`, next, ago(r.last_error_at, "last failure"), ago(r.last_success_at, "last success")];
  return [r.last_error && h("p", { class: "error" }, r.last_error.replace(/^SINK_UNAVAILABLE: /, "")), h("p", { class: "muted" }, facts.filter(Boolean).join(" · "))];
}

function flags(k) {
  return h("span", { class: "flags" },
    k.queue_error && tag("unreadable", "bad", k.queue_error),
    k.config_error && tag("misconfigured", "bad", k.config_error),
    !k.configured && tag("not configured", "warn", "There are dead letters, but no configuration."),
    k.paused && tag("paused", SINK_STATES.paused.tone, SINK_STATES.paused.why),
    (down(k) || k.state === "failing") && stateOfReceiver(k),
    k.kept > 0 && tag(`${num(k.kept)} kept`, "good", "Delivered, and kept on request."),
    k.states?.expired > 0 && tag(`${num(k.states.expired)} expired`, STATES.expired.tone, STATES.expired.why),
    k.queue_lost_since && tag("queue lost", "bad", "The queue lost dead letters that the journal has."),
    k.spilled > 0 && tag(`${num(k.spilled)} spilled`, "warn", "They wait in the journal for room in the queue, and come there by themselves."),
    k.trimmed > 0 && tag(`${num(k.trimmed)} lost`, "bad", "Removed by overflow since the sink exists."));
}

function spark(k, { failures }, s) {
  const times = failures.at.filter((f) => f.sink === k.name).map((f) => f.t);
  if (!times.length) return h("span", { class: "muted small" }, k.depth && failures.more ? `none in the newest ${num(failures.at.length)}` : k.depth ? "none in this time" : "none");
  const counts = count(times, s);
  return bars(counts, s, { label: `${plural(times.length, "failure")} of ${k.name}, at most ${num(Math.max(...counts))} in ${span(s.step / 1000)}`, looked: failures.back, height: 26 });
}
