// Copying: each button copies one thing, and says that it did.

import { announce, h } from "./dom.js";

const SHOWN = 1500; // ms that "copied" stands in the place of a button's name

// copyButton copies what value() returns. shown is on the button, where not its name alone.
export function copyButton(name, value, shown = name) {
  const label = h("span", {}, shown);
  let back = 0;
  const say = (word, text) => {
    label.textContent = word;
    announce(text);
    clearTimeout(back);
    back = setTimeout(() => { label.textContent = shown; el.classList.remove("copied"); }, SHOWN);
  };
  const el = h("button", {
    type: "button", class: "quiet copy", "aria-label": `Copy ${name}`, "data-key": `copy ${name}`,
    onclick: async () => {
      try {
        await navigator.clipboard.writeText(value());
        el.classList.add("copied");
        say("copied", `Copied: ${name}.`);
      } catch {
        say("refused", "The browser does not let the page copy.");
      }
    },
  }, label);
  return el;
}

// quoted is a word as a POSIX shell reads it.
const quoted = (s) => (/^[\w@%+=:,./~-]+$/.test(s) && !s.startsWith("~") ? s : `'${s.replaceAll("'", `'\\''`)}'`);

// shell is a line of a shell.
const shell = (...words) => words.map(quoted).join(" ");

// the API that the console calls.
const apiURL = () => document.querySelector(".api").textContent;

const itemURL = (id) => `${apiURL()}/v1/dlq/items/${encodeURIComponent(id)}`;

// The same by other means: what shows a dead letter, and what replays one. An API that wants credentials
// wants them of curl too.
export const showByCurl = (id) => shell("curl", "-sS", itemURL(id));
export const showByCLI = (id) => shell("backstop", "dlq", "show", id, "--api", apiURL());
export const replayByCurl = (id, options) => shell("curl", "-sS", itemURL(id) + "/replay", "--json", JSON.stringify(options));

// replayByCLI is empty where no line of the CLI does the same.
export function replayByCLI(id, { on_success: onSuccess, force, sink, ...edited }) {
  if (Object.keys(edited).length) return "";
  return shell("backstop", "dlq", "replay", id, ...(onSuccess === "keep" ? ["--on-success", "keep"] : []), ...(force ? ["--force"] : []),
    ...(sink ? ["--to-sink", sink] : []), "--api", apiURL());
}
