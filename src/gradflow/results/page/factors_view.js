/* The metric and the gradient ratio by one factor, a line for each technique; and what changed the most. */

const LINES = 8; // more of them are drawn when they are asked for
const BANDS = 3; // more lines than that have bars instead of bands, which would cover each other

const factorsView = {
  name: "factors",
  label: "Factors",

  async show(panel, place) {
    const { series, left_out } = hasPart("factors") ? await part("factors") : { series: [] };
    const effects = hasPart("effects") ? await part("effects") : [];
    const wanted = JSON.stringify([place.task, place.x, place.by]);
    if (this.series === series && this.effects === effects && this.wanted === wanted) return;
    Object.assign(this, { series, effects, wanted });
    keepingFocus(panel, () => {
      empty(panel);
      if (series.length > 0) panel.append(...factorCharts(series, place, left_out));
      else panel.append(make("p", { class: "soft" }, "Nothing to draw: no two factors vary together yet."));
      panel.append(...effectsSection(effects, place.task));
    });
  },
};

/** The value asked for if it is one of those there are, else the first. */
function oneOf(values, asked) {
  return values.find((value) => String(value) === String(asked)) ?? values[0];
}

function unique(values) {
  return [...new Set(values)];
}

function factorCharts(series, place, leftOut) {
  const tasks = unique(series.map(({ task }) => task));
  const task = oneOf(tasks, place.task);
  const ofTask = series.filter((one) => one.task === task);
  const xs = unique(ofTask.map(({ x }) => x));
  const x = oneOf(xs, place.x ?? "depth");
  const bys = unique(ofTask.filter((one) => one.x === x).map(({ by }) => by));
  const by = oneOf(bys, place.by ?? readable(ofTask, x, bys));
  const drawn = ofTask.filter((one) => one.x === x && one.by === by);
  const tools = make(
    "div",
    { class: "tools" },
    tasks.length > 1 && choice("task", tasks, task, (value) => go({ task: value, x: null, by: null }, true)),
    choice("along", xs, x, (value) => go({ x: value }, true)),
    choice("a line for each", bys, by, (value) => go({ by: value }, true)),
  );
  const of = (value) => drawn.filter((one) => one.value === value);
  const others = ["gradient_ratio", "memory_horizon"].filter((value) => of(value).length > 0);
  const figures = ["metric", ...others].map((value) => factorChart(of(value), value, { task, x, by }));
  const pooled = unique(drawn.flatMap((one) => one.pooled ?? []));
  const over = pooled.length > 0 ? `seeds and ${pooled.join(", ")}` : "seeds";
  const absent = leftOut > 0 ? ` ${leftOut} more pairs of factors have too many lines to be drawn.` : "";
  const note = make(
    "p",
    { class: "soft" },
    `Means over ${over} with 95 % intervals, of the runs that completed; a cross marks where any diverged or failed. Those of the gradient ratio are geometric, and of all runs that have one; of a memory horizon the median and the range are drawn, with an open marker where it is at least so long (≥): the gradient never fell so low. The scale is that of the means: a wide interval may leave the chart. A click on a key hides its line, with Shift it leaves it alone.${absent}`,
  );
  return [tools, make("div", { class: "two" }, figures), note];
}

/** The recipe where its lines can be told apart, else the first factor whose can. */
function readable(ofTask, x, bys) {
  const lines = (by) => new Set(ofTask.filter((one) => one.x === x && one.by === by).map((one) => one.technique)).size;
  return ["recipe", ...bys].find((by) => bys.includes(by) && lines(by) <= LINES);
}

function factorChart(drawn, value, { task, x, by }) {
  const what = value === "metric" ? spoken(drawn[0]?.metric ?? "metric") : value.replace("_", " ");
  const title = `${task}: ${what} by ${x}, for each ${by}`;
  if (drawn.length === 0) return make("p", { class: "soft" }, `No run has a ${what}.`);
  const axis = xAxis(drawn);
  const scale = { metric: metricScale, gradient_ratio: ratioScale, memory_horizon: horizonScale }[value](drawn);
  const build = (look) => ({
    data: drawn.flatMap((one, i) =>
      technique(one, lineLook(i, drawn.length, look, ordered(drawn)), {
        ...{ axis, ...scale, bands: drawn.length <= BANDS },
        lowest: scale.edge ? scale.edge(i) : scale.lowest,
      }),
    ),
    layout: layoutFor(look, {
      xaxis: { ...axis.layout, title: { text: words(axis.log ? `${x} (log scale)` : x) } },
      yaxis: { title: { text: words(scale.title ?? what) }, ...scale.layout },
      shapes: scale.levels.map((y) => ({
        ...{ type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y },
        line: { color: look.zero, width: 1, dash: "dot" },
      })),
    }),
  });
  return chart(title, build, { file: `${task}-${what}-by-${x}-for-${by}` });
}

/** Lines of a number have colours along a scale. */
function ordered(drawn) {
  return drawn.every(({ technique: name }) => name !== "" && Number.isFinite(Number(name)));
}

/** Words in their order, numbers by their size, and these on a log scale where they span more than a decade. */
function xAxis(drawn) {
  const values = unique(drawn.flatMap(({ points }) => points.map((point) => point.x)));
  if (!values.every(isNumber))
    return {
      numeric: false,
      log: false,
      layout: { type: "category", categoryorder: "array", categoryarray: values.map(words) },
    };
  const [low, high] = range(values);
  const log = low > 0 && high / low > 12;
  const ticks = values.length <= 10 ? { tickvals: values, ticktext: values.map(shown) } : {};
  return { numeric: true, log, layout: { type: log ? "log" : "linear", ...ticks } };
}

/** The scale of the means and of chance, so that a wide interval does not press all lines flat; logarithmic for a metric
    of which less is better and that spans a lot. Crosses stand near its lower edge, those of no two lines in one place. */
function metricScale(drawn) {
  const means = drawn.flatMap(({ points }) => points.map((point) => point.mean)).filter(isNumber);
  const chances = unique(drawn.map(({ chance }) => chance)).filter(isNumber);
  if (means.length === 0) return { levels: chances, log: false, edge: (i) => 0.03 * i, layout: { range: [-0.05, 1] } };
  const [low, high] = range([...means, ...chances]);
  if (drawn[0].better === "smaller" && low > 0 && high / low > 20) {
    const ends = [Math.log10(low / 1.6), Math.log10(high * 1.6)];
    return { levels: chances, log: true, edge: (i) => (low / 1.5) * 1.06 ** i, layout: { type: "log", range: ends } };
  }
  const margin = 0.12 * (high - low || Math.abs(high) || 1);
  const edge = (i) => low - (0.85 - 0.12 * i) * margin;
  return { levels: chances, log: false, edge, layout: { range: [low - margin, high + margin] } };
}

function ratioScale(drawn) {
  const layout = { type: "log", dtick: decades(drawn), tickfont: { size: 10.5 } };
  return { levels: [1], log: true, lowest: floorOf(drawn), title: "gradient ratio, first ÷ last block", layout };
}

function horizonScale() {
  return { levels: [], log: false, lowest: 0, title: "memory horizon (time steps)", layout: { rangemode: "tozero" } };
}

/** Where an exact zero is drawn on a log axis: a decade below the smallest that is not. */
function floorOf(drawn) {
  const positive = drawn
    .flatMap(({ points }) => points.flatMap(({ mean: middle, low }) => [middle, low]))
    .filter((value) => isNumber(value) && value > 0);
  return positive.length > 0 ? range(positive)[0] / 10 : 1e-45;
}

function decades(drawn) {
  const positive = drawn
    .flatMap(({ points }) => points.flatMap(({ mean: middle, low, high }) => [middle, low, high]))
    .filter((value) => isNumber(value) && value > 0);
  const [low, high] = positive.length > 0 ? range(positive) : [1, 1];
  return Math.max(1, Math.ceil((Math.log10(high) - Math.log10(low)) / 7)); // a tick at every so many powers of ten
}

/** The traces of one technique: its line, and its interval as a band or as bars. */
function technique({ technique: name, points, value }, { color, dash, symbol }, { axis, lowest, bands, log }) {
  const height = (number) => (log && number <= 0 ? lowest : number);
  const known = points.filter((point) => isNumber(point.mean));
  const place = (point) => (axis.numeric ? point.x : words(point.x));
  const x = known.map(place);
  const y = known.map((point) => height(point.mean));
  const held = known.every((point) => isNumber(point.low));
  const band = bands && axis.numeric && held && known.length > 1;
  const bars = {
    type: "data",
    symmetric: false,
    array: known.map((p, i) => (isNumber(p.high) ? p.high - y[i] : 0)),
    arrayminus: known.map((p, i) => (isNumber(p.low) ? y[i] - height(p.low) : 0)),
    color: faded(color, 0.6),
    thickness: 1.2,
    width: 3,
  };
  const symbols = known.map((point) => markerOf(point, symbol, log));
  const line = {
    ...{
      type: "scatter",
      mode: "lines+markers",
      name: words(name),
      meta: name,
      legendgroup: name,
      x,
      y,
      line: { color, dash, width: 2 },
    },
    marker: { color, symbol: symbols, size: symbols.map(sizeOf), opacity: 1, line: { width: 0 } }, // no bubbles
    text: known.map((point) => pointWords(name, point)),
    hovertemplate: "%{text}<extra></extra>",
    ...(band ? {} : { error_y: bars }),
  };
  const ended = points.filter((point) => point.ended);
  const crosses = {
    ...{ type: "scatter", mode: "markers", legendgroup: name, showlegend: false },
    ...{ x: ended.map(place), y: ended.map(() => lowest) },
    marker: { color, size: 8, symbol: "x-thin-open", line: { width: 2 } },
    text: ended.map((point) => `<b>${words(name)}</b><br>at ${words(shown(point.x))}: ${words(point.ended)}`),
    hovertemplate: "%{text}<extra></extra>",
  };
  const lines = ended.length > 0 ? [line, crosses] : [line];
  if (!band) return lines;
  const low = known.map((point) => height(point.low));
  const high = known.map((point) => height(point.high));
  const area = {
    type: "scatter",
    mode: "lines",
    x: [...x, ...x.toReversed()],
    y: [...high, ...low.reverse()],
    fill: "toself",
    fillcolor: faded(color, 0.16),
  };
  return [{ ...area, line: { width: 0, color }, legendgroup: name, showlegend: false, hoverinfo: "skip" }, ...lines];
}

/** Open where the value is none that was measured: a zero below the log axis, or a lower bound. */
function markerOf({ mean: middle, least }, symbol, log) {
  if (log && middle <= 0) return "triangle-down-open";
  return least?.includes("mean") ? `${symbol}-open` : symbol;
}

/** The line shows through an open marker: it takes more of it to be seen. */
function sizeOf(symbol) {
  return symbol.endsWith("-open") ? 9 : 7;
}

function pointWords(name, point) {
  const { x, mean: value, low, high, n, ended, least } = point;
  const said = least ? boundWords(point) : withInterval({ value, low, high });
  const lost = ended ? `; ${words(ended)}` : "";
  return `<b>${words(name)}</b><br>at ${words(shown(x))}: ${said}<br>n = ${n}${lost}`;
}

/** '≥ 200', or '120 (37 … ≥ 200)': some of them are lower bounds. */
function boundWords(point) {
  const said = (key) => (point.least.includes(key) ? `≥ ${shown(point[key])}` : shown(point[key]));
  const ends = said("low") === said("high") ? "" : ` (${said("low")} … ${said("high")})`;
  return said("mean") + ends;
}
