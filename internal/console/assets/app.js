// The console: draws the view that the URL names, and keeps it fresh.

import { delivery } from "./delivery.js";
import { closeAll, open } from "./dialog.js";
import { announce, focusKey, h, replace } from "./dom.js";
import { zone } from "./format.js";
import { item } from "./item.js";
import { items } from "./items.js";
import { help, listen } from "./keys.js";
import { operation, operations } from "./operations.js";
import { overview } from "./overview.js";
import { empty, loading, problemBox } from "./parts.js";
import { go, here } from "./router.js";
import { utc } from "./settings.js";

const EVERY = 15_000; // ms between two looks
const HOLD = 2000; // ms that a pressed button puts off what would replace it

const missing = {
  title: () => "No such view",
  what: "",
  still: true,
  load: async () => null,
  show: (content) => replace(content, empty("There is nothing at this address.", h("a", { href: "#/" }, "Go to the overview"))),
};

// A view is {title(place), what (is being loaded), load(view), show(content, data, view),
// still (true: it is not drawn anew by itself)}.
function viewOf({ parts: [first, second, third] }) {
  if (third !== undefined) return missing;
  switch (first) {
    case undefined: return overview;
    case "items": return second ? item : items;
    case "deliveries": return second ? missing : delivery;
    case "operations": return second ? operation : operations;
    default: return missing;
  }
}

const main = document.getElementById("main");
const auto = document.getElementById("auto");
const memories = new Map(); // what a view keeps between two visits
let current = null; // what is shown: {view, id (of one thing), content, leave (an AbortController), reload, again (draws the same)}
let searching = false; // the search is focused as soon as the view has one

// released waits for the end of a click under way: a button that is replaced between press
// and release would not be clicked.
let pressed = null, release = null;
const released = () => pressed && Promise.race([pressed, new Promise((done) => setTimeout(done, HOLD))]);
addEventListener("pointerdown", () => { pressed = new Promise((done) => { release = done; }); }, true);
for (const end of ["pointerup", "pointercancel"]) {
  addEventListener(end, () => setTimeout(() => { // the click comes right after
    release?.();
    pressed = release = null;
  }), true);
}

function route() {
  const place = here();
  const view = viewOf(place);
  const before = current;
  before?.leave.abort();
  closeAll(); // they are about what was shown before
  const leave = new AbortController();
  const heading = h("h1", { tabindex: "-1" }, view.title(place));
  const content = h("div", { class: "content" });
  if (!memories.has(view)) memories.set(view, {});
  const state = { ...place, signal: leave.signal, memory: memories.get(view), reload: () => draw(true) };
  current = { view, leave, id: place.parts[1], reload: draw, again: () => {} };
  document.title = `${view.title(place)} – Backstop`;
  for (const link of document.querySelectorAll("header nav a")) {
    const shown = (place.parts[0] ?? "overview") === link.dataset.view;
    if (shown) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }

  // draw fetches and shows the view. Anew: what is there stays until the new is.
  async function draw(anew = false) {
    content.setAttribute("aria-busy", "true");
    try {
      const data = await view.load(state);
      await released();
      if (leave.signal.aborted) return;
      const show = () => view.show(content, data, state);
      show();
      current.again = show;
      return true;
    } catch (err) {
      if (leave.signal.aborted) return;
      const old = anew && content.querySelector(":scope > .stale");
      if (anew && content.childElementCount > 0 && err.outage) {
        old?.remove();
        content.prepend(h("div", { class: "stale" }, problemBox(err, () => draw(true)), h("p", { class: "muted" }, "Below is what was seen last.")));
      } else replace(content, problemBox(err, () => { replace(content, loading(view.what)); draw(); }));
      if (!err.outage && !err.status) console.error(err);
    } finally {
      content.removeAttribute("aria-busy");
    }
  }

  // A change of the filter keeps what is shown until the answer is there.
  if (before?.view === view && view !== item && view !== operation && before.content.childElementCount) {
    content.append(...before.content.childNodes);
  } else content.append(loading(view.what || "the view"));
  current.content = content;
  main.replaceChildren(heading, content);
  if (before) heading.focus();
  window.scrollTo(0, 0);
  draw().then(() => {
    if (leave.signal.aborted) return;
    if (searching) return focusSearch();
    if (!before || document.activeElement !== heading) return;
    if (before.view === view) content.querySelector("[data-focus]")?.focus();
    else if (before.view === item && view === items) focusKey(`item ${before.id}`); // back where one left
  });
}

// search focuses the view's search; a view without one gives way to the list.
function search() {
  if (focusSearch()) return;
  searching = true;
  go(["items"]);
}

function focusSearch() {
  searching = false;
  const field = main.querySelector("[role=search] input");
  field?.focus();
  field?.select();
  return Boolean(field);
}

// The zone of all times is one choice.
const zoneButton = document.getElementById("zone");
const showZone = () => replace(zoneButton, h("span", { class: "roomy" }, "Times: "), zone(), !utc.on && h("span", { class: "roomy" }, ", local"));

function otherZone() {
  utc.set(!utc.on);
  showZone();
  current.again();
  announce(utc.on ? "Times are in UTC." : `Times are in your zone, ${zone()}.`);
}

async function refresh(asked) {
  const shown = current;
  if (await shown.reload(true) && asked && shown === current) announce("Refreshed.");
}

window.addEventListener("hashchange", route);
zoneButton.addEventListener("click", otherZone);
document.getElementById("keys").addEventListener("click", help);
listen({ search, zone: otherZone });
document.getElementById("refresh").addEventListener("click", () => refresh(true));
document.getElementById("skip").addEventListener("click", (e) => {
  e.preventDefault(); // the hash is the view's
  main.focus();
});
setInterval(() => {
  // Not under the reader's hands: a list may have a selection, a dialog a question.
  const busy = open() || current.view === items || current.view === item || current.view.still;
  if (auto.checked && !document.hidden && !busy) refresh(false);
}, EVERY);
showZone();
route();
