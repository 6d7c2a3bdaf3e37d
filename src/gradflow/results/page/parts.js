/* The page's data. A small part is there at once; the others are unpacked, or asked of the server, when first needed. */

let boot = JSON.parse(byId("boot").textContent);
const asked = new Map(); // name → promise of the part

/** A part of the data by its name. */
async function part(name) {
  if (!asked.has(name)) {
    const text = boot.live ? fetched(name) : unpacked(name);
    asked.set(name, name === "plotly" ? text : text.then(JSON.parse));
    asked.get(name).catch(() => asked.delete(name)); // so that it can be asked for again
  }
  return asked.get(name);
}

function hasPart(name) {
  return Object.hasOwn(boot.parts, name);
}

async function fetched(name) {
  const answer = await fetch(`part/${encodeURIComponent(name)}`);
  if (!answer.ok) throw new Error(`the server has no part '${name}' (${answer.status})`);
  return answer.text();
}

async function unpacked(name) {
  const element = byId(`part:${name}`);
  if (!element) throw new Error(`the page has no part '${name}'`);
  const bytes = bytesOf(element.textContent);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

/** Of base64. Where the browser has it built in, a hundred times as fast. */
function bytesOf(text) {
  return Uint8Array.fromBase64?.(text) ?? Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

/** Plotly, which is a large part of the page and not needed to read its tables. */
async function plotly() {
  if (!globalThis.Plotly) {
    const source = await part("plotly");
    if (!globalThis.Plotly) document.head.append(make("script", {}, source));
    asked.delete("plotly"); // its text is no longer needed
  }
  return globalThis.Plotly;
}

/** The names of a part that may be whole ('comparisons') or cut by factor ('comparisons-norm'). */
function partsNamed(stem) {
  return Object.keys(boot.parts).filter((name) => name === stem || name.startsWith(`${stem}-`));
}
