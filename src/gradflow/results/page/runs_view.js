/* All runs: search, filters, groups, columns, CSV, and the curves of those that are chosen. */

const runsView = {
  name: "runs",
  label: "Runs",
  limit: null, // { words, test(row) }: runs brushed elsewhere, or behind a row of the results

  async show(panel, place) {
    const [{ headers }] = await Promise.all([hasPart("table") ? part("table") : { headers: [] }, loadRuns()]);
    this.main = headers.map(({ key }) => key);
    if (!this.table) this.build(panel);
    else if (this.drawn !== runs) this.update();
    this.drawn = runs;
    await this.built;
    this.follow(here()); // by now the reader may have gone on
    await overlayView.show(this.curves, here());
  },

  /** Bring all to what the address says. */
  follow(place) {
    this.following = true;
    this.group(place.group ?? "");
    this.search(place.q ?? "");
    tableToPlace(this.table, place);
    this.choose(chosenRuns(place));
    this.leaveRoom(chosenRuns(place).length > 0);
    this.following = false;
    this.boxes();
    sayTotals(this.table);
  },

  /** What the reader changed in the table goes into the address. */
  changed() {
    if (!this.following) go(placeOfTable(this.table), true);
  },

  build(panel) {
    this.following = true; // until the address has been followed
    const holder = make("div", {
      id: "runs-table",
      role: "grid",
      "aria-label": "Runs",
      "aria-multiselectable": "true",
    });
    this.curves = make("div", { id: "runs-curves" });
    this.count = make("span", { class: "soft", role: "status" });
    this.chip = make("span", { class: "chips" });
    const hint = "search: relu 30, depth=30";
    this.box = make("input", { type: "search", "aria-label": "Search all columns", placeholder: hint, title: HOW });
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
    const skip = make(
      "button",
      { type: "button", class: "skip inside", onclick: () => this.toRows() },
      "Skip to the runs",
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
    panel.replaceChildren(skip, tools, holder, this.curves);
    const opened = (id) => go({ run: id, against: null });
    this.table = runsTable(holder, inOrder(this.main), { opened, chooseAll: (yes) => this.chooseAll(yes) });
    this.built = new Promise((resolve) => this.table.on("tableBuilt", resolve));
    this.table.on("dataFiltered", (_filters, rows) => {
      this.counted(rows.length);
      this.changed();
    });
    this.table.on("dataSorted", () => this.changed());
    this.table.on("rowSelectionChanged", (_data, _rows, added) => this.chose(added));
  },

  /** Past the tools and the filters of the columns. */
  toRows() {
    this.table.element.querySelector(".tabulator-row[tabindex='0'], button.group")?.focus();
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

  group(asked) {
    const select = this.groups.querySelector("select");
    const key = [...select.options].some(({ value }) => value === asked) ? asked : "";
    if ((this.grouped ?? "") === key) return;
    this.grouped = select.value = key;
    this.table.setGroupBy(column(key)?.field ?? false);
  },

  search(text) {
    if ((this.searched ?? "") === text && !this.limit) return;
    this.searched = text;
    if (this.box.value !== text) this.box.value = text;
    this.filter();
  },

  /** Every term of the search must be in a row, whichever column it is in. */
  filter() {
    const terms = termsOf(this.searched ?? "");
    const tests = [];
    if (terms.length > 0) tests.push((row) => passes(row, terms));
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

  /** The reader ticked boxes, or let go of them: the address has it, and the curves are drawn. */
  chose(added) {
    if (this.following) return;
    const ids = this.table.getSelectedData().map(({ id }) => id);
    if (ids.length > MOST_LINES) {
      this.following = true;
      this.table.deselectRow(added);
      this.following = false;
      return say(`No more than ${MOST_LINES} runs can be told apart in a figure`);
    }
    this.boxes();
    go({ lines: ids.join() }, true);
  },

  chooseAll(yes) {
    const shownNow = this.grouped
      ? this.table.getGroups().flatMap((group) => group.getRows())
      : this.table.getRows("active");
    const ids = shownNow.slice(0, MOST_LINES).map((row) => row.getData().id);
    go({ lines: yes ? ids.join() : null }, true);
    if (yes && shownNow.length > MOST_LINES) say(`The first ${MOST_LINES} of ${shownNow.length} runs are chosen`);
  },

  choose(ids) {
    const now = this.table.getSelectedData().map(({ id }) => id);
    const gone = now.filter((id) => !ids.includes(id));
    const added = ids.filter((id) => !now.includes(id));
    if (gone.length > 0) this.table.deselectRow(gone);
    if (added.length > 0) this.table.selectRow(added);
  },

  /** With the curves in sight, the table is lower. */
  leaveRoom(curves) {
    if (this.lower === curves) return;
    this.lower = curves;
    this.table.element.style.maxHeight = curves ? "44vh" : "70vh";
    this.table.redraw();
  },

  /** The box above all boxes. */
  boxes() {
    const all = this.table.element.querySelector(".choose-all");
    const count = this.table.getSelectedData().length;
    const active = this.table.getDataCount("active");
    all.checked = count > 0 && count >= Math.min(active, MOST_LINES);
    all.indeterminate = count > 0 && !all.checked;
  },

  /** New data while the page is open: rows change in place; sorting, filters, groups and the row in focus stay. */
  async update() {
    const before = this.drawn;
    if (JSON.stringify(before.columns.map(({ key }) => key)) !== JSON.stringify(runs.columns.map(({ key }) => key))) {
      return this.rebuild(); // another factor varies: another table
    }
    const changed = runs.rows.filter((row) => !sameRow(row, before.byId.get(row.id)));
    if (changed.length === 0) return;
    const { run: focused } = focusedIn(this.table);
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
    this.grouped = this.searched = this.lower = undefined;
    overlayView.wanted = undefined; // its place goes with the panel
    empty(panel);
    this.build(panel);
  },
};

const HOW = "Words by a part of them, numbers whole, runs by the beginning of their id; depth=30 for one column";

/**
 * First the factors that the results are told by, then what became of the runs, then all else. On a phone the metric
 * comes before them all: it is what the eye looks for, and there is room for one column beside the run.
 */
function inOrder(main) {
  const narrow = matchMedia(NARROW).matches;
  const rank = ({ key, kind }) => {
    if (narrow && key === "metric") return -1;
    if (kind === "factor") return main.includes(key) || key === "seed" ? 0 : 3;
    return kind === "state" || key === "metric" || key === "gradient_ratio" ? 1 : 2;
  };
  return runs.columns.toSorted((a, b) => rank(a) - rank(b));
}

/** How many steps runs that are under way are to make: their rows say it once it is known. */
async function sayTotals(table) {
  const running = runs.rows.filter((row) => valueOf(row, "state") === "running");
  if (running.length === 0 || !(await loadTotal(running[0]))) return;
  for (const { id } of running) table.getRow(id)?.reformat();
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
