/* Elements, made so that words from data can never become markup. */

/** An element. Attributes named on… are listeners; null and false are left out. Strings among the children are text. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

function byId(id) {
  return document.getElementById(id);
}

/** A list to choose one from. `options`: values, or [value, words]. */
function choice(label, options, chosen, changed) {
  const select = make("select", { "aria-label": label, onchange: () => changed(select.value) });
  for (const option of options) {
    const [value, words] = Array.isArray(option) ? option : [option, option];
    select.append(make("option", { value, selected: String(value) === String(chosen) }, String(words)));
  }
  return make("label", { class: "choice" }, make("span", {}, label), select);
}

/** Draw something anew; what had the focus in it, by its name, has it again. */
function keepingFocus(element, draw) {
  const had = element.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
  draw();
  if (had !== null) element.querySelector(`[aria-label="${CSS.escape(had)}"]`)?.focus({ preventScroll: true });
}

/** A button that copies words; the page says so. */
function copyButton(words, what) {
  const button = make("button", { type: "button", class: "small", "aria-label": `Copy ${what}` }, "Copy");
  button.addEventListener("click", async () => {
    const copied = await copy(words);
    say(copied ? `Copied ${what}` : `The browser did not let the page copy ${what}`);
    button.textContent = copied ? "Copied" : "Not copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  return button;
}

async function copy(words) {
  try {
    await navigator.clipboard.writeText(words);
    return true;
  } catch {
    return copySelection(words); // the clipboard is not for pages from disk in every browser
  }
}

function copySelection(words) {
  const area = make("textarea", { class: "offscreen" });
  (document.querySelector("dialog[open]") ?? document.body).append(area);
  area.value = words;
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  return copied;
}

/** What a screen reader is told. */
function say(words) {
  byId("said").textContent = words;
}

function commandLine(words, what) {
  return make("div", { class: "command" }, make("code", {}, words), copyButton(words, what));
}

/** A table of named values. */
function named(pairs) {
  return make(
    "dl",
    { class: "named" },
    pairs.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))),
  );
}

function slug(words) {
  return (
    String(words)
      .toLowerCase()
      .replace(/[^a-z0-9_.]+/g, "-")
      .replace(/^[-.]+|[-.]+$/g, "")
      .slice(0, 80) || "gradflow"
  );
}
