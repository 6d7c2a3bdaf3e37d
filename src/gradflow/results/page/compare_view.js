/* Two levels of a factor, A and B, over pairs of runs that are otherwise equal. */

const compareView = {
  name: "compare",
  label: "Compare",

  async show(panel, place) {
    const [, ...parts] = await Promise.all([loadRuns(), ...partsNamed("comparisons").map(part)]);
    const all = parts.flat();
    const wanted = JSON.stringify([place.task, place.factor, place.a, place.b]);
    const stamps = partsNamed("comparisons")
      .map((name) => boot.parts[name])
      .join();
    if (this.wanted === wanted && this.stamps === stamps) return;
    Object.assign(this, { wanted, stamps });
    const none = make("p", { class: "soft" }, "Nothing to compare yet: no two runs differ in one factor alone.");
    keepingFocus(panel, () => {
      empty(panel);
      panel.append(...(all.length > 0 ? comparisonOf(all, place) : [none]));
    });
  },
};

function comparisonOf(all, place) {
  const tasks = unique(all.map(({ task }) => task));
  const task = oneOf(tasks, place.task);
  const ofTask = all.filter((one) => one.task === task);
  const factors = unique(ofTask.map(({ factor }) => factor));
  const factor = oneOf(factors, place.factor ?? usualFactor(factors));
  const known = ofTask.filter((one) => one.factor === factor);
  const levels = unique(known.flatMap(({ a, b }) => [a, b]));
  const a = oneOf(levels, place.a ?? known[0].a);
  const partners = levels.filter((level) => between(known, a, level));
  const b = oneOf(partners, place.b);
  const change = (changes) => go(changes, true);
  const tools = make(
    "div",
    { class: "tools" },
    tasks.length > 1 && choice("task", tasks, task, (value) => change({ task: value, factor: null, a: null, b: null })),
    choice("factor", factors, factor, (value) => change({ factor: value, a: null, b: null })),
    choice("A", levels, a, (value) => change({ a: value, b: value === String(b) ? a : b })),
    choice("B", partners, b, (value) => change({ a, b: value })),
    make(
      "button",
      { type: "button", "aria-label": "Swap A and B", onclick: () => change({ a: b, b: a }) },
      "Swap A and B",
    ),
  );
  const one = between(known, a, b);
  return [
    tools,
    verdictOf(one),
    figuresOf(one),
    make("div", { class: "two" }, pairCharts(one)),
    make("h2", {}, pairsHeading(one)),
    pairTable(one),
  ];
}

const TECHNIQUES = ["activation", "norm", "init", "skip", "cell", "remedy", "recipe"];

/** One technique against another, before how deep or how wide. */
function usualFactor(factors) {
  return TECHNIQUES.find((key) => factors.includes(key)) ?? factors.find((key) => column(key)?.type !== "number");
}

/** The comparison of a with b, turned round where it was made the other way; undefined where there is none. */
function between(known, a, b) {
  const found = known.find((one) => one.a === a && one.b === b);
  return found ?? turned(known.find((one) => one.a === b && one.b === a));
}

function turned(one) {
  if (!one) return undefined;
  const minus = (value) => (isNumber(value) ? -value : value);
  const rest = (value) => (isNumber(value) ? 1 - value : value);
  const flip = ({ value, low, high, count }, by) => ({ value: by(value), low: by(high), high: by(low), count });
  return {
    ...one,
    ...{ a: one.b, b: one.a, effect_size: minus(one.effect_size) },
    pairs: one.pairs.map((pair) => ({ ...pair, run_a: pair.run_b, run_b: pair.run_a, a: pair.b, b: pair.a })),
    difference: flip(one.difference, minus),
    improvement: flip(one.improvement, rest),
  };
}

/** One sentence, careful about what it claims. */
function verdictOf(one) {
  const { value, low, high } = one.difference;
  const p = one.p_holm ?? one.p;
  const better = value * (one.larger_is_better ? 1 : -1) > 0;
  const apart = isNumber(p) && p < 0.05 && isNumber(low) && low * high > 0;
  const number = one.count ?? one.pairs.length;
  const pairs = number === 1 ? "one pair" : `${number} pairs`;
  const b = shown(one.b);
  const a = shown(one.a);
  const said = apart
    ? `${b} is ${better ? "better" : "worse"} than ${a}: ${spoken(one.metric)} differs by ${withInterval(one.difference)} over ${pairs}.`
    : `${b} and ${a} cannot be told apart by ${pairs}: ${spoken(one.metric)} differs by ${withInterval(one.difference)}.`;
  return make("p", { class: "verdict" }, said);
}

function figuresOf(one) {
  const size = one.effect_size === null ? "– (the differences do not vary)" : shown(one.effect_size);
  return named([
    [`mean difference ${shown(one.b)} − ${shown(one.a)}`, withInterval(one.difference)],
    ["effect size (Cohen’s d of the paired differences)", size],
    [`probability that ${shown(one.b)} is better`, withInterval(one.improvement)],
    ["p", shown(one.p)],
    ["p after Holm’s correction", shown(one.p_holm)],
    ["test", one.test ?? "–"],
  ]);
}

function pairTable(one) {
  const headers = [
    { text: "setting", type: "word" },
    { text: `A: ${shown(one.a)}`, type: "number" },
    { text: `B: ${shown(one.b)}`, type: "number" },
    { text: "B − A", type: "number" },
  ];
  const rows = one.pairs.map(({ setting, run_a, run_b, a, b }) => [
    { t: setting, v: setting },
    { t: scored(run_a, a), v: a, link: run_a, h: run_a },
    { t: scored(run_b, b), v: b, link: run_b, h: run_b },
    { t: figure(Number((b - a).toPrecision(6))), v: b - a },
  ]);
  return sortableTable({ headers, rows, label: "Pairs" });
}

/** A run that diverged has learned nothing: its figure is not measured, and is said not to be. */
function scored(id, value) {
  const row = runs.byId.get(id);
  return row && valueOf(row, "state") === "diverged" ? `diverged, counted as chance: ${figure(value)}` : figure(value);
}

function pairsHeading({ pairs, count }) {
  if (pairs.length === 1 && !(count > 1)) return "The pair";
  return count > pairs.length ? `${pairs.length} of the ${count} pairs, evenly chosen` : `The ${pairs.length} pairs`;
}
