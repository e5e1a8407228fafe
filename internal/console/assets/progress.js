// The progress of a bulk operation, as it is seen in a dialog and in its own view.

import { api, Problem } from "./api.js";
import { announce, h, replace } from "./dom.js";
import { clock, num, plural } from "./format.js";
import { button, note, tag } from "./parts.js";

const EVERY = 1000; // ms between two looks at a running operation
const LATER = 3000; // the same once it takes long, or cannot be seen
const LONG = 60_000;
const SAY_EVERY = 10_000; // ms between two announcements

export const final = (op) => ["completed", "canceled", "failed"].includes(op.status);

// still reports whether nobody works on it: it is over, or waits to be resumed.
export const still = (op) => final(op) || op.status === "stopped";

const TONES = { completed: "good", canceled: "warn", failed: "bad", stopped: "bad", running: "run", queued: "" };

export const statusTag = (op) => tag(op.status, TONES[op.status] ?? "");

// doneOf is how many items are done with.
export const doneOf = (op) => op.settled + op.skipped;

// countsOf are the counts of an operation on the journal: [{name, word, count, bad (it is a finding)}].
export function countsOf(op) {
  const of = (counts, words, bad) => Object.entries(words).map(([name, word]) => ({ name, word, count: counts?.[name] ?? 0, bad: bad.includes(name) }));
  switch (op.action) {
    case "restore": return of(op.restore, { restored: "restored", present: "in the queue already", skipped: "ended meanwhile", spilled: "spilled", damaged: "damaged" }, ["damaged"]);
    case "audit": return of(op.audit, { letters: "letters", queued: "queued", spilled: "spilled", ending: "ending", unjournaled: "unjournaled", lost: "lost", damaged: "damaged" }, ["lost", "damaged"]);
    case "erase": return [
      { name: "discarded", word: "removed from the queue", count: op.discarded ?? 0 },
      ...of(op.erase, { erased: "from the journal alone", versions: "old versions", unreadable: "unreadable", damaged: "damaged" }, ["unreadable", "damaged"]),
    ];
  }
  return [];
}

// onJournal reports whether an operation works on the journal.
export const onJournal = (op) => ["restore", "audit", "erase"].includes(op.action);

// sinksDone is how many sinks an operation is done with, and how many it has.
export function sinksDone(op) {
  const sinks = Object.values(op.sinks ?? {});
  return [sinks.filter((s) => s.done).length, sinks.length];
}

// share is the progress in words.
export const share = (op) => (onJournal(op) ? `${num(sinksDone(op)[0])} of ${plural(sinksDone(op)[1], "sink")}` : `${num(doneOf(op))} of ${op.total_complete ? "" : "at least "}${num(op.total)}`);

// goneOf is how many items of a completed operation were settled by others before it came
// to them.
const goneOf = (op) => (op.status === "completed" && op.total_complete ? Math.max(0, op.total - doneOf(op)) : 0);

// outcome says what became of the items so far.
export function outcome(op) {
  const parts = [];
  if (onJournal(op)) return countsOf(op).filter((c, i) => i === 0 || c.count > 0 || c.name === "lost").map((c) => `${num(c.count)} ${c.word}`).join(", ");
  if (op.action === "discard") parts.push(`${num(op.discarded)} discarded`);
  else parts.push(`${num(op.delivered)} delivered`, `${num(op.failed)} failed`);
  if (op.expired) parts.push(`${num(op.expired)} expired and not sent`);
  if (op.action === "replay" && op.discarded) parts.push(`${num(op.discarded)} canceled and removed`);
  if (goneOf(op)) parts.push(`${num(goneOf(op))} settled by others meanwhile`);
  if (op.skipped) parts.push(`${num(op.skipped)} skipped`);
  return parts.join(", ");
}

function headline(op) {
  switch (op.status) {
    case "queued": return `Waiting to start. The schedule takes it up within a minute.`;
    case "running": return `Running: ${share(op)}.`;
    case "stopped": return `Stopped: ${outcome(op)}. What failed and what was not reached goes on when it is resumed.`;
    case "completed": return `Completed: ${outcome(op)}.`;
    case "canceled": return `Canceled: ${outcome(op)}. What was done stays done.`;
    default: return `Failed: ${outcome(op)}.`;
  }
}

// waits says what waits, and for what.
const waits = (op) => (op.waiting_until
  ? `${plural(op.waiting, "item")} waiting: their receiver is left alone or asked to wait, until ${clock(new Date(op.waiting_until))}.`
  : `${plural(op.waiting, "item")} held by another replay; waiting for it.`);

// FINDINGS say what to do about what is unaccounted for.
const FINDINGS = {
  lost: () => ["The journal has them, and the queue lost them. Bring them back with ", h("code", {}, "backstop dlq restore"), "."],
  unreadable: () => "They are still in the queue: whose they are nobody knows. Look at them under state unreadable.",
  damaged: () => "Objects of the journal that cannot be read in full stay where they are; the log of the replay function names them.",
};

const findings = (op) => countsOf(op).filter((c) => c.bad && c.count > 0).map((c) => note("bad", h("strong", {}, `${num(c.count)} ${c.word}. `), FINDINGS[c.name]()));

// progressPanel shows an operation: {node, update(op), trouble(problem)}. What a screen
// reader hears is held back to changes of the status and now and then a number.
export function progressPanel(label) {
  const bar = h("progress", { max: 1, value: 0, "aria-label": label });
  const head = h("p", { class: "progress-head" });
  const detail = h("p", { class: "muted" });
  const extra = h("div");
  let said = "", saidAt = 0;
  const say = (status, text) => {
    const now = Date.now();
    if (status === said && now - saidAt < SAY_EVERY) return;
    [said, saidAt] = [status, now];
    announce(text);
  };
  return {
    node: h("div", { class: "progress" }, head, bar, detail, extra),
    update(op) {
      const over = still(op);
      const [done, max] = onJournal(op) ? sinksDone(op) : [doneOf(op), op.total];
      bar.max = Math.max(1, max);
      if (op.status === "queued" && max) bar.removeAttribute("value");
      else bar.value = op.status === "completed" ? bar.max : Math.min(done, bar.max);
      head.textContent = headline(op);
      detail.textContent = over ? "" : `${outcome(op)} so far`;
      replace(extra,
        op.waiting > 0 && !over && h("p", { class: "muted" }, waits(op)),
        op.failed > 0 && over && h("p", {}, `${plural(op.failed, "item")} failed again and stayed in the queue.`),
        op.restore?.full && !over && h("p", { class: "muted" }, "The queue is full: it goes on when there is room."),
        findings(op),
        op.error && note("bad", op.error));
      say(op.status, headline(op));
    },
    trouble(problem) {
      replace(extra, note("warn", `Its progress cannot be seen just now (${problem.message}). The operation goes on without this page; looking again…`));
    },
  };
}

// follow looks at an operation until it is over, or stopped, or signal is aborted.
export async function follow(op, { signal, onchange, ontrouble }) {
  const since = Date.now();
  let pause = EVERY;
  while (!still(op)) {
    await wait(pause, signal);
    if (signal.aborted) return op;
    pause = Date.now() - since > LONG ? LATER : EVERY;
    try {
      op = await api.operation(op.id, signal);
      onchange(op);
    } catch (err) {
      if (signal.aborted) return op;
      if (!(err instanceof Problem) || !err.outage) throw err;
      pause = LATER;
      ontrouble(err);
    }
  }
  return op;
}

// cancelButton cancels an operation.
export const cancelButton = (id, how) => act("Cancel the operation", api.cancel, id, how, { kind: "danger", key: "cancel-operation" });

// resumeButton resumes a stopped one.
export const resumeButton = (id, how) => act("Resume the operation", api.resumeOperation, id, how, { kind: "primary", key: "resume-operation" });

// act is a button that changes an operation. It is not disabled meanwhile: it would lose the focus.
function act(label, change, id, { signal, onchange, onproblem }, look) {
  let busy = false;
  return button(label, async () => {
    if (busy) return;
    busy = true;
    try {
      onchange(await change(id, signal));
    } catch (err) {
      if (!signal.aborted) onproblem(err);
    } finally {
      busy = false;
    }
  }, look);
}

// drop removes an element and hands its focus on.
export function drop(el, next) {
  const focused = document.activeElement === el;
  el.remove();
  if (focused) next.focus();
}

function wait(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}
