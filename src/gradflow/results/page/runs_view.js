/* All runs: search, filters, groups, columns, CSV. */

const runsView = {
  name: "runs",
  label: "Runs",
  limit: null, // { words, test(row) }: runs brushed elsewhere, or behind a row of the results

  async show(panel, place) {
    const [{ headers }] = await Promise.all([hasPart("table") ? part("table") : { headers: [] }, loadRuns()]);
    this.main = headers.map(({ key }) => key);
    if (!this.table) this.build(panel, place);
    else if (this.drawn !== runs) this.update();
    this.drawn = runs;
    await this.built;
    this.group(place.group ?? "");
    this.search(place.q ?? "");
  },

  build(panel) {
    const holder = make("div", { id: "runs-table", role: "grid", "aria-label": "Runs" });
    this.count = make("span", { class: "soft", role: "status" });
    this.chip = make("span", { class: "chips" });
    this.box = make("input", { type: "search", "aria-label": "Search all columns", placeholder: "search all columns" });
    this.box.addEventListener("input", () => go({ q: this.box.value }, true));
    const factors = runs.columns
      .filter(({ kind }) => kind === "factor" || kind === "state")
      .map(({ key, title }) => [key, title]);
    this.groups = choice("group by", [["", "nothing"], ...factors], "", (key) => go({ group: key }, true));
    const clear = make("button", { type: "button", onclick: () => this.clear() }, "Clear filters");
    const csv = make(
      "button",
      { type: "button", onclick: () => this.table.download("csv", `${slug(boot.title)}-runs.csv`) },
      "Download CSV",
    );
    const tools = make(
      "div",
      { class: "tools" },
      this.box,
      this.groups,
      this.columnChooser(),
      clear,
      csv,
      this.chip,
      this.count,
    );
    panel.replaceChildren(tools, holder);
    this.table = runsTable(holder, inOrder(this.main), (id) => go({ run: id, against: null }));
    this.built = new Promise((resolve) => this.table.on("tableBuilt", resolve));
    this.table.on("dataFiltered", (_filters, rows) => this.counted(rows.length));
  },

  counted(number) {
    this.count.textContent = number === runs.rows.length ? `${number} runs` : `${number} of ${runs.rows.length} runs`;
  },

  columnChooser() {
    const boxes = runs.columns.map((one) => {
      const box = make("input", { type: "checkbox", checked: !HIDDEN.includes(one.kind) });
      box.addEventListener("change", () => this.table[box.checked ? "showColumn" : "hideColumn"](one.field));
      return make("label", {}, box, heading(one));
    });
    const chooser = make(
      "details",
      { class: "chooser" },
      make("summary", {}, "Columns"),
      make("div", { class: "menu" }, boxes),
    );
    const close = (event) => chooser.contains(event.target) || (chooser.open = false);
    document.addEventListener("click", close);
    chooser.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      chooser.open = false;
      chooser.querySelector("summary").focus();
    });
    return chooser;
  },

  group(key) {
    if ((this.grouped ?? "") === key) return;
    this.grouped = key;
    this.groups.querySelector("select").value = key;
    this.table.setGroupBy(column(key)?.field ?? false);
  },

  search(text) {
    if ((this.searched ?? "") === text && !this.limit) return;
    this.searched = text;
    if (this.box.value !== text) this.box.value = text;
    this.filter();
  },

  /** Every word of the search must be in a row, whichever column it is in. */
  filter() {
    const wanted = (this.searched ?? "").toLowerCase().split(/\s+/).filter(Boolean);
    const tests = [];
    if (wanted.length > 0) tests.push((row) => wanted.every((word) => haystack(row).includes(word)));
    if (this.limit) tests.push(this.limit.test);
    if (tests.length > 0) this.table.setFilter((row) => tests.every((test) => test(row)));
    else this.table.clearFilter();
    const drop = make(
      "button",
      {
        type: "button",
        class: "small",
        onclick: () => this.limitTo(null),
        "aria-label": `Drop the limit: ${this.limit?.words}`,
      },
      "✕",
    );
    this.chip.replaceChildren(...(this.limit ? [make("span", { class: "chip" }, this.limit.words, drop)] : []));
  },

  limitTo(limit) {
    this.limit = limit;
    if (this.table) this.filter();
  },

  clear() {
    this.limit = null;
    this.table.clearHeaderFilter();
    go({ q: null }, true);
    this.filter();
  },

  /** New data while the page is open: rows change in place; sorting, filters, groups and the row in focus stay. */
  async update() {
    const before = this.drawn;
    if (JSON.stringify(before.columns.map(({ key }) => key)) !== JSON.stringify(runs.columns.map(({ key }) => key))) {
      return this.rebuild(); // another factor varies: another table
    }
    const changed = runs.rows.filter((row) => !sameRow(row, before.byId.get(row.id)));
    if (changed.length === 0) return;
    const focused = this.table.element.contains(document.activeElement)
      ? document.activeElement.dataset.run
      : undefined;
    for (const more of wordFilters.values()) more();
    await this.table.updateOrAddData(changed.map((row) => ({ ...row })));
    const sorters = this.table.getSorters().map(({ field, dir }) => ({ column: field, dir }));
    if (sorters.length > 0) this.table.setSort(sorters);
    this.table.refreshFilter();
    if (focused !== undefined) rowElement(this.table, focused)?.focus();
  },

  rebuild() {
    const panel = this.table.element.closest("[role=tabpanel]");
    this.table.destroy();
    this.grouped = this.searched = undefined;
    this.build(panel);
  },
};

/** First the factors that the results are told by, then what became of the runs, then all else. */
function inOrder(main) {
  const rank = ({ key, kind }) => {
    if (kind === "factor") return main.includes(key) || key === "seed" ? 0 : 3;
    return kind === "state" || key === "metric" || key === "gradient_ratio" ? 1 : 2;
  };
  return runs.columns.toSorted((a, b) => rank(a) - rank(b));
}

const haystacks = new WeakMap();

function haystack(row) {
  if (!haystacks.has(row)) haystacks.set(row, Object.values(row).join("\n").toLowerCase());
  return haystacks.get(row);
}

function sameRow(a, b) {
  return b !== undefined && Object.keys(a).every((key) => a[key] === b[key]);
}

/** Show the runs whose factors have these values. */
async function limitRuns(values) {
  const said = Object.entries(values).map(([key, value]) => `${column(key).title} = ${shown(value)}`);
  const test = (row) =>
    Object.entries(values).every(([key, value]) => String(valueOf(row, key) ?? "") === String(value ?? ""));
  runsView.limitTo(said.length > 0 ? { words: said.join(", "), test } : null);
  goToTab("runs");
}
