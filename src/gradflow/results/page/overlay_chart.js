/* Curves of several runs: what a run has, smoothed where asked, a line for each. */

const DERIVED = {
  "gradient norm of the first block": (first, _last, zero) => powerOf(first, zero),
  "gradient ratio, first ÷ last block": ratioOf,
};

function isDerived(kind) {
  return Object.hasOwn(DERIVED, kind);
}

/** name → { steps, values }: what was logged, and what the norms by block tell. */
function curvesOfRun(details) {
  const curves = new Map((details?.curves ?? []).map(({ name, steps, values }) => [name, { steps, values }]));
  const norms = details?.heat?.find(({ quantity }) => quantity === "grad_norm");
  if (!norms || norms.steps.length < 2 || norms.blocks.length < 2) return curves;
  const [first, last] = [norms.log10[0], norms.log10.at(-1)];
  for (const [name, derived] of Object.entries(DERIVED)) {
    const values = first.map((value, i) => derived(value, last[i], norms.zero));
    curves.set(name, { steps: norms.steps, values });
  }
  return curves;
}

/** An exact zero and what is not finite are written as logarithms that no number has. */
function powerOf(log10, zero) {
  if (log10 === zero) return 0;
  return isNumber(log10) && log10 !== -zero ? 10 ** log10 : null;
}

/** None where the last is 0, or where either is not finite. */
function ratioOf(first, last, zero) {
  const known = [first, last].every((log10) => isNumber(log10) && log10 !== -zero);
  if (!known || last === zero) return null;
  return first === zero ? 0 : 10 ** (first - last);
}

/** Whether a figure is one of powers of ten: gradients are, and losses that fall a hundredfold. */
function isLog(kind, lines) {
  if (isDerived(kind)) return true;
  const known = lines.flatMap(({ curve }) => curve.values).filter(isNumber);
  const [low, high] = known.length > 0 ? range(known) : [0, 0];
  return low > 0 && high / low > 100;
}

/** `state()` gives { log, smooth }, which may change between two drawings. */
function overlayChart(kind, lines, state, note) {
  const said = note.filter(Boolean).join(" ");
  const open = (plot) =>
    plot.on("plotly_click", ({ points }) => go({ run: points[0].data.legendgroup, against: null }));
  const build = (look) => {
    const { log, smooth } = state();
    const raw = lines.map((line, i) => trace(line, line.curve.values, i, look));
    const faint = { opacity: 0.25, showlegend: false, mode: "lines", hoverinfo: "skip", hovertemplate: null };
    const data = smooth
      ? [
          ...raw.map((one) => ({ ...one, ...faint })),
          ...lines.map((line, i) => trace(line, smoothed(line.curve.values, smooth, log), i, look)),
        ]
      : raw;
    return {
      data,
      layout: layoutFor(look, {
        xaxis: { title: { text: "training step" }, rangemode: "tozero" },
        yaxis: { title: { text: words(log ? `${kind} (log scale)` : kind) }, type: log ? "log" : "linear" },
      }),
    };
  };
  const file = `${kind}-of-${lines.length}-runs`;
  return chart(kind, build, { height: 420, drawn: open, file, note: said || null });
}

/** Told by colour and marker, and by dashes, of which there are fewer, so that no two of them go together twice. */
function trace({ id, name, curve }, values, i, look) {
  const { color, symbol } = lineLook(i, MOST_LINES, look);
  const dash = DASHES[i % DASHES.length];
  return {
    ...{ type: "scatter", mode: "lines+markers", x: curve.steps, y: values },
    ...{ name: words(name), meta: name, legendgroup: id },
    line: { color, dash, width: 2 },
    marker: { color, size: 7, symbol, maxdisplayed: 12 }, // of many steps, some have a marker
    hovertemplate: `${wrapped(name, 48)}<br>step %{x}: %{y:.4g}<extra></extra>`,
  };
}

/** The exponential moving average, of logarithms on a scale of them; not drawn towards 0 at its start. */
function smoothed(values, weight, log) {
  let sum = 0;
  let share = 0;
  return values.map((value) => {
    if (!isNumber(value) || (log && value <= 0)) return null;
    sum = weight * sum + (1 - weight) * (log ? Math.log(value) : value);
    share = weight * share + (1 - weight);
    return log ? Math.exp(sum / share) : sum / share;
  });
}
