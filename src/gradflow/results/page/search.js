/* The search over all columns: words by a part of them, numbers whole, runs by the beginning of their id. */

const ID_START = 4; // characters: two digits begin the ids of too many runs

/** The terms of a search: 'relu 30', 'depth=30', 'recipe="relu · batch"'. */
function termsOf(text) {
  return (text.toLowerCase().match(/(?:[^\s"]|"[^"]*"?)+/g) ?? [])
    .map((term) => term.replaceAll('"', ""))
    .filter(Boolean);
}

/** Whether every term is in a row, whichever column it is in. */
function passes(row, terms) {
  return terms.every((term) => byColumn(row, term) ?? anywhere(row, term));
}

/** Of 'column=value': whether the row has it; null for a term that names no column. */
function byColumn(row, term) {
  const at = term.indexOf("=");
  if (at < 1) return null;
  const name = term.slice(0, at);
  const wanted = term.slice(at + 1);
  if (name === "run" || name === "id") return row.id.toLowerCase().startsWith(wanted);
  const one = runs.columns.find(({ key, title }) => [key, title].some((known) => known.toLowerCase() === name));
  return one ? wanted === "" || isWhole(one, row, wanted) : null; // nothing yet behind '=': it is being typed
}

function anywhere(row, term) {
  if (term.length >= ID_START && row.id.toLowerCase().startsWith(term)) return true;
  return runs.columns.some((one) => anyWhole(one, row, term) || (!isNumeric(term) && isPart(one, row, term)));
}

/** A number by its size or as it is shown, a word in full. Of whole numbers 30 is a depth, not so many seconds. */
function anyWhole(one, row, term) {
  return (one.kind === "factor" || !Number.isInteger(Number(term))) && isWhole(one, row, term);
}

function isWhole(one, row, term) {
  const value = row[one.field];
  if (value === null) return false;
  if (one.type === "number" && isNumeric(term) && value === Number(term)) return true;
  return String(one.type === "number" ? asText(one, row) : value).toLowerCase() === term;
}

function isPart(one, row, term) {
  return (
    one.type !== "number" &&
    String(row[one.field] ?? "")
      .toLowerCase()
      .includes(term)
  );
}

function isNumeric(term) {
  return term.trim() !== "" && Number.isFinite(Number(term));
}

const haystacks = new WeakMap();

/** All that a row says, for lists that offer what resembles what is typed. */
function haystack(row) {
  if (!haystacks.has(row)) haystacks.set(row, Object.values(row).join("\n").toLowerCase());
  return haystacks.get(row);
}
