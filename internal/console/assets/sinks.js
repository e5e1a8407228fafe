// The sinks: how each is, what its receivers say, how many dead letters it has, and what can be
// done about it.

import { spark } from "./chart.js";
import { h, table } from "./dom.js";
import { down, num, plural, relative, SINK_STATES, span, STATES } from "./format.js";
import { causeText, RANGES } from "./histogram.js";
import { button, empty, panel, tag, when } from "./parts.js";
import { to } from "./router.js";
import { pauseSink } from "./single.js";
import { sendTest } from "./testmessage.js";

const AT_ONCE = 25; // rows, and how many more are shown when asked

// wrong reports whether somebody should look at a sink.
const wrong = (k) => Boolean(k.config_error || k.queue_error || k.queue_lost_since || k.paused || down(k) || k.state === "failing" || (k.receivers ?? []).some(down));

export function sinkPanel(data, view) {
  const { sinks, config_age_seconds: age } = data.sinks;
  if (sinks.length === 0) return panel("Sinks", {}, empty("No sinks are configured.", "See config/sinks for samples."));
  const columns = [
    { name: "Sink", head: true, class: "sink" }, { name: "How it is", class: "state" }, { name: "Dead letters", class: "depth" }, { name: "Oldest" },
    { name: `Last ${RANGES[data.range].last}`, class: "spark" }, { name: "Actions", hidden: true, class: "actions" },
  ];
  const order = [...sinks].sort((a, b) => wrong(b) - wrong(a) || b.depth - a.depth || a.name.localeCompare(b.name));
  const shown = order.slice(0, view.memory.sinks ??= AT_ONCE);
  return panel("Sinks", {}, table("Sinks, those that are not well and those with the most dead letters first", columns, shown.map((k) => ({
    class: k.depth || wrong(k) ? null : "calm",
    cells: [
      [h("a", { href: to(["items"], { sink: k.name }), "data-key": `sink ${k.name}` }, k.name), k.kind && h("small", { class: "muted" }, ` ${k.kind}`)],
      h("div", {}, flags(k), condition(k, data.now), receivers(k, data.now, view)),
      depth(k),
      k.depth > 0 && k.oldest_at ? when(k.oldest_at, { stacked: true }) : h("span", { class: "muted" }, "–"),
      trend(k, data),
      h("span", { class: "buttons" }, k.configured && !k.config_error && button("Test…", () => sendTest(k, view.reload), { kind: "quiet", key: `test ${k.name}`, describe: `Send a test message through ${k.name}` }), switches(k, view)),
    ],
  }))),
  order.length > shown.length && h("p", { class: "more" }, button(`Show ${num(Math.min(AT_ONCE * 4, order.length - shown.length))} more of ${num(order.length)}`,
    () => { view.memory.sinks += AT_ONCE * 4; view.reload(); }, { kind: "link", key: "more-sinks" })),
  h("p", { class: "muted small" }, age < 0 ? "There is no sink configuration." : `The configuration was read ${span(age)} ago.`, journal(sinks)));
}

// depth is how many dead letters a sink has, and in what state they are.
function depth(k) {
  if (k.depth < 0) return "?";
  const states = Object.keys(STATES).filter((s) => k.states?.[s] > 0).sort((a, b) => k.states[b] - k.states[a]);
  return h("div", {},
    h("strong", { class: k.depth ? null : "muted" }, num(k.depth)),
    h("div", { class: "by-state" },
      k.due < 0 && h("small", { class: "muted" }, "how many are due is not known"),
      states.map((s) => h("a", { href: to(["items"], { sink: k.name, state: s }), "data-key": `${s} ${k.name}`, title: STATES[s].why }, `${num(k.states[s])} ${s}`)),
      k.waiting > 0 && h("small", { class: "muted" }, `${num(k.waiting)} wait for a receiver`)));
}

function trend(k, { bySink, range }) {
  const series = bySink?.series.find((x) => x.sink === k.name);
  if (!series?.arrived_total) return h("span", { class: "muted small" }, "none");
  return spark(bySink, series, `${k.name}: ${num(series.arrived_total)} came in the last ${RANGES[range].last}, ${num(series.count)} are still there`);
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
  if (others.length === 0) return null;
  const more = k.more_receivers ?? 0, own = ill(k);
  const opened = view.memory.opened ??= new Set();
  return h("details", { class: "receivers", open: opened.has(k.name), ontoggle: (e) => (e.target.open ? opened.add(k.name) : opened.delete(k.name)) },
    h("summary", { "data-key": `receivers ${k.name}` }, `${plural(others.length + more, own ? "other receiver" : "receiver")} ${others.length + more === 1 ? "is" : "are"} not well`),
    h("ul", {}, others.map((r) => h("li", {}, h("code", {}, r.name), " ", stateTag(r), condition(r, now)))),
    more > 0 && h("p", { class: "muted" }, `and ${num(more)} more`));
}

const stateTag = (r) => tag(r.state, SINK_STATES[r.state]?.tone, SINK_STATES[r.state]?.why);

// ill reports whether a receiver is not well.
const ill = (r) => down(r) || r.state === "failing";

// next says when a receiver is tried again.
export function next(r, now) {
  if (r.next_probe && new Date(r.next_probe) > now) return `next probe ${relative(new Date(r.next_probe), now)}`;
  if (r.next_probe) return "the next delivery is the probe";
  return r.state === "open" ? "it answers again, and gets more step by step" : null;
}

// condition is what is known of a receiver: since when it is as it is, what comes, and what came
// last. Of one that is well an error is over.
function condition(r, now) {
  const ago = (iso, before) => iso && `${before} ${relative(new Date(iso), now)}`;
  const facts = [ill(r) && r.since && `since ${span((now - new Date(r.since)) / 1000)}`, ill(r) && next(r, now), ago(r.last_error_at, "last failure"), ago(r.last_success_at, "last success")].filter(Boolean);
  return [
    ill(r) && r.last_error && h("p", { class: "error small" }, causeText(r.last_error)),
    facts.length > 0 && h("p", { class: "muted small" }, facts.join(" · ")),
  ];
}

function flags(k) {
  return h("span", { class: "flags" },
    k.queue_error && tag("unreadable", "bad", k.queue_error),
    k.config_error && tag("misconfigured", "bad", k.config_error),
    !k.configured && tag("not configured", "warn", "There are dead letters, but no configuration."),
    k.paused && tag("paused", SINK_STATES.paused.tone, SINK_STATES.paused.why),
    ill(k) && stateTag(k),
    k.configured && k.state === "ok" && tag("ok", SINK_STATES.ok.tone, SINK_STATES.ok.why),
    k.kept > 0 && tag(`${num(k.kept)} kept`, "good", "Delivered, and kept on request."),
    k.states?.expired > 0 && tag(`${num(k.states.expired)} expired`, STATES.expired.tone, STATES.expired.why),
    k.queue_lost_since && tag("queue lost", "bad", "The queue lost dead letters that the journal has."),
    k.spilled > 0 && tag(`${num(k.spilled)} spilled`, "warn", "They wait in the journal for room in the queue, and come there by themselves."),
    k.trimmed > 0 && tag(`${num(k.trimmed)} lost`, "bad", "Removed by overflow since the sink exists."));
}
