/* A figure: Plotly's chart, a legend of our own that wraps at any width, and buttons to save it. */

const charts = new Set();

/**
 * `build(look, width)` gives { data, layout }. It is called again when the theme or the width changes, and once more in
 * light for the file that is saved. Traces of one `legendgroup` are shown and hidden together.
 * A figure that needs `minWidth` pixels scrolls where there are fewer. It is drawn when it first has a width: in a tab
 * that is not shown, not at all.
 */
function chart(title, build, { height = 340, drawn = null, file = title, note = null, minWidth = 0 } = {}) {
  const plot = make("div", {
    class: "plot",
    role: "img",
    "aria-label": title,
    style: `height: ${height}px; min-width: ${minWidth}px`,
  });
  const legend = make("div", { class: "legend" });
  const buttons = ["svg", "png"].map((format) =>
    make(
      "button",
      {
        type: "button",
        class: "small",
        "aria-label": `Save '${title}' as ${format.toUpperCase()}`,
        onclick: () => saved(self, format),
      },
      format.toUpperCase(),
    ),
  );
  const caption = make(
    "figcaption",
    {},
    make("span", { class: "figure-title" }, title),
    make("span", { class: "buttons" }, buttons),
  );
  const figure = make(
    "figure",
    { class: "chart" },
    caption,
    legend,
    minWidth ? make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": title }, plot) : plot,
    note && make("p", { class: "soft note" }, note),
  );
  const self = { title, build, height, drawn, file, plot, legend, hidden: new Set(), width: 0, figure };
  new ResizeObserver(([entry]) => resized(self, Math.round(entry.contentRect.width))).observe(plot);
  charts.add(self);
  return figure;
}

/** Take out everything in an element, and let go of the charts in it. */
function empty(element) {
  for (const self of charts) if (element.contains(self.figure)) forget(self);
  element.replaceChildren();
}

function forget(self) {
  charts.delete(self);
  if (self.width && globalThis.Plotly) globalThis.Plotly.purge(self.plot);
}

function redrawAll() {
  for (const self of charts) {
    if (!self.figure.isConnected) forget(self);
    else if (self.width) draw(self);
  }
}

function resized(self, width) {
  if (width === 0 || width === self.width || !charts.has(self)) return;
  self.width = width;
  draw(self);
}

async function draw(self) {
  const { newPlot } = await plotlyOrWhy(self);
  if (!newPlot || !charts.has(self)) return;
  const { data, layout } = built(self, currentLook(), self.width);
  const config = { displayModeBar: false, responsive: false, scrollZoom: false, showTips: false };
  await globalThis.Plotly.react(self.plot, data, { ...layout, width: self.width, height: self.height }, config);
  drawLegend(self, data);
  if (!self.plot.dataset.drawn) self.drawn?.(self.plot);
  self.plot.dataset.drawn = "yes";
}

async function plotlyOrWhy(self) {
  try {
    return await plotly();
  } catch (error) {
    self.plot.textContent = `The chart could not be drawn: ${error.message}`;
    return {};
  }
}

function built(self, look, width) {
  const { data, layout } = self.build(look, width);
  for (const trace of data) if (self.hidden.has(trace.legendgroup)) trace.visible = false;
  return { data, layout };
}

function drawLegend(self, data) {
  const keys = data.filter((trace) => trace.name && trace.showlegend !== false);
  if (keys.length < 2) return self.legend.replaceChildren();
  const had = [...self.legend.children].indexOf(document.activeElement);
  self.legend.replaceChildren(...keys.map((trace) => legendKey(self, trace, keys)));
  self.legend.children[had]?.focus();
}

/** A click hides or shows a line, a second one with Shift shows it alone. */
function legendKey(self, trace, keys) {
  const colour = trace.line?.color ?? trace.marker?.color;
  const dash = { solid: "solid", dot: "dotted" }[trace.line?.dash ?? "solid"] ?? "dashed";
  const swatch = make("span", { class: "swatch", style: `border-top: 3px ${dash} ${colour}`, "aria-hidden": "true" });
  const group = trace.legendgroup;
  const toggle = (event) => {
    const others = keys.map((key) => key.legendgroup).filter((other) => other !== group);
    if (event.shiftKey) self.hidden = others.every((other) => self.hidden.has(other)) ? new Set() : new Set(others);
    else if (!self.hidden.delete(group)) self.hidden.add(group);
    draw(self);
  };
  const pressed = String(!self.hidden.has(group));
  return make(
    "button",
    { type: "button", "aria-pressed": pressed, onclick: toggle, title: "Hide or show; with Shift: alone" },
    swatch,
    trace.meta ?? trace.name,
  );
}

/** As a file, in light colours with Plotly's own legend: for a paper. */
async function saved(self, format) {
  const Plotly = await plotly();
  const { data, layout } = built(self, LIGHT, 900);
  const keys = data.filter((trace) => trace.name && trace.showlegend !== false && trace.visible !== false).length;
  const whole = {
    ...layout,
    paper_bgcolor: LIGHT.paper,
    showlegend: keys > 1,
    legend: { orientation: "h", y: -0.22, yanchor: "top", x: 0 },
    title: { text: words(self.title), font: { size: 15 } },
    margin: { ...layout.margin, t: layout.margin.t + 36 },
    width: 900,
    height: Math.max(self.height, 420) + 22 * Math.ceil(keys / 3),
  };
  const { width, height } = whole;
  const filename = `${slug(boot.title)}-${slug(self.file)}`;
  await Plotly.downloadImage(
    { data, layout: whole },
    { format, filename, width, height, scale: format === "png" ? 2 : 1 },
  );
  say(`Saved ${filename}.${format}`);
}
