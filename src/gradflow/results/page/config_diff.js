/* A run's config, alone or against another run's: what differs stands first. */

const OFFERED = 30; // other runs in the list at once; what is typed narrows it down

/** The list of other runs: the nearest first, then whatever is typed. */
function otherRun(row, chosen) {
  const list = make("datalist", { id: "other-runs" });
  const input = make("input", {
    type: "search",
    list: "other-runs",
    placeholder: "a run’s id or words",
    "aria-label": "Compare the config with run",
  });
  if (chosen) input.value = chosen;
  const offer = () =>
    list.replaceChildren(...offered(row, input.value).map((one) => make("option", { value: one.id }, runTitle(one))));
  input.addEventListener("focus", offer);
  input.addEventListener("input", () => {
    offer();
    if (input.value === "" || runs.byId.has(input.value)) go({ against: input.value || null }, true);
  });
  const nearest = offered(row, "")[0];
  const suggest =
    nearest &&
    !chosen &&
    make(
      "button",
      { type: "button", class: "small", onclick: () => go({ against: nearest.id }, true) },
      `nearest: ${nearest.id}`,
    );
  return make(
    "div",
    { class: "tools" },
    make("label", { class: "choice" }, make("span", {}, "against"), input),
    list,
    suggest,
  );
}

function offered(row, typed) {
  const wanted = typed.toLowerCase().split(/\s+/).filter(Boolean);
  const others = runs.rows.filter(
    (one) => one.id !== row.id && one.chunk >= 0 && wanted.every((word) => haystack(one).includes(word)),
  );
  const far = new Map(others.map((one) => [one, distance(row, one)]));
  return others.sort((a, b) => far.get(a) - far.get(b)).slice(0, OFFERED);
}

let differencesOnly = true; // of two configs; as the reader left it, whichever run is looked at

/** `other`: null, or the config to lay beside it: then only what differs is shown, until the reader asks for all. */
function configTable(config, id, other, otherId) {
  const holder = make("div");
  const draw = () => {
    const shut = other !== null && differencesOnly;
    holder.replaceChildren(...(other === null ? [] : [onlyBox(draw)]), rowsOf(config, id, other, otherId, shut));
  };
  draw();
  return holder;
}

function onlyBox(draw) {
  const box = make("input", { type: "checkbox", checked: differencesOnly, "aria-label": "differences only" });
  box.addEventListener("change", () => {
    differencesOnly = box.checked;
    draw();
    document.querySelector("#run-config [type=checkbox]")?.focus();
  });
  return make("label", { class: "choice" }, box, make("span", {}, "differences only"));
}

function rowsOf(config, id, other, otherId, shut) {
  const keys = [...new Set([...Object.keys(config), ...Object.keys(other ?? {})])].sort();
  const differs = (key) => other !== null && JSON.stringify(config[key]) !== JSON.stringify(other[key]);
  const ordered = [...keys.filter(differs), ...(shut ? [] : keys.filter((key) => !differs(key)))];
  const rows = ordered.map((key) =>
    make(
      "tr",
      { class: differs(key) ? "differs" : null },
      make("th", { scope: "row" }, key),
      make("td", {}, setting(config, key)),
      other && make("td", {}, setting(other, key)),
    ),
  );
  const head = make(
    "thead",
    {},
    make(
      "tr",
      {},
      make("th", { scope: "col" }, "key"),
      make("th", { scope: "col" }, id),
      other && make("th", { scope: "col" }, runLink(otherId)),
    ),
  );
  const number = keys.filter(differs).length;
  const caption =
    other &&
    make("caption", {}, number === 0 ? "The two configs are the same." : `${number} of ${keys.length} keys differ.`);
  return make(
    "div",
    {
      class: "scroll config",
      ...{ tabindex: "0", role: "region", "aria-label": "Config" },
      style: shut ? "max-height: none" : null, // what differs is not to be hidden below a fold
    },
    make("table", {}, caption, head, make("tbody", {}, rows)),
  );
}

function setting(config, key) {
  if (!Object.hasOwn(config, key)) return make("span", { class: "soft" }, "not set");
  const value = config[key];
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
