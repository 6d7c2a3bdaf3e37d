/* Parallel coordinates: every run a line through its factors, its gradient ratio and its metric. */

const LISTED = 50; // runs brushed that are listed under the figure; the table can show all
const LEVELS = 12; // a number with so few values has them evenly spaced, as words are
const BELOW = 0.05; // of the span of the metric: below it by so much, a colour says that there is none
const DRAWN = 1000; // drawn at first: of many more the browser is silent for seconds
const LETTERS = 18; // of a word on an axis
const SUMMARIES = ["recipe", "network"]; // columns that may say in a word what others say in parts
const LEAST = Math.log10(1e-45); // what float32 has: an exact zero stands there
const NONE = "no value";
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
    if (this.task !== task) Object.assign(this, { whole: false, brushes: new Map() });
    Object.assign(this, { drawn: runs, task });
    this.rows = runs.rows.filter((row) => task === null || valueOf(row, "task") === task);
    this.axes = axesOf(this.rows);
    keepingFocus(panel, () => this.draw(panel, tasks));
    this.listChosen();
  },

  draw(panel, tasks) {
    empty(panel);
    this.kept = this.whole ? this.rows.map((_, i) => i) : sample(this.rows.length, DRAWN);
    this.chosen = make("div", { role: "status" });
    const pick = this.task !== null && choice("task", tasks, this.task, (value) => go({ task: value }, true));
    const grey = this.axes.at(-1).missing > 0 ? " Grey lines have no metric." : "";
    const hint =
      "Drag along an axis to choose runs there, click on it to let go. Drag an axis by its name to move it. A line that has no value on an axis ends at ‘no value’.";
    panel.append(
      make("div", { class: "tools" }, pick, make("p", { class: "soft" }, hint + grey), this.sampled(panel, tasks)),
      this.figure(),
      this.chosen,
    );
  },

  /** That not every line is drawn, where it is so. */
  sampled(panel, tasks) {
    const [few, all] = [this.kept.length, this.rows.length];
    if (few === all) return null;
    const everything = () => {
      this.whole = true;
      keepingFocus(panel, () => this.draw(panel, tasks));
      this.listChosen();
    };
    return make(
      "p",
      {},
      `A sample of ${few} of the ${all} runs is drawn; what you choose is chosen among all of them. `,
      make("button", { type: "button", class: "small", onclick: everything }, `Draw all ${all}, which takes seconds`),
    );
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
    // the colour scale goes on below the least metric: there grey stands for a run without one
    const start = low - BELOW * (high - low || 1);
    const worst = (low - start) / (high - start || 1);
    const scale = lineScale(look).map(([at, colour]) => [worst + (1 - worst) * at, colour]);
    const least = scale[0][1];
    const greyed = [...[0, worst / 2].map((at) => [at, GREY]), ...[worst / 2, worst].map((at) => [at, least])];
    const of = (values) => this.kept.map((i) => values[i]);
    return {
      data: [
        {
          type: "parcoords",
          dimensions: this.axes.map((axis) => ({
            ...axis.dimension,
            values: of(axis.dimension.values),
            ...(this.brushes.has(axis.key) ? { constraintrange: this.brushes.get(axis.key) } : {}),
          })),
          line: {
            color: of(metric.dimension.values).map((value) => Math.max(value, start)),
            colorscale: without ? [...greyed, ...scale.slice(1)] : lineScale(look),
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
 * read on an axis are left out, and words that only repeat what other axes say: recipes, whose parts have their own.
 */
function axesOf(rows) {
  const differing = factorColumns().filter(
    ({ key, field }) => key !== "seed" && new Set(rows.map((row) => row[field])).size > 1,
  );
  const told = differing.filter((one) => !SUMMARIES.includes(one.key) || !repeats(one, differing, rows));
  const readable = told.filter(
    ({ type, field }) => type === "number" || new Set(rows.map((row) => row[field])).size <= LEVELS,
  );
  const figures = ["gradient_ratio", "metric"].map(column);
  return [...readable, ...figures].map((one) => axisOf(one, rows));
}

/** Whether what a summary says follows from the other columns, summaries aside. */
function repeats(summary, columns, rows) {
  const others = columns.filter(({ key }) => !SUMMARIES.includes(key));
  const said = new Map();
  return (
    others.length > 0 &&
    rows.every((row) => {
      const setting = JSON.stringify(others.map(({ field }) => row[field]));
      if (!said.has(setting)) said.set(setting, row[summary.field]);
      return said.get(setting) === row[summary.field];
    })
  );
}

/** So many of 0 … count − 1, the same ones each time and in no step with the order of the plan, which goes in cycles. */
function sample(count, most) {
  const places = Array.from({ length: count }, (_, i) => i);
  if (count <= most) return places;
  const drawn = places.map((i) => [Math.imul(i + 1, 2654435761) >>> 0, i]).sort(([a], [b]) => a - b);
  return drawn.slice(0, most).map(([, i]) => i);
}

function axisOf(one, rows) {
  const raw = rows.map((row) => row[one.field]);
  if (one.type !== "number") return wordAxis(one, raw);
  const log = one.key === "gradient_ratio";
  const title = one.key === "metric" && rows.length > 0 ? metricOf(valueOf(rows[0], "task")) : one.title;
  if (one.kind === "factor" && new Set(raw).size <= LEVELS) return wordAxis(one, raw);
  const values = raw.map((value) =>
    !isNumber(value) ? null : !log ? value : value > 0 ? Math.max(Math.log10(value), LEAST) : LEAST,
  );
  const known = knownRange(values);
  const few = unique(values.filter(isNumber)).sort(compare);
  const ticks = log ? powerTicks(...known) : few.length > 1 && few.length <= 8 ? few : roundTicks(...known);
  const [low, high] = range([...known, ...ticks]);
  const missing = values.filter((value) => value === null).length;
  const none = low - 0.12 * (high - low);
  const at = missing > 0 ? [none, ...ticks] : ticks;
  const texts = distinctTexts(ticks, (value) => (log ? powerOfTen(value) : shown(value)));
  const dimension = {
    name: one.key,
    label: words(clipped(title)),
    values: values.map((value) => value ?? none),
    tickvals: at,
    ticktext: missing > 0 ? [NONE, ...texts] : texts,
    range: [missing > 0 ? none : low, high],
  };
  return { key: one.key, name: title, missing, known, dimension };
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
    ticktext: distinctTexts(values, (value) => (value === null ? NONE : shown(value))),
    range: [-0.3, values.length - 0.7],
  };
  return { key: one.key, name: one.title, missing: 0, known: [0, values.length - 1], dimension };
}

/**
 * Of each value a text that fits on an axis and that no other one has: of two that are equal Plotly leaves one out and
 * the others move. What long words begin with is left out where it is the same.
 */
function distinctTexts(values, say) {
  const whole = values.map((value) => String(say(value)));
  const full = whole.map((text, i) => (whole.indexOf(text) === whole.lastIndexOf(text) ? text : String(values[i])));
  const short = full.map(clipped);
  const told = full.map((text, i) => {
    const alike = full.filter((_, k) => short[k] === short[i]);
    return alike.length > 1 ? afterStart(text, sharedStart(alike)) : short[i];
  });
  const taken = new Map();
  return told.map((text) => {
    const before = taken.get(text) ?? 0;
    taken.set(text, before + 1);
    return before === 0 ? text : `${text} (${before + 1})`;
  });
}

/** How many letters words begin with that all of them have. */
function sharedStart(texts) {
  let end = 0;
  while (end < texts[0].length && texts.every((text) => text[end] === texts[0][end])) end += 1;
  return end;
}

/** What comes after the first `shared` letters, from the beginning of a word on where one is near. */
function afterStart(text, shared) {
  const near = /[\w.]{0,6}$/.exec(text.slice(0, shared))[0].length;
  const rest = text.slice(Math.max(0, shared - near));
  return `…${rest.length > LETTERS - 1 ? `${rest.slice(0, LETTERS - 2)}…` : rest}`;
}

/** Whole powers of ten; what is exactly zero has a tick of its own. */
function powerTicks(low, high) {
  const ticks = roundTicks(low, high, 1).filter((value) => value > LEAST);
  return low <= LEAST ? [LEAST, ...ticks] : ticks;
}

/** 10^value: '1e−5', '0.1', '10'. */
function powerOfTen(value) {
  if (value <= LEAST) return "0";
  return Math.abs(value) <= 2 ? shown(Number((10 ** value).toPrecision(3))) : `1e${signed(String(value))}`;
}

function knownRange(values) {
  const known = values.filter(isNumber);
  return known.length > 0 ? range(known) : [0, 1];
}

/** Some round numbers, the first and the last of which hold the two between them: an axis is drawn from tick to tick. */
function roundTicks(low, high, least = 0) {
  const rough = (high - low || 1) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(least, [1, 2, 5, 10].map((digit) => digit * power).find((size) => size >= rough));
  const first = Math.floor(low / step + 0.1); // what is hardly beyond a tick needs no other
  const last = Math.max(first + 1, Math.ceil(high / step - 0.1));
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(8)));
}

/** Long words without their middle: names that belong together begin alike and differ at their end. */
function clipped(text) {
  const plain = String(text);
  const head = Math.ceil((LETTERS - 1) / 2);
  return plain.length > LETTERS ? `${plain.slice(0, head)}…${plain.slice(head + 1 - LETTERS)}` : plain;
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
