/* The curves of several runs in one figure, under the table in which they are chosen. */

const MOST_LINES = 20; // more cannot be told apart
const SMOOTHEST = 0.95;

/** The runs whose curves the address asks for, those that there are. */
function chosenRuns({ lines }) {
  return unique((lines ?? "").split(","))
    .filter((id) => runs.byId.has(id))
    .slice(0, MOST_LINES);
}

const overlayView = {
  figure: null, // once there is one
  drawn: 0, // how smooth

  async show(holder, place) {
    const rows = chosenRuns(place).map((id) => runs.byId.get(id));
    const stamps = rows.map(({ chunk }) => boot.parts[`details-${chunk}`]);
    const wanted = JSON.stringify([rows.map(({ id }) => id), place.curve, place.log, stamps]);
    const look = { log: place.log, smooth: Math.min(Math.max(Number(place.smooth) || 0, 0), SMOOTHEST) };
    const same = this.wanted === wanted;
    Object.assign(this, { wanted, look });
    if (same) return this.redraw();
    this.drawn = look.smooth;
    const details = await Promise.all(rows.map(detailsOf)).catch((error) => {
      if (this.wanted !== wanted) return null;
      this.wanted = undefined; // so that it is tried again
      throw error;
    });
    if (this.wanted !== wanted) return; // another was chosen meanwhile
    keepingFocus(holder, () => this.fill(holder, rows, details, place));
  },

  /** The figure that stands there takes over what there is to see now: lines that the reader hid stay hidden. */
  fill(holder, rows, details, place) {
    const all = rows.map((row, i) => ({ id: row.id, name: namesOfRuns(rows)[i], curves: curvesOfRun(details[i]) }));
    const kinds = unique(all.flatMap(({ curves }) => [...curves.keys()])).sort((a, b) => isDerived(a) - isDerived(b));
    if (kinds.length === 0) {
      empty(holder);
      holder.append(
        make("p", { class: "soft" }, rows.length > 0 ? "Nothing has been recorded of these runs." : HOW_TO_CHOOSE),
      );
      return;
    }
    const kind = oneOf(kinds, place.curve ?? usualCurve(kinds, rows));
    const figure = this.figureOf(
      kind,
      all,
      details.some((one) => one?.thinned),
    );
    const tools = make("div", { class: "tools" }, this.tools(kinds, kind), countOfLines(rows.length));
    const view = JSON.stringify([kind, this.isLog()]);
    if (this.figure?.isConnected) {
      this.bar.replaceWith(tools);
      takeOver(this.figure, figure);
      if (view !== this.view) unzoomed(this.chart()); // a range of the one is none of the other
    } else {
      empty(holder);
      holder.append(make("h2", {}, "Curves of the chosen runs"), tools, figure);
      this.figure = figure;
    }
    Object.assign(this, { bar: tools, view });
  },

  figureOf(kind, all, thinned) {
    const lines = all.filter(({ curves }) => curves.has(kind)).map((one) => ({ ...one, curve: one.curves.get(kind) }));
    const without = all.filter(({ curves }) => !curves.has(kind)).map(({ name }) => name);
    const note = [
      without.length > 0 && `Without it: ${without.join("; ")}.`,
      thinned && "Some steps are left out, to keep the page small; the records have them all.",
    ];
    this.log = isLog(kind, lines);
    return overlayChart(kind, lines, () => ({ smooth: this.look.smooth, log: this.isLog() }), note);
  },

  tools(kinds, kind) {
    this.logBox = make("input", { type: "checkbox", checked: this.isLog(), "aria-label": "log scale" });
    this.logBox.addEventListener("change", () => go({ log: this.logBox.checked ? "yes" : "no" }, true));
    const range = { min: 0, max: SMOOTHEST, step: 0.05, value: this.look.smooth };
    this.slider = make("input", { type: "range", ...range, "aria-label": "smoothing" });
    this.slider.addEventListener("input", () => go({ smooth: Number(this.slider.value) || null }, true));
    this.smoothed = make("output", {}, shown(this.look.smooth));
    return [
      choice("curve", kinds, kind, (value) => go({ curve: value, log: null }, true)),
      make("label", { class: "choice" }, this.logBox, make("span", {}, "log scale")),
      make("label", { class: "choice" }, make("span", {}, "smoothing"), this.slider, this.smoothed),
    ];
  },

  isLog() {
    return this.look.log ? this.look.log === "yes" : this.log;
  },

  chart() {
    return [...charts].find(({ figure }) => figure === this.figure);
  },

  redraw() {
    if (!this.figure?.isConnected) return;
    this.slider.value = this.look.smooth;
    this.smoothed.textContent = shown(this.look.smooth);
    if (this.drawn !== this.look.smooth && this.chart().width) draw(this.chart());
    this.drawn = this.look.smooth;
  },
};

function countOfLines(count) {
  const full = count === MOST_LINES ? ", as many as a figure can tell apart" : "";
  const said = `${count} ${count === 1 ? "run" : "runs"}${full}`;
  const none = make("button", { type: "button", onclick: () => go({ lines: null }, true) }, "Choose none");
  return [none, make("span", { class: "soft", role: "status" }, said)];
}

const HOW_TO_CHOOSE = "Tick runs, or press Space on a row, to see their curves in one figure.";

/** The validation's metric, or the nearest to it that there is. */
function usualCurve(kinds, rows) {
  const metric = metricOf(valueOf(rows[0], "task")).replace(/^.*[/ ]/, "");
  const wanted = [`val/${metric}`, `test/${metric}`, "val/loss", "train/loss"];
  return wanted.find((name) => kinds.includes(name)) ?? kinds[0];
}

const PLAIN = ["none", "true", "false"]; // words that say nothing without their factor

/**
 * What tells these runs from one another: recipe, depth and seed, where runs differ in them at all, and whatever else
 * these differ in that is no part of the recipe.
 */
function namesOfRuns(rows) {
  const recipe = factorColumns().find(({ key }) => key === "recipe");
  const partOfRecipe = ({ field }) => {
    const known = new Map(rows.map((row) => [row[recipe.field], row[field]]));
    return rows.every((row) => known.get(row[recipe.field]) === row[field]);
  };
  const place = ({ key, type }) => (key === "recipe" ? 0 : type === "word" ? 1 : key === "seed" ? 3 : 2);
  const told = factorColumns()
    .toSorted((a, b) => place(a) - place(b))
    .filter((one) => {
      if (["recipe", "depth", "seed"].includes(one.key)) return true;
      return new Set(rows.map((row) => row[one.field])).size > 1 && !(recipe && partOfRecipe(one));
    });
  const word = (one, row) => {
    const value = row[one.field];
    if (value === null) return null;
    return one.type === "number" || PLAIN.includes(value)
      ? `${one.title.replace(/^.*\./, "")} ${shown(value)}`
      : shown(value);
  };
  return rows.map((row) => {
    const state = valueOf(row, "state");
    const name = unique(told.map((one) => word(one, row)).filter(Boolean)).join(", "); // network rnn has cell rnn
    return state === "completed" ? name : `${name} (${state})`;
  });
}
