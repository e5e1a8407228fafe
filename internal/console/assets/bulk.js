// Replay, discard, unpark and restore of many: first the number, then the question, then progress.

import { api } from "./api.js";
import { buttons, closeButton, dialog } from "./dialog.js";
import { announce, h, replace } from "./dom.js";
import { drive, idsOf } from "./drive.js";
import { down, filterText, num, plural, relative, SINK_STATES, span } from "./format.js";
import { button, facts, loading, note, problemBox, reasonTag, tag } from "./parts.js";
import { cancelButton, drop, follow, progressPanel, still } from "./progress.js";
import { to } from "./router.js";
import { next } from "./sinks.js";

const WORDS = {
  replay: { verb: "Replay", running: "Replaying" },
  discard: { verb: "Discard", running: "Discarding" },
  unpark: { verb: "Unpark", running: "Unparking" },
  restore: { verb: "Restore", running: "Restoring" },
};

// bulk opens the dialog for an action on a scope: {filter} or {ids}; a restore has none. sinks are those that
// a replay can go through. ondone is called when the dialog closes after a change.
export function bulk({ action, scope = { filter: {} }, sinks = [], ondone = () => {} }) {
  const what = scope.ids ? plural(scope.ids.length, "selected dead letter") : filterText(scope.filter);
  const job = {
    action, scope, sinks, what,
    request: requestOf(action, scope),
    key: crypto.randomUUID(), // one dialog is one operation, however often it is sent
    changed: false,
  };
  job.box = dialog(`${WORDS[action].verb} ${scope.ids ? what : "dead letters"}`, { onclose: () => job.changed && ondone() });
  look(job);
}

function requestOf(action, scope) {
  if (action === "restore") return { action };
  const request = { action: action === "unpark" ? "replay" : action };
  if (scope.ids) request.ids = scope.ids;
  else if (Object.keys(scope.filter).length) request.filter = scope.filter;
  else request.all = true;
  return request;
}

// look counts first, and goes on to the question.
async function look(job) {
  const { box } = job;
  box.show(loading("how many there are"), buttons(button("Cancel", box.close)));
  try {
    const [dry, sinks] = await Promise.all([api.dryRun(job.request, box.signal), job.action === "replay" ? api.sinks(box.signal) : null]);
    job.receivers = sinks?.sinks ?? [];
    announce(`Dry run: ${found(dry)}.`);
    box.show(...(dry.count === 0 && (dry.complete || job.action !== "restore") ? none(job, dry) : [question(job, dry)]));
  } catch (err) {
    if (!box.signal.aborted) box.show(problemBox(err, () => look(job)), buttons(button("Close", box.close)));
  }
}

const found = (dry) => `${dry.complete ? "" : "At least "}${plural(dry.count, "dead letter")}`;

// none says that there is nothing to do.
function none({ action, box }, dry) {
  return [
    h("p", { class: "count" }, h("strong", {}, "None found.")),
    h("p", { class: "muted" }, action === "restore" ? "The queue lacks nothing that the journal has." : dry.complete
      ? "They may have been replayed or discarded meanwhile."
      : `The search stopped after ${num(dry.scanned)} entries without a hit; narrow the filter.`),
    buttons(closeButton(box)),
  ];
}

// question is the form that asks whether to do it, and how.
function question(job, dry) {
  const { action, box } = job;
  const reason = action === "unpark" ? null : reasonField();
  const typed = action === "discard" && dry.count > 1 ? typedField(dry) : null;
  const receivers = h("div", {}, action === "replay" && receiversOf(dry, job.receivers));
  const through = action === "replay" && job.sinks.length ? throughFields(job, dry, receivers) : null;
  const wrong = h("p", { class: "field-error", role: "alert" });
  const onsubmit = (e) => {
    e.preventDefault();
    if (typed && !typed.matches()) {
      wrong.textContent = `Type ${dry.count} to confirm.`;
      typed.input.focus();
      return;
    }
    if (action === "unpark") byPage(job, dry, (id) => api.unpark(id, null, box.signal).then(() => ({ outcome: "done" })));
    else operate(job, dry, reason.input.value.trim());
  };
  return h("form", { onsubmit }, consequences(job, dry, receivers), through, reason?.fields, typed?.fields, wrong,
    buttons(button("Cancel", box.close),
      h("button", { type: "submit", class: action === "discard" ? "danger" : "primary", "data-focus": reason ? null : "" },
        `${WORDS[action].verb} ${num(dry.count)}`)));
}

// consequences says what would be done to what.
function consequences({ action, scope, request, what, box }, dry, receivers) {
  return [
    h("p", { class: "count" }, h("strong", {}, found(dry)), ` will be ${WILL[action]}.`),
    request.all && note("warn", h("strong", {}, "This is every dead letter in every sink.")),
    !scope.ids && !request.all && action !== "restore" && facts([["Filter", what]]),
    !dry.complete && action === "restore" && note("warn", `Only ${num(dry.scanned)} dead letters of the journal were looked at: there may be more, and they are included.`),
    !dry.complete && action !== "restore" && note("warn", `The search stopped after ${num(dry.scanned)} entries: there may be more, and they are included.`),
    action === "replay" && dry.expired > 0 && note("warn", h("strong", {}, `${num(dry.expired)} of them ${dry.expired === 1 ? "has" : "have"} expired: `), "they are not sent."),
    action === "replay" && mayHaveArrived(scope, dry) && note("warn", h("strong", {}, "Some may have arrived: "), "they were sent and got no answer (reason ambiguous). Their receivers may get them twice."),
    action === "replay" && [lastTried(dry, box), receivers],
    h("p", { class: "muted" }, HELP[action]),
    sample(dry),
  ];
}

// lastTried says when one of them was last tried, and what came of it.
function lastTried(dry, box) {
  if (!dry.looked) return null;
  const whole = dry.complete && dry.looked >= dry.count;
  const last = dry.last_tried;
  if (!last) return h("p", {}, whole
    ? (dry.count === 1 ? "It was never tried again since it failed." : "None of them was ever tried again since it failed.")
    : `None of the newest ${num(dry.looked)} was ever tried again since it failed.`);
  return [
    h("p", {}, h("strong", {}, `Last tried ${relative(new Date(last.at))}: `),
      last.delivered ? "delivered, and kept" : `failed: ${last.error}`, whole ? "." : `; the newest ${num(dry.looked)} were looked at.`),
    last.operation && h("p", {}, h("a", { href: to(["operations", last.operation]), onclick: box.close }, "Open the operation that tried it")),
  ];
}

const LISTED = 5;

// receiversOf says how the receivers are that get something: a replay waits for one that is left alone.
function receiversOf(dry, sinks) {
  const rows = Object.entries(dry.by_sink ?? {}).sort((a, b) => b[1] - a[1]);
  if (rows.length === 0) return null;
  const now = Date.now();
  const line = ([name, n]) => {
    const k = sinks.find((s) => s.name === name);
    const others = (k?.receivers ?? []).length + (k?.more_receivers ?? 0);
    return h("li", {}, `${num(n)} to `, h("strong", {}, name), ": ", k ? tag(k.state ?? "?", SINK_STATES[k.state]?.tone, SINK_STATES[k.state]?.why) : tag("unknown", "warn"), " ",
      h("span", { class: "muted" }, [...(k ? condition(k, now) : []), others > 0 && `${plural(others, "receiver")} of it ${others === 1 ? "is" : "are"} not well`].filter(Boolean).join(" · ")));
  };
  return h("ul", { class: "tried" }, rows.slice(0, LISTED).map(line), rows.length > LISTED && h("li", { class: "muted" }, `and ${plural(rows.length - LISTED, "other sink")}`));
}

// condition is in one line what is to be known of a receiver before it gets something.
function condition(k, now) {
  if (k.paused) return ["a replay that you ask for goes out all the same"];
  if (down(k)) return [k.since && `since ${span((now - new Date(k.since)) / 1000)}`, next(k, now), "what is for it waits until then"];
  return [k.last_error_at && `last failure ${relative(new Date(k.last_error_at), now)}`, k.last_success_at && `last success ${relative(new Date(k.last_success_at), now)}`];
}

function reasonField() {
  const input = h("input", { name: "reason", maxlength: "1000", autocomplete: "off", "data-focus": "", "aria-describedby": "reason-help" });
  const fields = [
    h("label", {}, "Reason", input),
    h("p", { class: "muted help", id: "reason-help" }, "Optional. It is kept with the operation, for those who ask later."),
  ];
  return { input, fields };
}

// typedField asks for the number before many are discarded.
function typedField(dry) {
  const input = h("input", { name: "typed", inputmode: "numeric", autocomplete: "off", required: true });
  const matches = () => input.value.replace(/[\s.,']/g, "") === String(dry.count);
  return { input, matches, fields: h("label", {}, `Type ${dry.count} to confirm`, input) };
}

// throughFields choose another sink to replay through, and say what that sink could never send.
function throughFields(job, dry, receivers) {
  const through = h("select", { name: "through" },
    h("option", { value: "" }, "each one's own sink"), job.sinks.map((s) => h("option", { value: s }, s)));
  const told = h("div", { class: "elsewhere", "aria-live": "polite" });
  through.addEventListener("change", async () => {
    const sink = through.value;
    job.request = { ...requestOf(job.action, job.scope), ...(sink && { sink }) };
    replace(receivers, receiversOf(sink ? { by_sink: { [sink]: dry.count } } : dry, job.receivers));
    replace(told, sink && h("p", { class: "muted" }, "What is delivered there is removed; what fails there stays as it was, in its own sink."));
    if (!sink) return;
    let refusal;
    try {
      refusal = refused(await api.dryRun(job.request, job.box.signal));
    } catch (err) {
      if (!job.box.signal.aborted) refusal = problemBox(err);
    }
    if (refusal && through.value === sink) told.append(refusal);
  });
  return [h("label", {}, "Send through", through), told];
}

// refused says how many a sink could never send.
function refused(dry) {
  if (!dry.refused) return null;
  return note("warn", h("p", {}, h("strong", {}, dry.refused >= dry.count ? "It could send none of them: " : `It could never send ${num(dry.refused)} of the ${num(dry.looked)} that were looked at: `), "they fail, and stay."),
    dry.refusal && h("p", {}, dry.refusal));
}

// operate has the API do it, as a durable operation.
async function operate(job, dry, reason) {
  const { action, box } = job;
  const panel = progressPanel(`${WORDS[action].running} ${plural(dry.count, "dead letter")}`);
  box.show(loading("the operation"));
  job.changed = true;
  let op;
  try {
    op = await api.operate({ ...job.request, ...(dry.up_to ? { up_to: dry.up_to } : {}), ...(reason ? { reason } : {}) }, job.key, box.signal);
  } catch (err) {
    if (!box.signal.aborted) box.show(problemBox(err, () => operate(job, dry, reason)), buttons(button("Close", box.close)));
    return;
  }
  const trouble = h("div");
  const wrong = (err) => trouble.replaceChildren(problemBox(err));
  const goesOn = h("span", {}, "It goes on when you close this. ");
  const close = closeButton(box);
  const open = h("a", { href: to(["operations", op.id]), onclick: box.close }, "Open the operation");
  const shown = (now) => {
    panel.update(now);
    if (!still(now)) return;
    goesOn.remove();
    drop(cancel, close);
  };
  const cancel = cancelButton(op.id, { signal: box.signal, onchange: shown, onproblem: wrong });
  box.show(panel.node, trouble, h("p", { class: "muted" }, goesOn, open), buttons(cancel, close));
  shown(op);
  try {
    await follow(op, { signal: box.signal, onchange: shown, ontrouble: panel.trouble });
  } catch (err) {
    if (!box.signal.aborted) wrong(err);
  }
}

// byPage has this page do it, one by one: each does one and says how it went.
async function byPage(job, dry, each) {
  const { action, box } = job;
  job.changed = true;
  const stop = new AbortController();
  box.signal.addEventListener("abort", () => stop.abort());
  const bar = h("progress", { max: dry.count, value: 0, "aria-label": `${WORDS[action].running} ${plural(dry.count, "dead letter")}` });
  const head = h("p", { class: "progress-head" }, `${WORDS[action].running}…`);
  const below = h("div");
  const halt = button("Stop", () => stop.abort(), { kind: "danger", key: "stop" });
  const close = closeButton(box);
  box.show(h("div", { class: "progress" }, head, bar, below), h("p", { class: "muted" }, "Closing this stops it."), buttons(halt, close));
  const counts = await drive(idsOf(job.scope, stop.signal), each, {
    signal: stop.signal,
    onprogress: (c) => {
      bar.value = Math.min(c.done + c.failed + c.skipped, dry.count);
      head.textContent = `${WORDS[action].running}: ${tally(c)} of ${num(dry.count)}.`;
    },
  });
  if (box.signal.aborted) return;
  const ended = stop.signal.aborted || counts.stopped ? "Stopped" : "Completed";
  if (ended === "Completed") bar.value = bar.max;
  head.textContent = `${ended}: ${tally(counts)}.`;
  announce(head.textContent);
  below.replaceChildren(...[counts.stopped && problemBox(counts.stopped), counts.example && note("warn", "For example: ", counts.example)].filter(Boolean));
  drop(halt, close);
}

const tally = (c) => [
  `${num(c.done)} done`,
  c.failed && `${num(c.failed)} failed`,
  c.skipped && `${num(c.skipped)} gone or held by a replay`,
].filter(Boolean).join(", ");

const WILL = { replay: "sent again", discard: "removed for good", unpark: "due now", restore: "brought back from the journal" };

const HELP = {
  replay: "Each one is sent once; one that fails again stays in the queue. A receiver gets one first, then five, then all. After five failures in a row it gets no more, and the operation stops until it is resumed.",
  restore: "What is in the queue stays as it is. What was delivered, discarded or canceled meanwhile does not come back; after a loss of the whole queue, some that ended shortly before it may.",
  discard: "They cannot be brought back. One that a replay holds is waited for.",
  unpark: "Also those that are parked, held or never due by themselves. The schedule replays them from its next tick on. This page does it one by one: leave it open.",
};

// mayHaveArrived reports whether ambiguous ones are known to be among them.
function mayHaveArrived(scope, dry) {
  return scope.filter?.reason === "ambiguous" || dry.sample.some((it) => it.reason === "ambiguous");
}

// sample shows the first ones that the dry run found.
function sample(dry) {
  if (!dry.sample.length) return null;
  return h("details", { class: "sample" }, h("summary", {}, dry.sample.length === 1 ? "Show it" : `Show the newest ${dry.sample.length}`),
    h("ul", {}, dry.sample.map((it) => h("li", {}, h("strong", {}, it.message.subject || it.delivery_id || it.id), " ", reasonTag(it.reason),
      h("small", { class: "muted" }, `${it.sink}: ${it.last_error}`)))));
}
