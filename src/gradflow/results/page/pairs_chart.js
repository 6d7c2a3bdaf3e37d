/* The pairs behind a comparison: each as a line from A to B, and their differences with the mean. */

/** Two figures: what each pair had under A and B, and the differences B − A. */
function pairCharts(one) {
  const better = (pair) => (pair.b - pair.a) * (one.larger_is_better ? 1 : -1);
  const kinds = [
    { key: "better", words: `${one.b} better`, of: (pair) => better(pair) > 0 },
    { key: "worse", words: `${one.b} worse`, of: (pair) => better(pair) < 0 },
    { key: "equal", words: "equal", of: (pair) => better(pair) === 0 },
  ]
    .map((kind) => ({ ...kind, pairs: one.pairs.filter(kind.of) }))
    .filter(({ pairs }) => pairs.length > 0);
  const stem = `${one.task}-${one.factor}-${one.a}-${one.b}`;
  return [
    chart(`${spoken(one.metric)} of every pair`, (look) => slopes(one, kinds, look), { file: `${stem}-pairs` }),
    chart(`Difference within every pair`, (look) => differences(one, kinds, look), { file: `${stem}-differences` }),
  ];
}

function kindColour(key, look) {
  return { better: betterColour(look), worse: WORSE, equal: look.zero }[key];
}

function slopes(one, kinds, look) {
  const opacity = Math.max(0.08, Math.min(0.9, 12 / one.pairs.length));
  const data = kinds.map(({ key, words: said, pairs }) => ({
    ...{ type: "scatter", mode: "lines+markers", legendgroup: key, name: words(said), meta: said },
    x: pairs.flatMap(() => [0, 1, null]),
    y: pairs.flatMap(({ a, b }) => [a, b, null]),
    line: { color: kindColour(key, look), width: 1.5, dash: key === "worse" ? "dash" : "solid" },
    marker: { color: kindColour(key, look), size: 6 },
    opacity: Math.max(opacity, 0.25),
    text: pairs.flatMap((pair) => [pairWords(pair, one), pairWords(pair, one), ""]),
    hovertemplate: "%{text}<extra></extra>",
  }));
  return {
    data,
    layout: layoutFor(look, {
      xaxis: {
        tickvals: [0, 1],
        ticktext: [one.a, one.b].map((level, i) => wrapped(`${"AB"[i]}: ${shown(level)}`, 24)),
        range: [-0.25, 1.25],
        title: { text: words(one.factor) },
      },
      yaxis: { title: { text: words(spoken(one.metric)) } },
    }),
  };
}

/** Sorted, so that the share of pairs that improved can be read off; the mean with its interval stands above them. */
function differences(one, kinds, look) {
  const sorted = [...one.pairs].sort((p, q) => p.b - p.a - (q.b - q.a));
  const place = new Map(sorted.map((pair, i) => [pair, i + 1]));
  const data = kinds.map(({ key, words: said, pairs }) => ({
    ...{ type: "scatter", mode: "markers", legendgroup: key, name: words(said), meta: said },
    x: pairs.map(({ a, b }) => b - a),
    y: pairs.map((pair) => place.get(pair)),
    marker: { color: kindColour(key, look), size: 7, symbol: key === "worse" ? "diamond" : "circle" },
    text: pairs.map((pair) => pairWords(pair, one)),
    hovertemplate: "%{text}<extra></extra>",
  }));
  const { value, low, high } = one.difference;
  const above = Math.max(1, sorted.length * 0.08);
  const top = sorted.length + above;
  data.push({
    ...{ type: "scatter", mode: "markers", legendgroup: "mean", name: "mean, 95 % interval", x: [value], y: [top] },
    marker: { color: look.ink, size: 11, symbol: "diamond" },
    error_x: {
      type: "data",
      symmetric: false,
      array: [isNumber(high) ? high - value : 0],
      arrayminus: [isNumber(low) ? value - low : 0],
      color: look.ink,
      thickness: 2,
      width: 5,
    },
    hovertemplate: `mean ${withInterval(one.difference)}<extra></extra>`,
  });
  return {
    data,
    layout: layoutFor(look, {
      xaxis: {
        title: { text: words(`${spoken(one.metric)}, B − A`) },
        zeroline: true,
        zerolinecolor: look.zero,
        zerolinewidth: 1.5,
      },
      yaxis: {
        title: { text: "pairs, by their difference" },
        tickvals: counted(sorted.length),
        range: [1 - above, top + above], // the mean stands above the last pair
      },
    }),
  };
}

/** 1 and the round numbers up to `most`, six at most: pairs come whole. */
function counted(most) {
  const step = [1, 2, 5].flatMap((digit) => [0, 1, 2, 3, 4].map((power) => digit * 10 ** power)).sort(compare);
  const by = step.find((size) => most / size <= 6) ?? most;
  const round = Array.from({ length: Math.floor(most / by) }, (_, i) => (i + 1) * by);
  return round[0] === 1 ? round : [1, ...round];
}

function pairWords({ setting, run_a, run_b, a, b }, one) {
  return `<b>${words(setting)}</b><br>${words(one.a)}: ${scored(run_a, a)}<br>${words(one.b)}: ${scored(run_b, b)}<br>difference ${shown(b - a)}`;
}
