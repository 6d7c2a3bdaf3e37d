/* A run's learning curves and histograms. */

/** One figure for each quantity: 'train/loss' and 'val/loss' share theirs. */
function curveCharts(curves, run) {
  const groups = new Map();
  for (const curve of curves ?? []) {
    const quantity = curve.name.replace(/^(train|val|valid|validation|test)\//, "");
    groups.set(quantity, [...(groups.get(quantity) ?? []), curve]);
  }
  return [...groups].map(([quantity, group]) => curveChart(quantity, group, run));
}

function curveChart(quantity, group, run) {
  const finite = group.flatMap(({ values }) => values).filter((value) => isNumber(value));
  const [low, high] = finite.length > 0 ? range(finite) : [0, 0];
  const build = (look, width, log) => ({
    data: group.map(({ name: full, steps, values }, i) => ({
      ...{
        type: "scatter",
        mode: steps.length > 30 ? "lines" : "lines+markers",
        x: steps,
        y: values,
        name: words(full),
        meta: full,
        legendgroup: full,
      },
      line: { color: lineLook(i + 4, 7, look).color, dash: DASHES[i % DASHES.length], width: 2 },
      marker: { color: lineLook(i + 4, 7, look).color, size: 5, symbol: MARKERS[i % MARKERS.length] },
      hovertemplate: `${words(full)}<br>step %{x}: %{y:.4g}<extra></extra>`,
    })),
    layout: layoutFor(look, {
      xaxis: { title: { text: "training step" }, rangemode: "tozero" },
      yaxis: { title: { text: words(log ? `${quantity} (log scale)` : quantity) }, type: log ? "log" : "linear" },
    }),
  });
  return chart(
    group.length === 1 ? group[0].name : `${quantity}: ${group.map(({ name: full }) => full.split("/")[0]).join(", ")}`,
    build,
    { height: 280, file: `${run.id}-${quantity}`, of: run.title, log: low > 0 ? high / low > 100 : null },
  );
}

/** Histograms by what they are of, the steps drawn over one another: a figure for each of a few blocks, or a list of them. */
function histogramCharts(histograms, run) {
  const groups = new Map();
  for (const one of histograms ?? []) {
    const of = one.title.replace(/, block .*$/, "");
    groups.set(of, [...(groups.get(of) ?? []), one]);
  }
  return [...groups].flatMap(([title, group]) => {
    const blocks = unique(group.map(({ block }) => block));
    const drawn = (block) =>
      histogramChart(
        title,
        block,
        group.filter((one) => one.block === block),
        run,
      );
    return blocks.length <= 4 ? blocks.map(drawn) : [oneOfMany(title, blocks, drawn, `${run.id} ${title}`)];
  });
}

const chosenBlocks = new Map(); // what was chosen last, for a run that is drawn anew while it goes on

function oneOfMany(title, blocks, drawn, key) {
  const block = oneOf(blocks, chosenBlocks.get(key));
  const holder = make("div", {}, drawn(block));
  const change = (to) => {
    chosenBlocks.set(key, to);
    empty(holder);
    holder.append(drawn(oneOf(blocks, to)));
  };
  return make("div", {}, choice(`${title}: block`, blocks, block, change), holder);
}

function histogramChart(title, block, group, run) {
  const heading = block === null || block === undefined ? title : `${title}, block ${block}`;
  const unit = { log2: "log₂ |element|", log10: "log₁₀ |element|" }[group[0].scale] ?? "element";
  const build = (look) => ({
    data: group.map(({ step, edges, counts }, i) => ({
      ...{ type: "scatter", mode: "lines", name: `step ${step}`, legendgroup: String(step) },
      x: edges.flatMap((edge) => [edge, edge]),
      y: [0, ...counts.flatMap((count) => [count, count]), 0],
      line: { color: stepColour(i, group.length, look), width: 1.8, dash: DASHES[i % DASHES.length] },
      ...(group.length === 1 ? { fill: "tozeroy", fillcolor: faded(stepColour(0, 1, look), 0.15) } : {}),
      hovertemplate: `step ${step}<br>%{x:.3g}: %{y}<extra></extra>`,
    })),
    layout: layoutFor(look, {
      xaxis: { title: { text: unit } },
      yaxis: { title: { text: "count" }, rangemode: "tozero" },
    }),
  });
  return chart(heading, build, { height: 260, file: `${run.id}-${heading}`, of: run.title, note: besides(group) });
}

/** The first and the last step have the colours that they have beside the heat maps; more of them are on a scale. */
function stepColour(i, count, look) {
  return count > 2 ? lineLook(i, count, look, true).color : stepColours(look)[i];
}

/** What has no logarithm stands beside a histogram, in words. */
function besides(group) {
  const said = group.map(({ step, zero, subnormal, nonfinite }) => {
    const others = [
      [zero, "exactly zero"],
      [subnormal, "subnormal"],
      [nonfinite, "not finite"],
    ].filter(([count]) => count > 0);
    return others.length > 0 ? `step ${step}: ${others.map(([count, words]) => `${count} ${words}`).join(", ")}` : "";
  });
  return said.some(Boolean) ? `Not drawn: ${said.filter(Boolean).join("; ")}.` : null;
}
