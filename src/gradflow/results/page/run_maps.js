/* Heat maps of a run's gradients, over training, beside their profile as initialised, at the end and as theory has it. */

const ZERO = -999; // stands for an exact zero, whose logarithm is −∞
const BROKEN = 999; // stands for what was not finite
const OVER_TIME = { time_jacobian: "‖∂h_T/∂h_t‖", forget_leak: "∏ f after t" }; // and time_grad_x: ‖∂L/∂x_t‖

/**
 * Two figures that share their vertical axis. `rows`: names or numbers from the bottom up; `log10`: row × step;
 * `theory`: per row, or null and `why`.
 */
function heatAndProfile({ title, label, rowTitle, rows, steps, log10, theory, why, file }) {
  const finite = log10.flat().filter((number) => isNumber(number) && number > ZERO && number < BROKEN);
  const [low, high] = finite.length > 0 ? range(finite) : [0, 1];
  // an exact zero is drawn darker than all else, below the least that is not; what is not finite is left blank
  const bottom = low - 0.08 * (high - low || 1);
  const value = (number) => (number === null || number >= BROKEN ? null : number <= ZERO ? bottom : number);
  const z = log10.map((row) => row.map(value));
  if (rows.length === 1)
    return overSteps({ title: `${label}, ${rowTitle} ${rows[0]}`, label, steps, values: finiteOnly(log10)[0], file });
  const height = Math.max(300, Math.min(520, 130 + 9 * rows.length));
  const yaxis = rowAxis(rows, rowTitle);
  const heat = (look, width) => ({
    data: [
      {
        ...{ type: "heatmap", x: steps, y: yaxis.at, z, colorscale: cividis(), hoverongaps: false },
        colorbar: {
          title: { text: `log₁₀ ${words(label)}`, side: "right" },
          thickness: 13,
          outlinewidth: 0,
          ...(width < 420 ? { tickfont: { size: 10 } } : {}),
        },
        text: log10.map((row, r) => row.map((number, s) => cellWords(rowTitle, rows[r], steps[s], label, number))),
        hovertemplate: "%{text}<extra></extra>",
      },
    ],
    layout: layoutFor(look, { xaxis: { title: { text: "training step" } }, yaxis: yaxis.layout }),
  });
  const profile = (look) => ({
    data: profiles(finiteOnly(log10), steps, theory, yaxis.at, look),
    layout: layoutFor(look, {
      xaxis: { title: { text: `log₁₀ ${words(label)}` } },
      yaxis: { ...yaxis.layout, ...(rows.length > 1 ? { range: [yaxis.at[0] - 0.5, yaxis.at.at(-1) + 0.5] } : {}) },
    }),
  });
  const note = why && !theory ? `No theory line: ${why}` : null;
  return make(
    "div",
    { class: "map" },
    chart(title, heat, { height, file }),
    chart(`As initialised and at the end`, profile, { height, file: `${file}-profile`, note }),
  );
}

/** Of one block alone a line says it all. */
function overSteps({ title, label, steps, values, file }) {
  const build = (look) => ({
    data: [
      {
        ...{
          type: "scatter",
          mode: "lines",
          x: steps,
          y: values.map((value) => (value === null ? null : 10 ** value)),
        },
        ...{ line: { color: stepColours(look)[0], width: 2 }, hovertemplate: "step %{x}: %{y:.3g}<extra></extra>" },
      },
    ],
    layout: layoutFor(look, {
      xaxis: { title: { text: "training step" }, rangemode: "tozero" },
      yaxis: { title: { text: words(label) }, type: "log", tickfont: { size: 10.5 } },
    }),
  });
  return chart(title, build, { height: 240, file });
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

function finiteOnly(log10) {
  return log10.map((row) =>
    row.map((number) => (number === null || number <= ZERO || number >= BROKEN ? null : number)),
  );
}

function cellWords(rowTitle, row, step, label, number) {
  const value =
    number === null
      ? "not measured"
      : number >= BROKEN
        ? "not finite"
        : number <= ZERO
          ? "exactly 0"
          : signed((10 ** number).toExponential(2));
  return `${words(rowTitle)} ${words(row)}, step ${step}<br>${words(label)}: ${value}`;
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
        theory.map((number) => (number === null || number <= ZERO || number >= BROKEN ? null : number)),
        look.ink,
        "dot",
        "x-thin-open",
      ),
      mode: "lines",
    });
  return lines;
}

/** All maps of a run: block × step for every quantity, time step × training step for every recurrent layer. */
function runMaps(details, name) {
  const byBlock = (details.heat ?? []).map((one) => {
    const known = (details.theory ?? []).find(({ quantity }) => quantity === one.quantity);
    return heatAndProfile({
      title: `${one.label ?? one.quantity} by block and training step`,
      label: one.label ?? one.quantity,
      rowTitle: "block",
      rows: one.blocks,
      steps: one.steps,
      log10: one.log10,
      theory: known?.log10,
      why: known?.why,
      file: `${name}-${one.quantity}`,
    });
  });
  const byTime = (details.time ?? []).map((one) => {
    const known = one.quantity === "time_grad_h" ? details.time_theory?.[one.layer] : null;
    const label = timeLabel(one.quantity);
    return heatAndProfile({
      title: `${label} of ${one.layer} by time step and training step`,
      label,
      rowTitle: "time step t",
      rows: one.times,
      steps: one.steps,
      log10: one.log10,
      theory: known?.log10,
      why: known?.why,
      file: `${name}-${one.layer}-${one.quantity}`,
    });
  });
  return [...byBlock, ...byTime];
}

function timeLabel(quantity) {
  const state = /^time_grad_([a-z]+)$/.exec(quantity)?.[1];
  return state ? `‖∂L/∂${state}_t‖` : (OVER_TIME[quantity] ?? quantity);
}
