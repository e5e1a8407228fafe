// Questions about one thing: replay, discard or unpark one dead letter, pause a sink.

import { api } from "./api.js";
import { copyButton, replayByCLI, replayByCurl } from "./copy.js";
import { buttons, closeButton, dialog } from "./dialog.js";
import { announce, h } from "./dom.js";
import { absolute, down, heirOf, relative } from "./format.js";
import { button, loading, note, problemBox, when } from "./parts.js";
import { to } from "./router.js";

// ask opens a dialog with a question. act does the work and returns what to show; null
// closes the dialog. again shows the form once more where act fails. ondone is called when it
// closes after act was tried.
export function ask({ title, text, fields = null, label, no = "Cancel", kind = "primary", again = false, act, ondone = () => {} }) {
  let tried = false;
  const box = dialog(title, { onclose: () => tried && ondone() });
  const work = async () => {
    tried = true;
    box.show(loading("the answer"));
    try {
      const shown = await act(box.signal);
      if (shown === null) box.close();
      else box.show(...[shown].flat(), buttons(closeButton(box)));
    } catch (err) {
      if (!box.signal.aborted) box.show(problemBox(err), again ? form : buttons(button("Close", box.close)));
    }
  };
  const form = h("form", { onsubmit: (e) => { e.preventDefault(); work(); } },
    text.map((t) => (typeof t === "string" ? h("p", {}, t) : t)), fields,
    buttons(button(no, box.close), h("button", { type: "submit", class: kind, "data-focus": "" }, label)));
  box.show(form);
}

// isOver reports whether the time of a dead letter is over.
export const isOver = (item) => item.state === "expired" || Boolean(item.expires_at && new Date(item.expires_at) <= new Date());

// warnings are what one must know before one sends a dead letter.
export function warnings(item) {
  const heir = heirOf(item);
  return [
    item.superseded_by && note("warn", h("strong", {}, "Another is sent in its place"), heir ? [": ", h("a", { href: to(["items", heir]) }, h("code", {}, heir))] : null, ". If both are sent, its receiver gets two."),
    item.delivered_at && note("warn", h("strong", {}, "It was delivered already. "), "This sends it a second time."),
    isOver(item) && note("warn", h("strong", {}, "Its time is over"), item.expires_at && [" since ", when(item.expires_at)], ". This sends it all the same, by force."),
    item.reason === "ambiguous" && note("warn", h("strong", {}, "It may have arrived. "), "The last attempt was sent and got no answer."),
  ].filter(Boolean);
}

// outcome says what became of a replay, and where what was made for it is.
export function outcome(r, { on_success: onSuccess }) {
  const heir = r.superseded_by && h("a", { href: to(["items", r.superseded_by]), "data-key": "heir" }, h("code", {}, r.superseded_by));
  const kept = onSuccess === "keep";
  if (r.status === "delivered") {
    announce("Delivered.");
    return note("good", h("p", {}, h("strong", {}, `Delivered through ${r.sink}.`),
      !heir && (kept ? " It is kept, marked as delivered." : " It left the queue."),
      heir && [" This one stays, superseded: discard it once you need it no more.", kept && [" What was sent is kept: ", heir]]));
  }
  announce(`Failed: ${r.error}`);
  const next = r.next_replay_at ? new Date(r.next_replay_at) : null;
  const it = heir ? "What was made of it failed" : "It failed again";
  return note("bad", h("p", {}, h("strong", {}, r.status === "parked" ? `${it}, and is parked now.` : `${it}, and stays in the queue.`)),
    h("p", {}, r.error), next && h("p", { class: "muted" }, `The schedule tries again ${relative(next)} (${absolute(next)}).`), heir && h("p", {}, "It is sent in this one's place: ", heir));
}

// replayOne sends one dead letter again.
export function replayOne(item, etag, sinks, ondone) {
  const through = h("select", { name: "through" }, h("option", { value: "" }, `${item.sink} (its own)`),
    sinks.filter((s) => s !== item.sink).map((s) => h("option", { value: s }, s)));
  const elsewhere = h("p", { class: "muted", hidden: true }, "Another dead letter is made for that sink and sent in the place of this one, which waits, superseded.");
  through.addEventListener("change", () => { elsewhere.hidden = !through.value; });
  const expired = isOver(item);
  const keep = h("input", { type: "checkbox", name: "keep" });
  const options = () => ({
    on_success: keep.checked ? "keep" : "discard", ...(through.value && { sink: through.value }), ...((item.delivered_at || expired || item.superseded_by) && { force: true }),
  });
  ask({
    title: "Replay this dead letter",
    text: ["It is sent once, now. If that fails, it stays in the queue.", ...warnings(item)],
    fields: [
      h("label", {}, "Send through", through), elsewhere, h("label", { class: "check" }, keep, " Keep it, marked as delivered"),
      h("div", { class: "buttons copies" }, h("span", { class: "muted" }, "Copy"), copyButton("as curl", () => replayByCurl(item.id, options())), copyButton("as CLI line", () => replayByCLI(item.id, options()))),
    ],
    label: item.delivered_at ? "Send again" : expired || item.superseded_by ? "Send all the same" : "Replay 1",
    ondone,
    act: async (signal) => {
      const asked = options();
      return outcome(await api.replay(item.id, asked, etag, signal), asked);
    },
  });
}

// discardOne gives one dead letter up. ondone is called when it is gone.
export function discardOne(item, etag, ondone) {
  let gone = false;
  ask({
    title: "Discard this dead letter",
    text: ["It is removed for good, without being sent."],
    label: "Discard 1", kind: "danger",
    ondone: () => ondone(gone),
    act: async (signal) => {
      await api.discard(item.id, etag, signal);
      gone = true;
      announce("Discarded.");
      return null;
    },
  });
}

// unparkOne lets the schedule replay one dead letter.
export function unparkOne(item, etag, ondone) {
  ask({
    title: "Unpark this dead letter",
    text: ["It becomes due now, and the schedule replays it at its next tick."],
    label: "Unpark 1", ondone,
    act: async (signal) => {
      await api.unpark(item.id, etag, signal);
      announce("It is due now.");
      return null;
    },
  });
}

// CANCEL says what a refusal to cancel means.
const CANCEL = {
  ALREADY_DELIVERED: "It cannot be taken back: a receiver has answered that it has it.",
  DELIVERY_IN_PROGRESS: "It is not canceled: it is being sent just now, and that decides. If it fails it can be canceled still.",
  ITEM_LEASED: "It is not canceled: if that replay fails it can be canceled still.",
};

// cancelDelivery takes a delivery back. d is what is known of it; null: nothing.
export function cancelDelivery(sink, id, d, ondone) {
  ask({
    title: "Cancel this delivery",
    text: [
      "No attempt of it begins any more, wherever it waits, and what comes under its id is answered as canceled. There is no way back.",
      d?.item_id && "Its dead letter is removed.",
      !d && note("warn", h("strong", {}, "Nothing is known of it. "), `Is ${id} the right id?`),
      d?.may_have_arrived && note("warn", h("strong", {}, "It may have arrived already. "), "It was sent, and nobody answered."),
    ].filter(Boolean),
    label: "Cancel delivery", no: "Keep it", kind: "danger", ondone,
    act: async (signal) => {
      let r;
      try {
        r = await api.cancelDelivery(sink, id, signal);
      } catch (err) {
        if (!CANCEL[err.code]) throw err;
        return [problemBox(err), h("p", {}, CANCEL[err.code])];
      }
      announce("Canceled.");
      return note(r.may_have_arrived ? "warn" : "good", h("p", {}, h("strong", {}, "Canceled.")),
        r.may_have_arrived && h("p", {}, "It may have arrived all the same: it was sent, and nobody answered."),
        !r.known && h("p", {}, "Nothing was known of it. If it is on its way, it will not be sent."));
    },
  });
}

// pauseSink pauses a sink, or resumes one that is paused or whose receivers are left alone.
export function pauseSink(sink, pause, ondone) {
  const left = down(sink) || (sink.receivers ?? []).some(down);
  ask({
    title: `${pause ? "Pause" : "Resume"} ${sink.name}`,
    text: pause
      ? ["A message to it becomes a dead letter at once, without an attempt, and the schedule leaves it alone. Nothing is lost.", "A replay that you ask for still goes out."]
      : ["It is sent to again, and the schedule replays what is due from its next tick on.",
        left && "The next delivery to a receiver that is left alone is the probe. If it is answered, the others follow step by step; if not, it is left alone as before."].filter(Boolean),
    label: pause ? "Pause" : "Resume", ondone,
    act: async (signal) => {
      await api.pause(sink.name, pause, signal);
      announce(`${sink.name} is ${pause ? "paused" : "resumed"}.`);
      return null;
    },
  });
}
