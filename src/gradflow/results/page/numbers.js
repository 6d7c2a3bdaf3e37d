/* Numbers as a person reads them. */

const MINUS = "−";

/** Four digits at most; very large and very small ones with an exponent. */
function shown(value) {
  if (value === null || value === undefined || value === "") return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e9) return signed(String(value));
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return signed(value.toExponential(2));
  return signed(String(Number(value.toPrecision(4))));
}

/** A measured figure: four digits always, so that those of a column stand under one another. */
function figure(value) {
  return isNumber(value) && !Number.isInteger(value) && Math.abs(value) >= 1e-3 && Math.abs(value) < 1e4
    ? signed(value.toPrecision(4))
    : shown(value);
}

function signed(text) {
  return text.replace("-", MINUS).replace("e-", `e${MINUS}`);
}

/** 'value (low … high)', or the value alone where there is no interval. */
function withInterval({ value, low, high }) {
  return low === null || low === undefined ? shown(value) : `${shown(value)} (${shown(low)} … ${shown(high)})`;
}

function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Of positive numbers. */
function geometricMean(values) {
  return Math.exp(mean(values.map(Math.log)));
}

/** [smallest, largest]; without spreading, which fails on long arrays. */
function range(values) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

/** Numbers by size, words by the alphabet, nothing last. */
function compare(a, b) {
  const none = (value) => value === null || value === undefined || value === "";
  if (none(a) || none(b)) return none(a) - none(b);
  return isNumber(a) && isNumber(b) ? a - b : String(a).localeCompare(String(b));
}
