// A test message through a sink: the way of any other message, marked in its metadata.

import { api } from "./api.js";
import { announce, h } from "./dom.js";
import { down, num, plural, SINK_STATES } from "./format.js";
import { note } from "./parts.js";
import { to } from "./router.js";
import { ask } from "./single.js";

// MARK is the metadata by which whoever gets it can tell: a header where the sink makes headers of
// metadata.
const MARK = { "X-Backstop-Test": "console" };

// RECIPIENTS says by kind what a recipient is: the one field that is asked for, or a JSON object.
const RECIPIENTS = {
  email: { label: "Address", of: (v) => ({ address: v }), type: "email", required: true },
  webhook: { label: "URL (empty: the sink's own)", of: (v) => ({ url: v }), type: "url" },
  slack: null,
  apns: { label: "Device token", of: (v) => ({ device_token: v }), type: "text", required: true },
  webpush: { label: "Subscription (JSON)", of: JSON.parse, type: "text", required: true },
};
const ANY = { label: "Recipient (JSON; empty: none)", of: JSON.parse, type: "text" };

// fault says why a text is no recipient.
function fault(recipient, value) {
  try {
    const of = value ? recipient.of(value) : {};
    return typeof of === "object" && of !== null ? "" : "Write a JSON object.";
  } catch {
    return "This is not JSON.";
  }
}

// sendTest asks for a message, and sends it through a sink.
export function sendTest(sink, ondone) {
  const recipient = sink.kind in RECIPIENTS ? RECIPIENTS[sink.kind] : ANY;
  const field = recipient && h("input", { name: "recipient", type: recipient.type, required: recipient.required, autocomplete: "off", spellcheck: "false", "data-focus": "" });
  field?.addEventListener("input", () => field.setCustomValidity(fault(recipient, field.value.trim())));
  const subject = h("input", { name: "subject", value: "Test from the Backstop console", autocomplete: "off" });
  const body = h("textarea", { class: "prose", name: "body", rows: "4", required: true, "data-focus": recipient ? null : "" }, sink.kind === "webhook" || sink.kind === "http" ? '{"test":true}' : "This is a test. Nobody needs to act on it.");
  const id = `test-${crypto.randomUUID()}`; // one dialog is one delivery
  ask({
    title: `Send a test message through ${sink.name}`,
    text: [
      h("p", {}, "It is really sent, as any other message: with attempts, and as a dead letter if they fail. Its metadata says ", h("code", {}, "X-Backstop-Test: console"), "."),
      sink.paused && note("warn", h("strong", {}, "The sink is paused: "), "it becomes a dead letter at once."),
      down(sink) && note("warn", h("strong", {}, `The sink is ${sink.state}. `), SINK_STATES[sink.state].why),
    ].filter(Boolean),
    fields: [recipient && h("label", {}, recipient.label, field), h("label", {}, "Subject", subject), h("label", {}, "Body", body)],
    label: "Send 1", again: true, ondone,
    act: async (signal) => {
      const value = field?.value.trim();
      const request = { id, sink: sink.name, message: { subject: subject.value, body: body.value, metadata: MARK } };
      if (value) request.recipient = recipient.of(value);
      return outcome(await api.send(request, signal), sink);
    },
  });
}

// outcome says what became of it.
function outcome(r, sink) {
  const way = h("p", {}, h("a", { href: to(["deliveries"], { sink: sink.name, id: r.delivery_id }) }, "Its whole way"), " as ", h("code", {}, r.delivery_id));
  const tried = `after ${plural(r.attempts, "attempt")}`;
  switch (r.status) {
    case "delivered":
      announce("Delivered.");
      return [note("good", h("strong", {}, `Delivered through ${sink.name}`), ` ${tried}.`), way];
    case "dead_lettered":
      announce("Not delivered.");
      return [note("bad", h("p", {}, h("strong", {}, "Not delivered"), ` ${tried}: it is a dead letter${r.reason ? ` (${r.reason})` : ""}.`), r.error && h("p", {}, r.error)),
        r.item_id && h("p", {}, h("a", { href: to(["items", r.item_id]) }, "Open the dead letter")), way];
    case "accepted":
      announce("Accepted.");
      return [note("", h("strong", {}, "Accepted: "), "it is in the queue."), way];
    default:
      return [note("warn", `It is ${r.status}; ${num(r.attempts)} attempts were made.`), way];
  }
}
