/* Tabulator's table of all runs: only the rows in sight are elements, so that ten thousand are as quick as ten. */

const OPEN_GROUPS = 200; // with more runs than that, groups start closed
const ROW_HEIGHT = 32; // and a line below it
const SCROLLED = 60; // milliseconds after which rows that were scrolled to are there
const NARROW = "(max-width: 600px)"; // a phone, where the metric stands beside the run

/**
 * The table in `element`, its columns in this order. `opened(id)` when a row is taken by click or Enter; `chooseAll(yes)`
 * when the box above all boxes is ticked.
 */
function runsTable(element, columns, { opened, chooseAll }) {
  const table = new Tabulator(element, {
    data: runs.rows,
    columns: [chooseColumn(chooseAll), idColumn(), ...columns.map(tabulatorColumn)],
    index: "id",
    nestedFieldSeparator: false, // a factor may be called optimizer.lr
    maxHeight: "70vh",
    rowHeight: ROW_HEIGHT,
    layout: "fitDataFill",
    groupToggleElement: "header",
    groupStartOpen: runs.rows.length <= OPEN_GROUPS,
    groupHeader: (value, _count, rows, group) =>
      groupHeading(byField(group.getField()), value, rows, group.isVisible() === true),
    placeholder: make("p", { class: "soft" }, "No run passes the filters."),
    downloadConfig: { rowGroups: false },
    keybindings: false, // which scroll away from the row in focus; `moved` has better ones
    rowFormatter: (row) => reachable(table, row),
    columnDefaults: { headerSortTristate: false },
  });
  table.current = null; // id of the row that Tab reaches
  table.on("rowClick", (event, row) => {
    if (event.target.closest(".choose"))
      row.toggleSelect(); // beside its box, which a finger misses
    else if (!event.target.closest("a")) opened(row.getData().id);
  });
  table.on("rowSelected", (row) => row.getElement().setAttribute("aria-selected", "true"));
  table.on("rowDeselected", (row) => row.getElement().setAttribute("aria-selected", "false"));
  table.on("renderComplete", () => keepReachable(table));
  table.on("scrollVertical", () => keepReachable(table));
  table.on("groupVisibilityChanged", (group, open) => groupTurned(table, group, open));
  element.addEventListener("keydown", (event) => moved(table, event, opened));
  element.addEventListener("focusin", ({ target }) => target.dataset.run && (table.current = target.dataset.run));
  element.addEventListener("click", ({ target }) => target.closest(".sort, .tabulator-col-sorter") && toTop(element));
  keepFocus(table);
  return table;
}

/** Who sorts wants to see what is first. */
function toTop(element) {
  element.querySelector(".tabulator-tableholder").scrollTop = 0;
}

function byField(field) {
  return runs.columns.find((one) => one.field === field);
}

/** Boxes of Tabulator's; the one above them is ours, for there are only so many lines in a figure. */
function chooseColumn(chooseAll) {
  const box = make("input", {
    ...{ type: "checkbox", class: "choose-all", "aria-label": `Choose all shown, ${MOST_LINES} at most` },
    onclick: (event) => event.stopPropagation(),
    onchange: () => chooseAll(box.checked),
  });
  return {
    formatter: "rowSelection",
    titleFormatter: () => box,
    ...{ headerSort: false, resizable: false, download: false, frozen: true, width: 40, hozAlign: "center" },
    ...{ headerHozAlign: "center", cssClass: "choose" },
  };
}

function idColumn() {
  return {
    field: "id",
    title: "run",
    titleFormatter: () => make("button", { type: "button", class: "sort" }, "run"),
    formatter: (cell) => runLink(cell.getValue()),
    sorter: compare, // or Tabulator takes an id of digits for a number
    headerFilter: (cell, _rendered, success) => searchBox("Filter run", cell, success),
    headerFilterFunc: matches,
    headerFilterEmptyCheck: (value) => !value,
    headerFilterLiveFilter: false,
    frozen: true, // whatever is scrolled to, it says which run it is of
    minWidth: 112,
    maxInitialWidth: 320,
  };
}

/** One row can be reached by Tab, the others from it by the arrows; Space ticks its box, Enter follows its link. */
function reachable(table, row) {
  const id = row.getData().id;
  if (id === undefined) return; // the heading of a group
  const element = row.getElement();
  element.tabIndex = id === table.current ? 0 : -1;
  element.dataset.run = id;
  element.setAttribute("aria-selected", String(row.isSelected()));
  for (const inside of element.querySelectorAll("a, .choose input")) inside.tabIndex = -1;
  element.querySelector(".choose input")?.setAttribute("aria-label", `Choose run ${id}`);
}

function keepReachable(table) {
  const rows = [...table.element.querySelectorAll(".tabulator-row[data-run]")];
  const top = holderOf(table).scrollTop; // rows above it are ready, not in sight
  const reached = rows.find((row) => row.dataset.run === table.current) ?? rows.find((row) => row.offsetTop >= top);
  for (const row of rows) row.tabIndex = row === reached ? 0 : -1;
}

function groupTurned(table, group, open) {
  groupElement(table, String(group.getKey()))?.setAttribute("aria-expanded", String(open));
}

/** Tabulator draws rows and headings anew at every change, and at every size: what had the focus has it again. */
function keepFocus(table) {
  let kept = {};
  table.on("renderStarted", () => {
    if (table.element.contains(document.activeElement)) kept = focusedIn(table);
  });
  table.on("renderComplete", () => {
    const { run, group } = kept;
    kept = {};
    if (document.activeElement !== document.body) return;
    const again = run !== undefined ? rowElement(table, run) : group !== undefined && groupElement(table, group);
    if (again) again.focus({ preventScroll: true });
  });
}

/** { run } or { group } of what has the focus in the table's body. */
function focusedIn(table) {
  const { run, group } = table.element.contains(document.activeElement) ? document.activeElement.dataset : {};
  return { run, group };
}

function groupElement(table, key) {
  return [...table.element.querySelectorAll("button.group")].find((one) => one.dataset.group === key);
}

function moved(table, event, opened) {
  if (
    !event.target.matches(".tabulator-row[data-run], .tabulator-tableholder") ||
    event.ctrlKey ||
    event.metaKey ||
    event.altKey
  )
    return;
  const id = table.current ?? event.target.dataset.run;
  const row = id !== undefined && table.getRow(id);
  if (!row) return;
  const steps = {
    ArrowDown: 1,
    ArrowUp: -1,
    PageDown: pageOf(table),
    PageUp: -pageOf(table),
    Home: -Infinity,
    End: Infinity,
  };
  if (event.key === "Enter") opened(id);
  else if (event.key === " ") row.toggleSelect();
  else if (event.key in steps) focusRow(table, rowAt(table, row, steps[event.key]));
  else return;
  event.preventDefault();
}

/** How many rows are in sight at once. */
function pageOf(table) {
  return Math.max(1, Math.floor(holderOf(table).clientHeight / (ROW_HEIGHT + 1)) - 1);
}

/** The row so many rows on, or the last there is: of those that are shown, in groups that are open. */
function rowAt(table, row, by) {
  const groups = runsView.grouped ? table.getGroups() : null;
  const rows = groups?.flatMap((group) => (group.isVisible() ? group.getRows() : [])) ?? table.getRows("active");
  const at = rows.findIndex((one) => one.getData().id === row.getData().id);
  return rows[Math.max(0, Math.min(rows.length - 1, at + by))];
}

/** It may have to be scrolled into sight first; by then the next key may have asked for another. */
async function focusRow(table, row) {
  if (!row) return;
  const id = row.getData().id;
  table.current = id;
  if (!rowElement(table, id)) {
    holderOf(table).focus({ preventScroll: true }); // which takes the keys meanwhile
    await table.scrollToRow(row, "nearest", false);
    await new Promise((resolve) => setTimeout(resolve, SCROLLED)); // Tabulator draws what is in sight when the browser says so
  }
  if (table.current !== id) return;
  keepReachable(table);
  rowElement(table, id)?.focus();
}

function holderOf(table) {
  return table.element.querySelector(".tabulator-tableholder");
}

function rowElement(table, id) {
  return table.element.querySelector(`.tabulator-row[data-run="${CSS.escape(id)}"]`);
}
