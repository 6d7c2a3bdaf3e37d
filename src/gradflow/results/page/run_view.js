/* One run, in a dialog: what became of it, why, and how to train it again. */

const runView = {
  shownRun: null, // { id, against, stamp } of what the dialog shows
  filled: null, // the id of the run whose content is in it
  opener: null, // what had the focus before

  async show({ run: id, against }) {
    const dialog = byId("run");
    if (!id) return this.close();
    await loadRuns();
    const row = runs.byId.get(id);
    const stamp = row && boot.parts[`details-${row.chunk}`];
    const was = this.shownRun;
    if (was && was.id === id && was.against === against && was.stamp === stamp) return;
    const now = (this.shownRun = { id, against, stamp });
    if (!dialog.open) {
      this.opener = document.activeElement;
      dialog.showModal();
    }
    if (!row) return this.fill(dialog, missingRun(id));
    const both = await Promise.all([detailsOf(row), detailsOf(runs.byId.get(against))]).catch((error) => {
      if (this.shownRun !== now) return null;
      this.shownRun = null; // so that it is tried again
      throw error;
    });
    if (!both || this.shownRun?.id !== id || this.shownRun.against !== against) return; // the reader has gone on
    const [details, other] = both;
    if (was?.id === id && was.stamp === stamp && this.filled === id)
      return this.compareConfig(dialog, row, details, other, against);
    if (this.filled === id) renewChildren(dialog, make("div", {}, wholeRun(row, details)));
    else this.fill(dialog, wholeRun(row, details));
    this.filled = id;
    forgetGone();
    this.compareConfig(dialog, row, details, other, against);
  },

  fill(dialog, content) {
    empty(dialog);
    dialog.append(...content);
    dialog.scrollTop = 0;
    this.filled = null;
    byId("run-title").focus();
  },

  compareConfig(dialog, row, details, other, against) {
    const section = dialog.querySelector("#run-config");
    if (!section || !details?.config) return;
    const shownNow = JSON.stringify([row.id, against, details.config, other?.config]);
    if (section.shown === shownNow) return; // somebody may be typing in it
    section.shown = shownNow;
    const typing = section.contains(document.activeElement);
    section.replaceChildren(
      otherRun(row, against),
      configTable(details.config, row.id, other?.config ?? null, against),
    );
    if (typing) section.querySelector("input").focus();
  },

  close() {
    const dialog = byId("run");
    if (!dialog.open) return;
    const id = this.shownRun?.id;
    this.shownRun = this.filled = null;
    dialog.close();
    empty(dialog);
    const again = document.querySelector(`.tabulator-row[data-run="${CSS.escape(id ?? "")}"]`);
    if (this.opener?.isConnected && this.opener !== document.body) this.opener.focus();
    else again?.focus(); // the row was drawn anew meanwhile
  },
};

/** Make what stands there say what `fresh` says: only what differs is changed, and a chart stays the same element. */
function renewChildren(old, fresh) {
  const had = [...old.childNodes];
  const keyed = new Map(had.filter(keyOf).map((node) => [keyOf(node), node]));
  const others = had.filter((node) => !keyOf(node));
  const next = [...fresh.childNodes].map((node) => {
    const twin = keyOf(node) ? keyed.get(keyOf(node)) : others.shift();
    return twin ? renewed(twin, node) : node;
  });
  const kept = new Set(next);
  had.filter((node) => !kept.has(node)).forEach((node) => node.remove());
  next.forEach((node, i) => old.childNodes[i] !== node && old.insertBefore(node, old.childNodes[i] ?? null));
}

function renewed(old, fresh) {
  if (old.matches?.("figure.chart") && fresh.matches?.("figure.chart")) takeOver(old, fresh);
  else if (old.id === "run-config") return old; // filled on its own
  else if (old.matches?.("select")) return fresh; // it draws what it was made with
  else if (old.isEqualNode(fresh)) return old;
  else if (old.tagName && sameStart(old, fresh) && !old.matches("button")) renewChildren(old, fresh);
  else return fresh;
  return old;
}

function keyOf(node) {
  return node.dataset?.key;
}

function sameStart(a, b) {
  return a.cloneNode().isEqualNode(b.cloneNode());
}

async function detailsOf(row) {
  if (!row || row.chunk < 0) return null;
  return (await part(`details-${row.chunk}`))[row.id] ?? null;
}

function runHead(title, id) {
  const beside = (by) => {
    const ids = byIdsInOrder();
    return ids[ids.indexOf(id) + by];
  };
  const step = (by, words) => {
    const onclick = () => beside(by) && go({ run: beside(by), against: null }, true);
    return make("button", { type: "button", disabled: beside(by) === undefined, onclick }, words);
  };
  const known = byIdsInOrder().includes(id);
  return make(
    "div",
    { class: "run-head" },
    make("h2", { id: "run-title", tabindex: "-1" }, title),
    make(
      "div",
      { class: "buttons" },
      known && step(-1, "← Previous"),
      known && step(1, "Next →"),
      make("button", { type: "button", onclick: () => go({ run: null, against: null }) }, "Close"),
    ),
  );
}

/** The runs in the order of the table, as it is sorted and filtered. */
function byIdsInOrder() {
  const order = runsView.table?.getRows?.("active").map((row) => row.getData().id);
  return order?.length > 0 ? order : runs.rows.map(({ id }) => id);
}

function missingRun(id) {
  return [runHead("No such run", id), make("p", {}, "This page knows no run ", make("code", {}, id), ".")];
}

function wholeRun(row, details) {
  const head = [
    runHead(runTitle(row), row.id),
    make("p", { class: "soft" }, "run ", make("code", {}, row.id), hostOf(details)),
    figuresOfRun(row),
  ];
  if (!details) return [...head, make("p", { class: "soft" }, "Nothing has been recorded of this run yet.")];
  const run = { id: row.id, title: `${runTitle(row)} · run ${row.id}` };
  const charts = curveCharts(details.curves, run);
  const histograms = histogramCharts(details.histograms, run);
  return [
    ...head,
    ...(details.problems ?? []).map((problem) => make("p", { class: "alert" }, problem)),
    section("How it failed", ...(details.error ? failure(details.error) : [])),
    section("Diagnosis", details.diagnosis && diagnosis(details.diagnosis)),
    section(
      "Gradients",
      ...runMaps(details, run),
      details.thinned &&
        make(
          "p",
          { class: "soft" },
          "Some steps and blocks are left out, to keep the page small; the record has them all.",
        ),
    ),
    section("Curves", charts.length > 0 && make("div", { class: "two" }, charts)),
    section("Histograms", histograms.length > 0 && make("div", { class: "three" }, histograms)),
    section("Again", details.command && commandLine(details.command, "the command of this run")),
    section("Config", details.config && make("div", { id: "run-config" })),
    section("Final figures", details.metrics && named(flat(details.metrics))),
    section("Cost", details.cost && named(flat(details.cost))),
    section("Environment", details.environment && named(flat(details.environment))),
  ].filter(Boolean);
}

/** A heading with what stands under it; nothing where nothing does. */
function section(title, ...content) {
  const there = content.filter(Boolean);
  if (there.length === 0 || (there.length === 1 && there[0].matches("dl:empty"))) return null;
  return make("div", { "data-key": title }, make("h3", {}, title), there);
}

/** The error itself first: a traceback has it at its end. */
function failure(error) {
  const lines = error.split("\n").filter((line) => line.trim());
  const named = lines.findLast((line) => /^[\w.]*(Error|Exception|Exit|Interrupt|Warning)\b/.test(line));
  const all = make("pre", { class: "error", tabindex: "0" }, error);
  return [make("p", { class: "alert failure" }, named ?? lines.at(-1)), all];
}

function hostOf(details) {
  if (!details) return "";
  const attempts = details.attempts > 1 ? `, ${details.attempts} attempts` : "";
  return details.host ? ` on ${details.host}${attempts}` : attempts;
}

function figuresOfRun(row) {
  const told = runs.columns.filter(({ kind, field }) => !HIDDEN.includes(kind) && row[field] !== null);
  return named(
    told.map((one) => [
      one.unit === "s" ? one.title : heading(one),
      make("span", cellAttributes(one, row[one.field]), one.unit === "s" ? duration(row[one.field]) : asText(one, row)),
    ]),
  );
}

function diagnosis({ verdict, so_far, signs, clear, unmeasured, cures }) {
  const headers = ["sign", "measured", "value", "threshold", "where"];
  const rows = (signs ?? []).map(({ of, what, value, threshold, where }) =>
    make(
      "tr",
      {},
      [of, what, shown(value), shown(threshold), where ?? "–"].map((words, i) =>
        make("td", { class: i === 2 || i === 3 ? "number" : "word" }, String(words)),
      ),
    ),
  );
  const table = make(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": "Signs" },
    make(
      "table",
      {},
      make(
        "thead",
        {},
        make(
          "tr",
          {},
          headers.map((text, i) => make("th", { scope: "col", class: i === 2 || i === 3 ? "number" : "word" }, text)),
        ),
      ),
      make("tbody", {}, rows),
    ),
  );
  return make(
    "div",
    {},
    make(
      "p",
      {},
      so_far ? "Verdict so far: " : "Verdict: ",
      make("strong", { class: `word-${slug(verdict ?? "")}` }, verdict ?? "none"),
    ),
    rows.length > 0 && table,
    (clear ?? []).length > 0 &&
      make("p", { class: "soft" }, `Looked for and not found: ${clear.map(plainName).join(", ")}.`),
    (unmeasured ?? []).length > 0 &&
      make("p", { class: "soft" }, `Not looked for, as it was not measured: ${unmeasured.map(plainName).join(", ")}.`),
    (cures ?? []).length > 0 &&
      make(
        "div",
        {},
        make("p", {}, "What may help:"),
        make(
          "ul",
          {},
          cures.map(({ text, overrides }) =>
            make("li", {}, text, overrides?.length > 0 && make("code", { class: "soft" }, ` ${overrides.join(" ")}`)),
          ),
        ),
      ),
  );
}

function plainName(name) {
  return name.replaceAll("_", " ");
}

/** Nested values by dotted keys, as words. */
function flat(values, stem = "") {
  return Object.entries(values).flatMap(([key, value]) => {
    if (value === null || value === undefined || value.length === 0) return [];
    if (typeof value === "object" && !Array.isArray(value)) return flat(value, `${stem}${key}.`);
    const time = key.endsWith("seconds") && isNumber(value);
    const said = time ? duration(value) : Array.isArray(value) ? value.map(shown).join(", ") : shown(value);
    return [[plainName(`${stem}${key}`), said]];
  });
}

/** No finer than anybody would ask: '0.79 s', '5.3 s', '48 s', '3 min 20 s', '2 h 5 min'. */
function duration(seconds) {
  if (!isNumber(seconds)) return shown(seconds);
  if (seconds < 9.95) return `${shown(Number(seconds.toPrecision(2)))} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const [large, small, unit, part] =
    whole < 3600
      ? [Math.floor(whole / 60), whole % 60, "min", "s"]
      : [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), "h", "min"];
  return `${large} ${unit} ${small} ${part}`;
}
