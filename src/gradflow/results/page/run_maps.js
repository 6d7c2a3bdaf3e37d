/* Heat maps of a run's gradients, over training, beside their profile as initialised, at the end and as theory has it. */

const ZERO = -999; // stands for an exact zero, whose logarithm is −∞
const BROKEN = 999; // stands for what was not finite
const STRIP = [0.055, 0.085]; // shares of the width: where the strip for theory ends and where the steps begin
const OVER_TIME = { time_jacobian: "‖∂h_T/∂h_t‖", forget_leak: "∏ f after t" }; // and those with a state's letter

/**
 * Two figures that share their vertical axis. `rows`: names or numbers from the bottom up; `log10`: row × step;
 * `theory`: of the first step, per row, or null and `why`; it is a strip left of the map and a line in the profile.
 */
function heatAndProfile({ title, label, rowTitle, rows, steps, log10, theory, why, file, of }) {
  if (rows.length === 1) {
    const line = { name: `${rowTitle} ${rows[0]}`, values: log10[0] };
    return overSteps({ title: `${label}, ${line.name}`, label, steps, lines: [line], file, of });
  }
  const known = theory?.some((number) => isFinite10(number)) ? theory : null;
  const finite = [...log10.flat(), ...(known ?? [])].filter(isFinite10);
  const [low, high] = finite.length > 0 ? range(finite) : [0, 1];
  // an exact zero is drawn darker than all else, below the least that is not; what is not finite is left blank
  const bottom = low - 0.08 * (high - low || 1);
  const value = (number) => (number === null || number >= BROKEN ? null : number <= ZERO ? bottom : number);
  const height = Math.max(300, Math.min(520, 130 + 9 * rows.length));
  const yaxis = rowAxis(rows, rowTitle);
  const zeros = log10.some((row) => row.some((number) => number !== null && number <= ZERO));
  const margin = { l: 56, r: 16, t: known ? 24 : 12, b: 44 };
  const shared = { type: "heatmap", y: edges(yaxis.at, 0.5), coloraxis: "coloraxis", hoverongaps: false };
  const heat = (look, width) => ({
    data: [
      {
        ...{ ...shared, x: edges(steps), z: log10.map((row) => row.map(value)) },
        text: log10.map((row, r) =>
          row.map((number, s) => cellWords(rowTitle, rows[r], `step ${steps[s]}`, label, number)),
        ),
        hovertemplate: "%{text}<extra></extra>",
      },
      ...(known ? [strip(known, value, rows, rowTitle, label, shared)] : []),
    ],
    layout: layoutFor(look, {
      ...(known ? theoryAxis(look) : {}),
      margin,
      xaxis: { title: { text: "training step" }, ...stepTicks(steps), ...(known ? { domain: [STRIP[1], 1] } : {}) },
      yaxis: { ...yaxis.layout, ...(known ? { anchor: "free", position: 0 } : {}) },
      coloraxis: {
        ...{ colorscale: cividis(), cmin: zeros ? bottom : low, cmax: high > low ? high : low + 1 },
        colorbar: {
          title: { text: `log₁₀ ${formula(label)}`, side: "right" },
          ...{ thickness: 13, outlinewidth: 0 },
          ...(width < 420 ? { tickfont: { size: 10 } } : {}),
        },
      },
    }),
  });
  const profile = (look) => ({
    data: profiles(finiteOnly(log10), steps, known, yaxis.at, look),
    layout: layoutFor(look, {
      margin,
      xaxis: { title: { text: `log₁₀ ${formula(label)}` } },
      yaxis: { ...yaxis.layout, range: range(edges(yaxis.at, 0.5)) },
    }),
  });
  const note = why && !known ? `No theory line: ${why}` : null;
  return make(
    "div",
    { class: "map", "data-key": file },
    chart(title, heat, { height, file, of }),
    chart("As initialised and at the end", profile, { height, file: `${file}-profile`, note, of: `${title}, ${of}` }),
  );
}

/** What theory says of the first step, left of it, as in the figures for a paper. */
function strip(theory, value, rows, rowTitle, label, shared) {
  return {
    ...{ ...shared, x: [0, 1], xaxis: "x2", z: theory.map((number) => [value(number)]) },
    text: theory.map((number, r) => [cellWords(rowTitle, rows[r], "theory, as initialised", label, number)]),
    hovertemplate: "%{text}<extra></extra>",
  };
}

/** Its axis, which no zoom of the steps moves, its frame and its name. */
function theoryAxis(look) {
  const paper = { xref: "paper", yref: "paper" };
  return {
    xaxis2: { domain: [0, STRIP[0]], anchor: "y", fixedrange: true, visible: false, range: [0, 1] },
    shapes: [{ ...paper, type: "rect", x0: 0, x1: STRIP[0], y0: 0, y1: 1, line: { color: look.ink, width: 1 } }],
    annotations: [
      { ...paper, ...{ x: 0, y: 1, xanchor: "left", yanchor: "bottom" }, text: "theory", showarrow: false, font: { size: 11 } },
    ],
  };
}

/**
 * Where cells begin and end: half way from one to the next. The first begins and the last ends where it is measured,
 * or `beyond` it.
 */
function edges(at, beyond = 0) {
  if (at.length === 1) return [at[0] - 0.5, at[0] + 0.5];
  const between = at.slice(1).map((place, i) => (place + at[i]) / 2);
  return [at[0] - beyond, ...between, at.at(-1) + beyond];
}

/** Of a single step Plotly's own ticks would be parts of one. */
function stepTicks(steps) {
  return steps.length === 1 ? { tickvals: steps } : {};
}

/** Lines over training, where a map would have one row, or rows that say nothing of what is between them. */
function overSteps({ title, label, steps, lines, file, of, note = null }) {
  const many = lines.length > 1;
  const build = (look, width, log) => ({
    data: finiteOnly(lines.map(({ values }) => values)).map((values, i) => {
      const scale = lineScale(look);
      const color = many ? scale[Math.round((i * (scale.length - 1)) / (lines.length - 1))][1] : stepColours(look)[0];
      const dash = DASHES[i % DASHES.length];
      return {
        ...{ type: "scatter", mode: "lines", name: lines[i].name, legendgroup: lines[i].name },
        ...{ x: steps, y: values.map((number) => (number === null ? null : 10 ** number)) },
        line: { color, width: 2, dash },
        hovertemplate: `${many ? `${words(lines[i].name)}, ` : ""}step %{x}: %{y:.3g}<extra></extra>`,
      };
    }),
    layout: layoutFor(look, {
      xaxis: { title: { text: "training step" }, rangemode: "tozero" },
      yaxis: { title: { text: formula(label) }, type: log ? "log" : "linear", tickfont: { size: 10.5 } },
    }),
  });
  return chart(title, build, { height: 240, file, of, log: true, note });
}

/** Numbers stand where they are; names one above the other. */
function rowAxis(rows, rowTitle) {
  const numbers = rows.map((row) => (isNumber(row) ? row : Number(/(\d+)$/.exec(row)?.[1] ?? NaN)));
  const numeric = numbers.every((number, i) => isNumber(number) && (i === 0 || number > numbers[i - 1]));
  const title = { text: words(rowTitle) };
  if (numeric) return { at: numbers, layout: { title, ...(numbers.length <= 12 ? { tickvals: numbers } : {}) } };
  const every = Math.ceil(rows.length / 14);
  const marked = rows.map((row, i) => [i, words(clipped(row))]).filter(([i]) => i % every === 0);
  return {
    at: rows.map((_, i) => i),
    layout: { title, tickvals: marked.map(([i]) => i), ticktext: marked.map(([, name]) => name) },
  };
}

function isFinite10(number) {
  return isNumber(number) && number > ZERO && number < BROKEN;
}

function finiteOnly(log10) {
  return log10.map((row) => row.map((number) => (isFinite10(number) ? number : null)));
}

function cellWords(rowTitle, row, when, label, number) {
  const value =
    number === null
      ? "not measured"
      : number >= BROKEN
        ? "not finite"
        : number <= ZERO
          ? "exactly 0"
          : signed((10 ** number).toExponential(2));
  return `${formula(rowTitle)} ${words(row)}, ${when}<br>${formula(label)}: ${value}`;
}

function profiles(z, steps, theory, at, look) {
  const line = (name, x, color, dash, symbol) => ({
    ...{ type: "scatter", mode: x.length > 40 ? "lines" : "lines+markers", name, legendgroup: name, x, y: at },
    ...{
      line: { color, dash, width: 2 },
      marker: { color, symbol, size: 6 },
      hovertemplate: `${name}<br>%{y}: 10^%{x:.2f}<extra></extra>`,
    },
  });
  const last = steps.length - 1;
  const [first, final] = stepColours(look);
  const lines = [
    line(
      `step ${steps[0]}`,
      z.map((row) => row[0]),
      first,
      "solid",
      "circle",
    ),
  ];
  if (last > 0)
    lines.push(
      line(
        `step ${steps[last]}`,
        z.map((row) => row[last]),
        "#d55e00",
        "dash",
        "square",
      ),
    );
  if (theory)
    lines.push({
      ...line(
        "theory, as initialised",
        finiteOnly([theory])[0],
        look.ink,
        "dot",
        "x-thin-open",
      ),
      mode: "lines",
    });
  return lines;
}

/** All maps of a run: block × step for every quantity, time step × training step for every recurrent layer. */
function runMaps(details, run) {
  const byBlock = (details.heat ?? []).map((one) => {
    const known = (details.theory ?? []).find(({ quantity }) => quantity === one.quantity);
    const label = one.label ?? one.quantity;
    return heatAndProfile({
      ...{ title: `${label} by block and training step`, label, rowTitle: "block", rows: one.blocks },
      ...{ steps: one.steps, log10: one.log10, theory: known?.log10, why: known?.why },
      ...{ file: `${run.id}-${one.quantity}`, of: run.title },
    });
  });
  const byTime = (details.time ?? []).flatMap((one) => {
    const ends = (details.ends ?? []).filter((each) => each.layer === one.layer && each.quantity === one.quantity);
    const known = one.quantity === "time_grad_h" ? details.time_theory?.[one.layer] : null;
    const label = timeLabel(one.quantity);
    const map = heatAndProfile({
      ...{ title: `${label} of ${one.layer} by time step and training step`, label, rowTitle: "time step t" },
      ...{ rows: one.times, steps: one.steps, log10: one.log10, theory: known?.log10, why: known?.why },
      ...{ file: `${run.id}-${one.layer}-${one.quantity}`, of: run.title },
    });
    return [map, ...ends.map((each) => atSomeTimes(each, run))];
  });
  return [...byBlock, ...byTime];
}

/** Most training steps are measured at a few time steps alone: lines, for a map would be mostly blank. */
function atSomeTimes({ layer, quantity, times, steps, log10 }, run) {
  const label = timeLabel(quantity);
  return overSteps({
    ...{ title: `${label} of ${layer} over training, at some time steps`, label, steps },
    lines: log10.map((values, i) => ({ name: `t = ${times[i]}`, values })),
    ...{ file: `${run.id}-${layer}-${quantity}-ends`, of: run.title },
  });
}

/** 'time_grad_x': ‖∂L/∂x_t‖; 'time_jacobian_c': ‖∂h_T/∂c_t‖. */
function timeLabel(quantity) {
  const [, of, state] = /^time_(grad|jacobian)_([a-z]+)$/.exec(quantity) ?? [];
  if (!state) return OVER_TIME[quantity] ?? quantity;
  return of === "grad" ? `‖∂L/∂${state}_t‖` : `‖∂h_T/∂${state}_t‖`;
}
