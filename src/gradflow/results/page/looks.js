/* Colours that colour-blind readers tell apart: Okabe and Ito's palette for lines, cividis and viridis for scales. */

const PALETTE = ["#000000", "#e69f00", "#56b4e9", "#009e73", "#d55e00", "#0072b2", "#cc79a7"];
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash"];
const MARKERS = ["circle", "square", "diamond", "triangle-up", "triangle-down", "star", "cross"];
const BETTER = "#0072b2";
const WORSE = "#d55e00";
// viridis in ten steps, without its lightest, which is lost on white
const VIRIDIS = ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b"];

const LIGHT = { ink: "#1b1f24", soft: "#57606a", paper: "#ffffff", rule: "#dfe3e8", zero: "#8c959f", dark: false };
const DARK = { ink: "#e6e8eb", soft: "#9aa4af", paper: "#15181c", rule: "#2f353d", zero: "#76808b", dark: true };

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen === "dark" || (chosen !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
}

function currentLook() {
  return isDark() ? DARK : LIGHT;
}

/** Of the i-th of `count` lines: told by colour, dashes and marker, so that it is the same in grey. */
function lineLook(i, count, look, ordered = false) {
  const colour = ordered
    ? VIRIDIS[Math.round((i * (VIRIDIS.length - 1)) / Math.max(count - 1, 1))]
    : paletteColour(i, look);
  return {
    color: colour,
    dash: DASHES[Math.floor(i / (ordered ? MARKERS.length : PALETTE.length)) % DASHES.length],
    symbol: MARKERS[i % MARKERS.length],
  };
}

function paletteColour(i, look) {
  const colour = PALETTE[i % PALETTE.length];
  return look.dark ? ({ "#000000": "#ffffff", "#0072b2": "#3d9be0" }[colour] ?? colour) : colour;
}

/** Of lines as initialised and at the end of training. */
function stepColours(look) {
  return [paletteColour(5, look), paletteColour(4, look)];
}

function betterColour(look) {
  return look.dark ? "#56b4e9" : BETTER;
}

function faded(colour, opacity) {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return `rgba(${red},${green},${blue},${opacity})`;
}

/** Plotly's colour scale for heat maps. */
function cividis() {
  const colours = [
    "#00224e",
    "#123570",
    "#3b496c",
    "#575d6d",
    "#707173",
    "#8a8678",
    "#a59c74",
    "#c3b369",
    "#e1cc55",
    "#fee838",
  ];
  return colours.map((colour, i) => [i / (colours.length - 1), colour]);
}

/** Words for Plotly, which reads a few HTML tags: here they are only words. */
function words(text) {
  return String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** Long words on several lines. */
function wrapped(text, width) {
  const lines = [""];
  for (const word of String(text).split(" ")) {
    if (lines.at(-1) && lines.at(-1).length + word.length >= width) lines.push("");
    lines[lines.length - 1] += (lines.at(-1) ? " " : "") + word;
  }
  return lines.map((line) => words(line.length > 2 * width ? `${line.slice(0, 2 * width - 1)}…` : line)).join("<br>");
}

/** What all figures share; `changes` are laid over it, axis by axis. */
function layoutFor(look, { xaxis, yaxis, ...changes }) {
  const axis = {
    automargin: true,
    gridcolor: look.rule,
    linecolor: look.zero,
    zeroline: false,
    ticks: "outside",
    tickcolor: look.zero,
    exponentformat: "power",
  };
  return {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: look.ink, family: "system-ui, sans-serif", size: 12.5 },
    margin: { l: 56, r: 16, t: 12, b: 44 },
    showlegend: false,
    hovermode: "closest",
    hoverlabel: { align: "left", namelength: -1 },
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", // a finger scrolls the page
    xaxis: { ...axis, ...xaxis, title: { standoff: 8, ...xaxis?.title } },
    yaxis: { ...axis, ...yaxis, title: { standoff: 8, ...yaxis?.title } },
    ...changes,
  };
}
