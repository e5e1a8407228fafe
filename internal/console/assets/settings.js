// What a viewer chose. It is all that the page keeps in this browser: nothing that the API says.

// A browser may refuse to keep anything; then a choice holds until the page is closed.
const kept = (() => {
  try {
    return window.localStorage;
  } catch {
    return null;
  }
})();

// setting is a choice between on and off: {on, set}.
function setting(name, initial) {
  const key = `backstop.${name}`;
  let on = initial;
  try {
    on = { on: true, off: false }[kept?.getItem(key)] ?? initial;
  } catch { /* as if it were not kept */ }
  return {
    get on() { return on; },
    set(value) {
      on = value;
      try {
        kept?.setItem(key, on ? "on" : "off");
      } catch { /* likewise */ }
    },
  };
}

// utc: times are shown in UTC, instead of in the viewer's zone.
export const utc = setting("utc", false);

// shortcuts: single keys do something.
export const shortcuts = setting("shortcuts", true);
