/* One run, in a dialog: what became of it, why, and how to train it again. */

const runView = {
  shownRun: null, // { id, against, stamp } of what the dialog shows
  opener: null, // what had the focus before

  async show({ run: id, against }) {
    const dialog = byId("run");
    if (!id) return this.close();
    await loadRuns();
    const row = runs.byId.get(id);
    const stamp = row && boot.parts[`details-${row.chunk}`];
    const was = this.shownRun;
    if (was && was.id === id && was.against === against && was.stamp === stamp) return;
    this.shownRun = { id, against, stamp };
    if (!dialog.open) {
      this.opener = document.activeElement;
      dialog.showModal();
    }
    if (!row) return this.fill(dialog, missingRun(id));
    const [details, other] = await Promise.all([detailsOf(row), detailsOf(runs.byId.get(against))]);
    if (this.shownRun?.id !== id || this.shownRun.against !== against) return; // the reader has gone on
    if (was?.id === id && was.stamp === stamp) return this.compareConfig(dialog, row, details, other, against);
    const scrolled = was?.id === id ? dialog.scrollTop : 0; // the same run, of which there is news
    keepingFocus(dialog, () => this.fill(dialog, wholeRun(row, details), was?.id !== id));
    this.compareConfig(dialog, row, details, other, against);
    dialog.scrollTop = scrolled;
  },

  fill(dialog, content, arrived = true) {
    empty(dialog);
    dialog.append(...content);
    if (arrived) byId("run-title").focus();
  },

  compareConfig(dialog, row, details, other, against) {
    const section = dialog.querySelector("#run-config");
    if (!section || !details?.config) return;
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
    this.shownRun = null;
    dialog.close();
    empty(dialog);
    const again = document.querySelector(`.tabulator-row[data-run="${CSS.escape(id ?? "")}"]`);
    if (this.opener?.isConnected && this.opener !== document.body) this.opener.focus();
    else again?.focus(); // the row was drawn anew meanwhile
  },
};

async function detailsOf(row) {
  if (!row || row.chunk < 0) return null;
  return (await part(`details-${row.chunk}`))[row.id] ?? null;
}

function runHead(title, id) {
  const ids = byIdsInOrder();
  const at = ids.indexOf(id);
  const step = (by, words) =>
    make(
      "button",
      {
        type: "button",
        disabled: ids[at + by] === undefined,
        onclick: () => go({ run: ids[at + by], against: null }, true),
      },
      words,
    );
  return make(
    "div",
    { class: "run-head" },
    make("h2", { id: "run-title", tabindex: "-1" }, title),
    make(
      "div",
      { class: "buttons" },
      at >= 0 && step(-1, "← Previous"),
      at >= 0 && step(1, "Next →"),
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
  const charts = [...curveCharts(details.curves, row.id)];
  return [
    ...head,
    ...(details.problems ?? []).map((problem) => make("p", { class: "alert" }, problem)),
    ...section("How it failed", details.error && make("pre", { class: "error", tabindex: "0" }, details.error)),
    ...section("Diagnosis", details.diagnosis && diagnosis(details.diagnosis)),
    ...section(
      "Gradients",
      ...runMaps(details, row.id),
      details.thinned &&
        make(
          "p",
          { class: "soft" },
          "Some steps and blocks are left out, to keep the page small; the record has them all.",
        ),
    ),
    ...section("Curves", charts.length > 0 && make("div", { class: "two" }, charts)),
    ...section(
      "Histograms",
      (details.histograms ?? []).length > 0 &&
        make("div", { class: "three" }, histogramCharts(details.histograms, row.id)),
    ),
    ...section("Again", details.command && commandLine(details.command, "the command of this run")),
    ...section("Config", details.config && make("div", { id: "run-config" })),
    ...section("Final figures", details.metrics && named(flat(details.metrics))),
    ...section("Cost", details.cost && named(flat(details.cost))),
    ...section("Environment", details.environment && named(flat(details.environment))),
  ];
}

/** A heading with what stands under it; nothing where nothing does. */
function section(title, ...content) {
  const there = content.filter(Boolean);
  if (there.length === 1 && there[0].matches("dl:empty")) return [];
  return there.length > 0 ? [make("h3", {}, title), ...there] : [];
}

function hostOf(details) {
  if (!details) return "";
  const attempts = details.attempts > 1 ? `, ${details.attempts} attempts` : "";
  return details.host ? ` on ${details.host}${attempts}` : attempts;
}

function figuresOfRun(row) {
  const told = runs.columns.filter(({ kind, field }) => !HIDDEN.includes(kind) && row[field] !== null);
  return named(told.map((one) => [heading(one), make("span", cellAttributes(one, row[one.field]), asText(one, row))]));
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
    return [[plainName(`${stem}${key}`), Array.isArray(value) ? value.map(shown).join(", ") : shown(value)]];
  });
}
