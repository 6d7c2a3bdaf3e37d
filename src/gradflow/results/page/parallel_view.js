/* Parallel coordinates: every run a line through its factors, its gradient ratio and its metric. */

const LISTED = 50; // runs brushed that are listed under the figure; the table can show all
const LEVELS = 12; // a number with so few values has them evenly spaced, as words are
const GREY = "#b0b7bf"; // a line without a metric

const parallelView = {
  name: "parallel",
  label: "Parallel",
  brushes: new Map(), // key of an axis → the ranges brushed on it

  async show(panel, place) {
    await loadRuns();
    const tasks = distinct("task");
    const task = tasks.length > 1 ? oneOf(tasks, place.task) : null;
    if (this.drawn === runs && this.task === task) return;
    if (this.task !== task) this.brushes.clear();
    Object.assign(this, { drawn: runs, task });
    this.rows = runs.rows.filter((row) => task === null || valueOf(row, "task") === task);
    this.axes = axesOf(this.rows);
    keepingFocus(panel, () => this.draw(panel, tasks));
    this.listChosen();
  },

  draw(panel, tasks) {
    empty(panel);
    this.chosen = make("div", { role: "status" });
    const pick = this.task !== null && choice("task", tasks, this.task, (value) => go({ task: value }, true));
    const hint =
      "Drag along an axis to choose runs there, click on it to let go. Drag an axis by its name to move it. A line that has no value on an axis ends at ‘none’.";
    panel.append(make("div", { class: "tools" }, pick, make("p", { class: "soft" }, hint)), this.figure(), this.chosen);
  },

  figure() {
    if (!webgl())
      return make(
        "p",
        { role: "alert" },
        "This browser draws without WebGL, which this figure needs. The filters of the runs table choose the same runs.",
      );
    const title = `${this.task ?? runs.tasks[0] ?? boot.title}: factors, gradient ratio and ${metricOf(this.task)} of ${this.rows.length} runs`;
    return chart(title, (look) => this.build(look), {
      height: 460,
      drawn: (plot) => plot.on("plotly_restyle", () => this.brushed(plot)),
      file: `${this.task ?? "runs"}-parallel`,
      minWidth: Math.max(320, 110 * this.axes.length + 120),
    });
  },

  build(look) {
    const metric = this.axes.at(-1);
    const without = metric.missing > 0;
    const [low, high] = metric.known;
    // a scale below which grey stands for a run without a metric
    const start = low - 0.02 * (high - low || 1);
    const scale = lineScale(look).map(([at, colour]) => [without ? 0.02 + 0.98 * at : at, colour]);
    return {
      data: [
        {
          type: "parcoords",
          dimensions: this.axes.map((axis) => ({
            ...axis.dimension,
            ...(this.brushes.has(axis.key) ? { constraintrange: this.brushes.get(axis.key) } : {}),
          })),
          line: {
            color: metric.dimension.values.map((value) => Math.max(value, start)),
            colorscale: without ? [[0, GREY], [0.0199, GREY], ...scale] : scale,
            ...{ cmin: without ? start : low, cmax: high, showscale: true },
            colorbar: { title: { text: words(metricOf(this.task)), side: "right" }, thickness: 14, outlinewidth: 0 },
          },
          labelfont: { size: 12, color: look.ink },
          tickfont: { size: 11, color: look.ink },
          rangefont: { size: 1, color: "rgba(0,0,0,0)" }, // the ticks say it
          unselected: { line: { color: look.rule, opacity: 0.25 } },
        },
      ],
      layout: layoutFor(look, { margin: { l: 120, r: 40, t: 56, b: 24 } }),
    };
  },

  brushed(plot) {
    const dimensions = plot.data[0].dimensions;
    this.brushes = new Map(
      dimensions.flatMap(({ constraintrange, name }) => (constraintrange ? [[name, constraintrange]] : [])),
    );
    this.listChosen();
  },

  listChosen() {
    const limits = this.axes
      .filter(({ key }) => this.brushes.has(key))
      .map((axis) => ({ ...axis, ranges: [this.brushes.get(axis.key)].flat(Infinity) }));
    this.chosen.replaceChildren();
    if (limits.length === 0) return;
    const kept = this.rows.filter((_, i) =>
      limits.every(({ dimension, ranges }) => inside(dimension.values[i], ranges)),
    );
    const ids = new Set(kept.map(({ id }) => id));
    const said = `${kept.length} runs chosen by ${limits.map(({ name }) => name).join(", ")}`;
    const open = () => {
      runsView.limitTo({ words: said, test: (row) => ids.has(row.id) });
      goToTab("runs");
    };
    const links = kept.slice(0, LISTED).map((row) => make("li", {}, runLink(row.id, runTitle(row))));
    const rest = kept.length > LISTED && make("p", { class: "soft" }, `and ${kept.length - LISTED} more`);
    this.chosen.append(
      make("p", {}, `${said}. `, make("button", { type: "button", onclick: open }, "Show them in the runs table")),
      make("ul", { class: "columns" }, links),
      rest || "",
    );
  },
};

/** `ranges`: low, high, low, high … */
function inside(value, ranges) {
  for (let i = 0; i < ranges.length; i += 2) if (value >= ranges[i] && value <= ranges[i + 1]) return true;
  return false;
}

/**
 * The factors that vary among these runs, the gradient ratio and, last, the metric. Words of more values than can be
 * read on an axis are left out: mostly recipes, whose parts have axes of their own.
 */
function axesOf(rows) {
  const varying = factorColumns().filter(({ key, type, field }) => {
    const count = new Set(rows.map((row) => row[field])).size;
    return key !== "seed" && count > 1 && (type === "number" || count <= LEVELS);
  });
  const figures = ["gradient_ratio", "metric"].map(column);
  return [...varying, ...figures].map((one) => axisOf(one, rows));
}

function axisOf(one, rows) {
  const raw = rows.map((row) => row[one.field]);
  if (one.type !== "number") return wordAxis(one, raw);
  const log = one.key === "gradient_ratio";
  const title = one.key === "metric" && rows.length > 0 ? metricOf(valueOf(rows[0], "task")) : one.title;
  if (one.kind === "factor" && new Set(raw).size <= LEVELS) return wordAxis(one, raw);
  const zero = Math.log10(1e-45); // the least that float32 has: an exact zero stands there
  const values = raw.map((value) =>
    !isNumber(value) ? null : !log ? value : value > 0 ? Math.max(Math.log10(value), zero) : zero,
  );
  const [low, high] = knownRange(values);
  const few = unique(values.filter(isNumber)).sort(compare);
  const ticks = few.length <= 8 && !log ? few : round(low, high);
  const missing = values.filter((value) => value === null).length;
  const none = low - 0.12 * (high - low || 1);
  const at = missing > 0 ? [none, ...ticks] : ticks;
  const ticktext = at.map((value) => (value === none ? "none" : log ? `1e${signed(String(value))}` : shown(value)));
  const dimension = {
    name: one.key,
    label: words(clipped(title)),
    values: values.map((value) => value ?? none),
    tickvals: at,
    ticktext,
    range: [missing > 0 ? none : low, high === low ? high + 1 : high],
  };
  return { key: one.key, name: title, missing, known: [low, high], dimension };
}

function wordAxis(one, raw) {
  const values = unique(raw).filter((value) => value !== null);
  if (one.type === "number") values.sort(compare);
  if (raw.includes(null)) values.unshift(null);
  const code = new Map(values.map((value, i) => [value, i]));
  const dimension = {
    name: one.key,
    label: words(clipped(one.title)),
    values: raw.map((value) => code.get(value)),
    tickvals: values.map((_, i) => i),
    ticktext: values.map((value) => (value === null ? "none" : clipped(shown(value)))),
    range: [-0.3, values.length - 0.7],
  };
  return { key: one.key, name: one.title, missing: 0, known: [0, values.length - 1], dimension };
}

function knownRange(values) {
  const known = values.filter(isNumber);
  return known.length > 0 ? range(known) : [0, 1];
}

/** Some round numbers between two. */
function round(low, high) {
  const rough = (high - low || 1) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((digit) => digit * power).find((size) => size >= rough);
  const count = Math.floor((high - low) / step + 1e-9);
  return Array.from({ length: count + 1 }, (_, i) =>
    Number((Math.ceil(low / step - 1e-9) * step + i * step).toPrecision(8)),
  ).filter((value) => value <= high + 1e-12);
}

function clipped(text) {
  const plain = String(text);
  return plain.length > 18 ? `${plain.slice(0, 17)}…` : plain;
}

/** Of viridis what can be told from the page. */
function lineScale(look) {
  const colours = look.dark ? ["#3e6fb0", ...VIRIDIS.slice(3), "#fde725"] : VIRIDIS.slice(0, -1);
  return colours.map((colour, i) => [i / (colours.length - 1), colour]);
}

function webgl() {
  const context = document.createElement("canvas").getContext("webgl");
  context?.getExtension("WEBGL_lose_context")?.loseContext();
  return context !== null;
}
