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
  return spoken(boot.metrics?.[task ?? runs.tasks[0]]?.metric ?? column("metric").title);
}

/** "test/accuracy" as the table has it. */
function spoken(metric) {
  return metric.replace("/", " ");
}

/** How many factors two runs do not share. */
function distance(a, b) {
  return factorColumns().filter(({ field }) => a[field] !== b[field]).length;
}

const BUDGET = "trainer.max_steps";
const EPOCHS = "trainer.max_epochs"; // where it is set, the steps of the config have no effect
let total; // steps that every run is to make, where none differs, as one run's config has it; null: it has none

function budgetsDiffer() {
  return Boolean(column(BUDGET) ?? column(EPOCHS));
}

/** Whether something is newly known of how many steps there are to make. */
async function loadTotal(row) {
  if (total !== undefined || budgetsDiffer()) return false;
  const config = (await detailsOf(row))?.config ?? {};
  if (!(BUDGET in config)) return false;
  total = isNumber(config[EPOCHS]) ? null : config[BUDGET];
  return total !== null;
}

/** A run's value as a person reads it: '≥ 200' where the number alone would say less, '208 of 500' under way. */
function asText(one, row) {
  const value = row[one.field];
  const said = row[`${one.field}text`] ?? (one.kind === "figure" ? figure(value) : shown(value));
  if (one.key !== "steps" || value === null || valueOf(row, "state") !== "running") return said;
  const all = budgetsDiffer() ? valueOf(row, BUDGET) : total;
  return isNumber(all) && all >= value ? `${said} of ${shown(all)}` : said;
}
