/* A figure: Plotly's chart, a legend of our own that wraps at any width, and buttons to save it or change the view. */

const charts = new Set();

/**
 * `build(look, width, log)` gives { data, layout }. It is called again when the theme or the width changes, and once
 * more in light for the file that is saved. Traces of one `legendgroup` are shown and hidden together.
 * `log`: whether the vertical axis starts out logarithmic, where the reader may change that; null where not.
 * `of`: what the saved file says beside the title, which alone would not tell whose figure it is.
 * A figure that needs `minWidth` pixels scrolls where there are fewer. It is drawn when it first has a width: in a tab
 * that is not shown, not at all.
 */
function chart(title, build, options = {}) {
  const { height = 340, drawn = null, file = title, note = null, minWidth = 0, log = null, of = "" } = options;
  const self = { title, build, height, drawn, file, of, log, hidden: new Set(), zoom: new Map(), zooms: 0, width: 0 };
  self.plot = make("div", { class: "plot", role: "img", style: `height: ${height}px; min-width: ${minWidth}px` });
  self.legend = make("div", { class: "legend" });
  self.heading = make("span", { class: "figure-title" });
  self.buttons = {
    whole: captionButton("Reset zoom", () => unzoomed(self), { hidden: true, title: "Or double-click in the chart" }),
    log: captionButton("log y", () => toggleLog(self)),
    svg: captionButton("SVG", () => saved(self, "svg")),
    png: captionButton("PNG", () => saved(self, "png")),
  };
  const caption = make(
    "figcaption",
    {},
    self.heading,
    make("span", { class: "buttons" }, Object.values(self.buttons)),
  );
  self.note = make("p", { class: "soft note" });
  self.scroll = minWidth ? make("div", { class: "scroll", tabindex: "0", role: "region" }, self.plot) : self.plot;
  self.figure = make("figure", { class: "chart", "data-key": file }, caption, self.legend, self.scroll, self.note);
  entitle(self, note);
  new ResizeObserver(([entry]) => resized(self, Math.round(entry.contentRect.width))).observe(self.plot);
  charts.add(self);
  return self.figure;
}

function captionButton(text, onclick, attributes = {}) {
  return make("button", { type: "button", class: "small", onclick, ...attributes }, text);
}

/** Everything that says what the figure is of. */
function entitle(self, note) {
  self.heading.replaceChildren(...subscripts(self.title));
  self.plot.setAttribute("aria-label", self.title);
  self.scroll.setAttribute("aria-label", self.title);
  self.buttons.whole.setAttribute("aria-label", `Reset the zoom of '${self.title}'`);
  self.buttons.log.setAttribute("aria-label", `Logarithmic scale of '${self.title}'`);
  for (const format of ["svg", "png"])
    self.buttons[format].setAttribute("aria-label", `Save '${self.title}' as ${format.toUpperCase()}`);
  self.note.replaceChildren(note ?? "");
  self.note.hidden = !note;
  showLog(self);
}

function showLog(self) {
  self.buttons.log.hidden = self.log === null;
  self.buttons.log.setAttribute("aria-pressed", String(self.log));
  self.buttons.log.style.fontWeight = self.log ? "700" : "";
}

function toggleLog(self) {
  self.log = self.chosenLog = !self.log;
  showLog(self);
  unzoomed(self); // a range of the one scale is none of the other
}

/** As it was drawn at first. */
function unzoomed(self) {
  forgetZoom(self);
  draw(self);
}

function forgetZoom(self) {
  self.zoom.clear();
  self.zooms += 1;
  self.buttons.whole.hidden = true;
}

/** A chart that stands in the page takes what another one would show, and keeps its zoom, its lines and its focus. */
function takeOver(figure, fresh) {
  const of = (element) => [...charts].find((self) => self.figure === element);
  const [self, next] = [of(figure), of(fresh)];
  charts.delete(next);
  const { title, build, height, file, of: whose } = next;
  const log = next.log === null ? null : (self.chosenLog ?? next.log);
  if (log !== self.log) forgetZoom(self);
  Object.assign(self, { title, build, height, file, of: whose, log });
  self.plot.style.height = `${height}px`;
  entitle(self, next.note.hidden ? null : next.note.textContent);
  if (self.width) draw(self);
}

/** Take out everything in an element, and let go of the charts in it. */
function empty(element) {
  for (const self of charts) if (element.contains(self.figure)) forget(self);
  element.replaceChildren();
}

/** Let go of the charts that are no longer in the page. */
function forgetGone() {
  for (const self of charts) if (!self.figure.isConnected) forget(self);
}

function forget(self) {
  charts.delete(self);
  if (self.width && globalThis.Plotly) globalThis.Plotly.purge(self.plot);
}

function redrawAll() {
  forgetGone();
  for (const self of charts) if (self.width) draw(self);
}

function resized(self, width) {
  if (width === 0 || width === self.width || !charts.has(self)) return;
  self.width = width;
  draw(self);
}

async function draw(self) {
  const first = !self.plot.dataset.drawn;
  if (first) await waiting(self);
  const { newPlot } = await plotlyOrWhy(self);
  if (!newPlot || !charts.has(self)) return;
  const { data, layout } = built(self, currentLook(), self.width);
  const config = {
    ...{ displayModeBar: false, responsive: false, scrollZoom: false, showTips: false },
    doubleClick: false, // ours is the same as the button's
  };
  if (!self.plot.dataset.drawn) self.plot.querySelector(":scope > .soft")?.remove();
  await globalThis.Plotly.react(self.plot, data, { ...layout, width: self.width, height: self.height }, config);
  if (!charts.has(self)) return; // taken out meanwhile
  drawLegend(self, data);
  if (!self.plot.dataset.drawn) followReader(self);
  self.plot.dataset.drawn = "yes";
}

/** A large chart takes seconds, in which nothing else is painted: this is painted before. */
async function waiting(self) {
  if (!self.plot.hasChildNodes()) self.plot.append(make("p", { class: "soft" }, "drawing …"));
  await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
}

function followReader(self) {
  self.plot.on("plotly_relayout", (changes) => {
    for (const key of Object.keys(changes)) {
      const axis = /^([xy]axis\d*)\.range/.exec(key)?.[1];
      if (axis) self.zoom.set(axis, [...self.plot.layout[axis].range]);
    }
    self.buttons.whole.hidden = self.zoom.size === 0;
  });
  self.plot.on("plotly_doubleclick", () => unzoomed(self));
  self.drawn?.(self.plot);
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
  const { data, layout } = self.build(look, width, self.log);
  for (const trace of data) if (self.hidden.has(trace.legendgroup)) trace.visible = false;
  // Plotly itself would let go of a zoom when there is more to show
  for (const [axis, range] of self.zoom) layout[axis] = { ...layout[axis], range };
  return { data, layout: { ...layout, uirevision: self.zooms } };
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
    title: { text: fileTitle(self), font: { size: 15 }, yref: "container", y: 1, yanchor: "top", pad: { t: 26 } },
    margin: { ...layout.margin, t: layout.margin.t + (self.of ? 60 : 36) },
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

/** The title on one line, whose figure it is below. */
function fileTitle({ title, of }) {
  const small = of ? `<br><span style="font-size: 12px">${formula(of)}</span>` : "";
  return `${formula(title)}${small}`;
}

const SUBSCRIPT = /(?<![a-z])([a-z])_([a-z])(?![a-z_])/gi;

/** Words for Plotly in which 'W_l' has its index below the line, as long as they are a formula of ours. */
function formula(text) {
  return text.includes("∂") ? words(text).replace(SUBSCRIPT, "$1<sub>$2</sub>") : words(text);
}

/** The same for the page, as nodes. */
function subscripts(text) {
  if (!text.includes("∂")) return [text];
  const cut = text.split(SUBSCRIPT); // words, letter, index, words, letter, index, words
  return cut.map((piece, i) => (i % 3 === 2 ? make("sub", {}, piece) : piece));
}
