/* What changed the most: the effect of every level of every factor, as a forest plot. */

const EFFECTS_AT_ONCE = 20;

/** The heading, the figure and its explanation, or a line that says why there is none. */
function effectsSection(effects, asked) {
  const title = make("h2", {}, "What changed the most");
  if (effects.length === 0)
    return [title, make("p", { class: "soft" }, "No factor has two levels with runs that are otherwise equal.")];
  const tasks = unique(effects.map(({ task }) => task));
  return [
    title,
    ...tasks
      .filter((task) => tasks.length === 1 || asked === undefined || task === asked)
      .flatMap((task) => forest(effects.filter((one) => one.task === task))),
  ];
}

/** A recipe is several factors at once: its parts say more, where they vary by themselves. */
const COMPOSITE = ["recipe", "network"];
const SINGLE = "single factors";

function forest(effects) {
  const factors = unique(effects.map(({ factor }) => factor));
  const single = factors.filter((factor) => !COMPOSITE.includes(factor));
  const options =
    single.length > 0 && single.length < factors.length ? [SINGLE, ...factors] : ["all factors", ...factors];
  const holder = make("div");
  const draw = (chosen, count = EFFECTS_AT_ONCE) => {
    const kept = effects.filter(
      ({ factor }) => factor === chosen || (chosen === SINGLE ? single.includes(factor) : chosen === "all factors"),
    );
    empty(holder);
    holder.append(effectsChart(kept.slice(0, count)));
    if (count < kept.length)
      holder.append(
        make(
          "button",
          { type: "button", class: "small", onclick: () => draw(chosen, kept.length) },
          `Show all ${kept.length}`,
        ),
      );
  };
  draw(options[0]);
  return [
    factors.length > 1 &&
      make(
        "div",
        { class: "tools" },
        choice("effects of", options, options[0], (chosen) => draw(chosen)),
      ),
    holder,
  ].filter(Boolean);
}

function effectsChart(effects) {
  const { task } = effects[0];
  const metric = spoken(effects[0].metric);
  const rows = effects.map((_, i) => effects.length - 1 - i); // the largest at the top
  const build = (look, width) => {
    const across = width < 600 ? 20 : 44;
    const sides = [true, false].map((better) => {
      const chosen = effects.map((one, i) => ({ ...one, row: rows[i] })).filter((one) => one.better === better);
      const color = better ? betterColour(look) : WORSE;
      return { ...effectPoints(chosen, color, better), legendgroup: String(better), name: better ? "better" : "worse" };
    });
    const than = width < 600 ? "−" : "rather than";
    const labels = effects.map(({ factor, level, reference }) =>
      wrapped(`${factor}: ${shown(level)} ${than} ${shown(reference)}`, across),
    );
    return {
      data: sides.filter(({ x }) => x.length > 0),
      layout: layoutFor(look, {
        xaxis: {
          title: {
            text: words(
              width < 600
                ? `difference in ${metric}`
                : `difference in ${metric}, everything else equal (mean, 95 % interval)`,
            ),
          },
          zeroline: true,
          zerolinecolor: look.zero,
          zerolinewidth: 1.5,
        },
        yaxis: {
          tickvals: rows,
          ticktext: labels,
          range: [-0.6, effects.length - 0.4],
          ticks: "",
          tickfont: { size: width < 600 ? 11 : 12 },
          fixedrange: true,
        },
      }),
    };
  };
  const note =
    "Every level against the first of its factor, over pairs of runs that differ in nothing else. An interval that crosses zero may be chance.";
  return chart(`${task}: effect of each factor on ${metric}`, build, {
    height: 90 + 32 * Math.max(effects.length, 2),
    file: `${task}-effects`,
    note,
  });
}

function effectPoints(chosen, color, better) {
  const bar = (value, other) => (isNumber(value) ? Math.abs(value - other) : 0);
  return {
    type: "scatter",
    mode: "markers",
    x: chosen.map(({ difference }) => difference.value),
    y: chosen.map(({ row }) => row),
    marker: { color, size: 9, symbol: better ? "circle" : "diamond" },
    error_x: {
      ...{ type: "data", symmetric: false, thickness: 1.6, width: 4, color },
      array: chosen.map(({ difference }) => bar(difference.high, difference.value)),
      arrayminus: chosen.map(({ difference }) => bar(difference.low, difference.value)),
    },
    text: chosen.map(
      ({ factor, level, reference, difference }) =>
        `<b>${words(factor)}: ${words(shown(level))} − ${words(shown(reference))}</b><br>${withInterval(difference)}<br>${difference.count} pairs`,
    ),
    hovertemplate: "%{text}<extra></extra>",
  };
}
