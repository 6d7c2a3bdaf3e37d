/* All runs: the columns of the part 'runs' as rows { id, chunk, c0, c1, … }. */

const HIDDEN = ["title", "note"]; // kinds of columns that the table shows when asked

let runs = null; // { columns, rows, byId, tasks } once the part is there

async function loadRuns() {
  const data = await part("runs");
  if (runs?.source === data) return runs;
  const columns = data.columns.map((column, i) => ({ ...column, field: `c${i}` }));
  const rows = data.id.map((id, i) => ({ id, chunk: data.chunk[i] }));
  for (const { field, values, codes, data: figures, texts } of columns) {
    rows.forEach((row, i) => (row[field] = (figures ? figures[i] : values[codes[i]]) ?? null));
    if (texts) rows.forEach((row, i) => (row[`${field}text`] = texts[i]));
  }
  runs = { source: data, columns, rows, byId: new Map(rows.map((row) => [row.id, row])) };
  runs.tasks = distinct("task");
  return runs;
}

function column(key) {
  return runs.columns.find((one) => one.key === key);
}

/** A run's value by the key of its column; null where there is no such column. */
function valueOf(row, key) {
  const found = column(key);
  return found ? row[found.field] : null;
}

function factorColumns() {
  return runs.columns.filter((one) => one.kind === "factor");
}

/** The values that occur, in the order of the plan for words, by size for numbers. */
function distinct(key) {
  const found = column(key);
  if (!found) return [];
  const seen = new Set(runs.rows.map((row) => row[found.field]).filter((value) => value !== null));
  return found.type === "number" ? [...seen].sort(compare) : [...seen];
}

function runTitle(row) {
  return String(valueOf(row, "title") ?? row.id);
}

/** A column's heading, with its unit. */
function heading({ title, unit }) {
  return unit ? `${title} (${unit})` : title;
}

/** What the metric of a task is called; of all runs where `task` is null. */
function metricOf(task) {
  return boot.metrics?.[task ?? runs.tasks[0]]?.metric ?? column("metric").title;
}

/** How many factors two runs do not share. */
function distance(a, b) {
  return factorColumns().filter(({ field }) => a[field] !== b[field]).length;
}

/** A run's value as a person reads it: '≥ 200' where the number alone would say less. */
function asText(one, row) {
  return row[`${one.field}text`] ?? (one.kind === "figure" ? figure(row[one.field]) : shown(row[one.field]));
}
