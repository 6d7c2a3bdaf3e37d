/* Tabulator's table of all runs: only the rows in sight are elements, so that ten thousand are as quick as ten. */

const OPEN_GROUPS = 200; // with more runs than that, groups start closed

/** The table in `element`, its columns in this order. `opened(id)` when a row is chosen by click or Enter. */
function runsTable(element, columns, opened) {
  const table = new Tabulator(element, {
    data: runs.rows,
    columns: [idColumn(), ...columns.map(tabulatorColumn)],
    index: "id",
    nestedFieldSeparator: false, // a factor may be called optimizer.lr
    maxHeight: "70vh",
    rowHeight: 32,
    layout: "fitDataFill",
    groupToggleElement: "header",
    groupStartOpen: runs.rows.length <= OPEN_GROUPS,
    groupHeader: (value, _count, rows, group) => groupHeading(byField(group.getField()), value, rows),
    placeholder: make("p", { class: "soft" }, "No run passes the filters."),
    downloadConfig: { rowGroups: false },
    rowFormatter: (row) => reachable(table, row),
    columnDefaults: { headerSortTristate: false },
  });
  table.current = null; // id of the row that Tab reaches
  table.on("rowClick", (event, row) => event.target.closest("a") || opened(row.getData().id));
  table.on("renderComplete", () => keepReachable(table));
  table.on("scrollVertical", () => keepReachable(table));
  element.addEventListener("keydown", (event) => moved(table, event, opened));
  element.addEventListener("focusin", ({ target }) => target.dataset.run && (table.current = target.dataset.run));
  element.addEventListener("click", ({ target }) => target.closest(".sort, .tabulator-col-sorter") && toTop(element));
  return table;
}

/** Who sorts wants to see what is first. */
function toTop(element) {
  element.querySelector(".tabulator-tableholder").scrollTop = 0;
}

function byField(field) {
  return runs.columns.find((one) => one.field === field);
}

function idColumn() {
  return {
    field: "id",
    title: "run",
    titleFormatter: () => make("button", { type: "button", class: "sort" }, "run"),
    formatter: (cell) => runLink(cell.getValue()),
    sorter: compare, // or Tabulator takes an id of digits for a number
    headerFilter: (_cell, _rendered, success) => searchBox("Filter run", success),
    headerFilterFunc: matches,
    headerFilterEmptyCheck: (value) => !value,
    headerFilterLiveFilter: false,
    minWidth: 112,
    maxInitialWidth: 320,
  };
}

/** One row can be reached by Tab, the others from it by the arrows. */
function reachable(table, row) {
  const id = row.getData().id;
  if (id === undefined) return; // the heading of a group
  const element = row.getElement();
  element.tabIndex = id === table.current ? 0 : -1;
  element.dataset.run = id;
  for (const link of element.querySelectorAll("a")) link.tabIndex = -1; // Enter on the row does the same
}

function keepReachable(table) {
  const rows = [...table.element.querySelectorAll(".tabulator-row[data-run]")];
  const top = table.element.querySelector(".tabulator-tableholder").scrollTop; // rows above it are ready, not in sight
  const reached = rows.find((row) => row.dataset.run === table.current) ?? rows.find((row) => row.offsetTop >= top);
  for (const row of rows) row.tabIndex = row === reached ? 0 : -1;
}

function moved(table, event, opened) {
  if (!event.target.matches(".tabulator-row[data-run]")) return;
  const row = table.getRow(table.current ?? event.target.dataset.run);
  if (event.key === "Enter") opened(event.target.dataset.run);
  else if (event.key === "ArrowDown") focusRow(table, row.getNextRow());
  else if (event.key === "ArrowUp") focusRow(table, row.getPrevRow());
  else return;
  event.preventDefault();
}

/** It may have to be scrolled into sight first; by then the next key may have asked for another. */
async function focusRow(table, row) {
  if (!row) return;
  const id = row.getData().id;
  table.current = id;
  if (!rowElement(table, id)) await table.scrollToRow(row, "nearest", false);
  keepReachable(table);
  if (table.current === id) rowElement(table, id)?.focus();
}

function rowElement(table, id) {
  return table.element.querySelector(`.tabulator-row[data-run="${CSS.escape(id)}"]`);
}
