/* Where the reader is, kept in the address behind '#': #tab=factors&x=depth&by=norm, #run=ID&against=OTHER. */

const remembered = new Map(); // tab → its choices, for when the reader comes back to it
let arrived = () => {}; // what main.js does with a new place

function here() {
  return Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
}

/** Go on from here with some things changed; null takes one out. `replace`: without an entry for the back button. */
function go(changes, replace = false) {
  const next = Object.entries({ ...here(), ...changes }).filter(([, value]) => value !== null && value !== "");
  const hash = `#${new URLSearchParams(next)}`;
  if (hash === location.hash || (hash === "#" && !location.hash)) return;
  history[replace ? "replaceState" : "pushState"](null, "", hash);
  arrived();
}

/** To another tab, with what was chosen there before. */
function goToTab(tab) {
  const { tab: from, run, against, ...choices } = here();
  if (from) remembered.set(from, choices);
  history.pushState(null, "", `#${new URLSearchParams({ tab, ...remembered.get(tab) })}`);
  arrived();
}

function runAddress(id) {
  return `#${new URLSearchParams({ ...here(), run: id })}`;
}

/** A link that opens a run. */
function runLink(id, words = id) {
  const open = (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return; // a tab of its own, as with any link
    event.preventDefault();
    go({ run: id, against: null });
  };
  return make("a", { href: runAddress(id), onclick: open, "data-run": id }, words);
}
