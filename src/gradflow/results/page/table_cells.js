/* What stands in the runs table's cells, headings and filters. All of it elements with text: Tabulator takes strings for HTML. */

const wordFilters = new Map(); // key of a column → adds the words that its filter does not offer yet
const VALUE_WORDS = 40; // a word column with more values is searched, not chosen from

function tabulatorColumn(one) {
  const number = one.type === "number";
  return {
    field: one.field,
    title: heading(one),
    titleFormatter: (cell) => make("button", { type: "button", class: "sort" }, cell.getValue()),
    formatter: (cell) => make("span", cellAttributes(one, cell.getValue()), asText(one, cell.getData())),
    hozAlign: number ? "right" : "left",
    headerHozAlign: number ? "right" : "left",
    sorter: (a, b, _a, _b, _column, direction) => emptyLast(a, b, direction),
    headerFilter: number ? rangeFilter(one) : wordFilter(one),
    headerFilterFunc: number ? within : matches,
    headerFilterEmptyCheck: (value) => value === null || value === undefined || value === "",
    headerFilterLiveFilter: false,
    minWidth: number ? 100 : 104,
    maxInitialWidth: 320,
    visible: !HIDDEN.includes(one.kind),
  };
}

/** States and verdicts have colours. */
function cellAttributes(one, value) {
  return {
    class: one.kind === "state" && value !== null ? `word-${slug(value)}` : null,
    title: typeof value === "string" ? value : null,
  };
}

/** Tabulator turns the sign for 'desc'; what has no value stays last. */
function emptyLast(a, b, direction) {
  const sign = compare(a, b);
  return (a === null) !== (b === null) && direction === "desc" ? -sign : sign;
}

function wordFilter(one) {
  return (cell, _rendered, success) => {
    const label = `Filter ${one.title}`;
    if (HIDDEN.includes(one.kind) || distinct(one.key).length > VALUE_WORDS) return searchBox(label, cell, success);
    const select = make("select", { "aria-label": label }, make("option", { value: "" }, "all"));
    const values = [];
    const more = () => {
      for (const value of distinct(one.key).filter((value) => !values.includes(value))) {
        select.append(make("option", { value: values.push(value) - 1 }, String(value)));
      }
    };
    more();
    wordFilters.set(one.key, more);
    const at = values.indexOf(cell.getValue()?.is);
    if (at >= 0) select.value = String(at);
    select.addEventListener("change", () => success(select.value === "" ? null : { is: values[Number(select.value)] }));
    return select;
  };
}

function searchBox(label, cell, success) {
  const value = cell.getValue()?.contains ?? null;
  const input = make("input", { type: "search", "aria-label": label, placeholder: "contains", value });
  input.addEventListener("input", () => success(input.value ? { contains: input.value.toLowerCase() } : null));
  return input;
}

function matches(wanted, value) {
  return "is" in wanted
    ? value === wanted.is
    : String(value ?? "")
        .toLowerCase()
        .includes(wanted.contains);
}

function rangeFilter(one) {
  return (cell, _rendered, success) => {
    const { from: least, to: most } = cell.getValue() ?? {};
    const [low, high] = ["min", "max"].map((name) =>
      make("input", {
        ...{ type: "number", step: "any", placeholder: name, "aria-label": `Filter ${one.title}, ${name}` },
        value: name === "min" ? least : most,
      }),
    );
    const changed = () => {
      const [from, to] = [low, high].map(({ value }) => (value === "" ? null : Number(value)));
      success(from === null && to === null ? null : { from, to });
    };
    for (const input of [low, high]) input.addEventListener("input", changed);
    return make("span", { class: "range" }, low, high);
  };
}

function within({ from, to }, value) {
  return isNumber(value) && (from === null || value >= from) && (to === null || value <= to);
}

/** The heading of a group, which opens and closes it. */
function groupHeading(one, value, rows, open) {
  const name = make("strong", {}, `${one.title} = ${shown(value)}`);
  const said = make("span", { class: "soft" }, groupSummary(rows));
  const told = { "aria-expanded": String(open), "data-group": String(value) };
  return make("button", { type: "button", class: "group", ...told }, name, said);
}

/** How many runs, how many of them have a metric, its mean and range, and the gradient ratio. */
function groupSummary(rows) {
  const metric = { ...column("metric"), title: metricOf(rows.length > 0 ? valueOf(rows[0], "task") : null) };
  const counted = `n = ${rows.length}`;
  const values = rows.map((row) => row[metric.field]).filter(isNumber);
  const tasks = new Set(rows.map((row) => valueOf(row, "task")));
  const gradient = gradientSummary(rows);
  if (tasks.size > 1) return `${counted} · ${tasks.size} tasks, whose metrics have no common mean${gradient}`;
  if (values.length === 0) return `${counted} · no ${metric.title}${gradient}`;
  const [low, high] = range(values);
  const without = values.length < rows.length ? ` of the ${values.length} that have one` : "";
  return `${counted} · ${metric.title}: mean ${figure(mean(values))}${without}, range ${figure(low)} … ${figure(high)}${gradient}`;
}

/** Ratios differ by powers of ten, hence the geometric mean; it is 0 where any of them is exactly 0. */
function gradientSummary(rows) {
  const ratios = rows.map((row) => valueOf(row, "gradient_ratio")).filter(isNumber);
  if (ratios.length === 0) return "";
  const zeros = ratios.filter((ratio) => ratio <= 0).length;
  const said = zeros > 0 ? `0, as ${zeros} of ${ratios.length} are` : figure(geometricMean(ratios));
  return ` · gradient ratio: geometric mean ${said}`;
}
