/* While a sweep runs: the server is asked every two seconds what has changed. */

const EVERY = 2000; // milliseconds

/** Poll for ever. `changed()` draws what is shown again; nothing that the reader chose is lost. */
function watch(changed) {
  if (!boot.live) return;
  badge("live", "The page follows the sweep");
  setInterval(() => document.hidden || asking || look(changed), EVERY);
}

let asking = false;

async function look(changed) {
  asking = true;
  try {
    const answer = await fetch("boot", { cache: "no-cache" });
    if (!answer.ok) throw new Error(String(answer.status));
    const next = await answer.json();
    if (!next.sweep_over) badge("live", "The page follows the sweep");
    else badge("finished", "Nothing of the sweep is running or missing");
    if (next.stamp !== boot.stamp) {
      renew(next);
      await changed();
    }
  } catch {
    badge("lost", "The server does not answer; the page asks again");
  } finally {
    asking = false;
  }
}

/** Forget the parts that have changed. */
function renew(next) {
  for (const name of asked.keys()) {
    if (name !== "plotly" && next.parts[name] !== boot.parts[name]) asked.delete(name);
  }
  boot = { ...next, live: true };
}

function badge(kind, words) {
  const element = byId("live");
  if (element.textContent === kind) return;
  element.hidden = false;
  element.textContent = kind;
  element.className = `badge ${kind}`;
  element.title = words;
  if (kind === "lost") say(words);
}
