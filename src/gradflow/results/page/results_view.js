/* The results table as the paper has it: every row, every note. A click on a heading sorts. */

const ROWS_AT_ONCE = 500;

/**
 * A plain table that can be sorted. `headers`: { text, type }; `rows`: cells { t, v, c, h, link }; `action`: what stands
 * at the end of a row; `before`: the table that this one takes the place of, whose order it keeps.
 */
function sortableTable({ headers, rows, label }, { action = null, before = null } = {}) {
  let order = rows;
  let sorted = null; // [column, direction]
  let all = rows.length <= ROWS_AT_ONCE;
  const body = make("tbody");
  const heads = headers.map(({ text, type }, i) =>
    make(
      "th",
      { scope: "col", class: type },
      make("button", { type: "button", class: "sort", "aria-label": text, onclick: () => sort(i) }, text),
    ),
  );
  const more = make("button", { type: "button", class: "small", onclick: showAll }, `Show all ${rows.length} rows`);
  const head = make(
    "thead",
    {},
    make("tr", {}, heads, action && make("th", {}, make("span", { class: "offscreen" }, "Runs"))),
  );
  const table = make("table", { "aria-label": label }, head, body);
  const kept = headers.findIndex(({ text }) => text === before?.sortedBy);
  if (kept >= 0) sort(kept, before.direction);
  else fill();
  const region = make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, table);
  return Object.assign(make("div", {}, region, !all && more), {
    order: () => sorted && { sortedBy: headers[sorted[0]].text, direction: sorted[1] },
  });

  function sort(i, direction = sorted?.[0] === i && sorted[1] === 1 ? -1 : 1) {
    sorted = [i, direction];
    heads.forEach((one, k) =>
      k === i
        ? one.setAttribute("aria-sort", direction < 0 ? "descending" : "ascending")
        : one.removeAttribute("aria-sort"),
    );
    const none = ({ v }) => v === null || v === undefined || v === "";
    // what has no value is last either way
    order = [...rows].sort((a, b) => compare(a[i].v, b[i].v) * (none(a[i]) || none(b[i]) ? 1 : sorted[1]));
    fill();
  }

  function showAll() {
    all = true;
    more.remove();
    fill();
  }

  function fill() {
    body.replaceChildren(...(all ? order : order.slice(0, ROWS_AT_ONCE)).map(line));
  }

  function line(cells) {
    const shownCells = cells.map(({ t, c, h, link }, i) =>
      make("td", { class: `${headers[i].type} ${c ?? ""}`.trim(), title: h || null }, link ? runLink(link, t) : t),
    );
    return make("tr", {}, shownCells, action && make("td", {}, action(cells)));
  }
}

const resultsView = {
  name: "results",
  label: "Results",

  async show(panel) {
    const table = await part("table");
    if (this.drawn === table) return;
    this.drawn = table;
    const list =
      table.notes.length > 0 &&
      make(
        "ul",
        { class: "soft notes" },
        table.notes.map((note) => make("li", {}, note)),
      );
    keepingFocus(panel, () => {
      const before = this.table?.order();
      this.table = sortableTable(
        { ...table, label: "Results" },
        { action: (cells) => runsOf(table.headers, cells), before },
      );
      empty(panel);
      panel.append(this.table, list || "");
    });
  },
};

/** A link from a row of the table to its runs. */
function runsOf(headers, cells) {
  const wanted = headers.flatMap(({ key, factor }, i) => (factor === false || !key ? [] : [[key, cells[i].v]]));
  const open = async () => {
    await loadRuns();
    const factors = new Set(factorColumns().map(({ key }) => key));
    await limitRuns(Object.fromEntries(wanted.filter(([key]) => factors.has(key))));
  };
  return make("button", { type: "button", class: "small", onclick: open }, "runs");
}
