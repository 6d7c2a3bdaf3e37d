/* Sorting and column filters of the runs table in the address: #sort=-depth&is.norm=batch&has.run=4f&in.depth=10..99. */

const FILTERS = ["is", "has", "in"]; // one of a list, a part of a word, between two numbers

function keyOfField(field) {
  return field === "id" ? "run" : byField(field).key;
}

function fieldOfKey(key) {
  return key === "run" ? "id" : column(key)?.field;
}

/** What changes in the address for the table as it is. */
function placeOfTable(table) {
  const sorters = table.getSorters().map(({ field, dir }) => (dir === "desc" ? "-" : "") + keyOfField(field));
  const gone = Object.keys(here()).filter((name) => FILTERS.includes(name.split(".")[0]));
  const filters = table.getHeaderFilters().map(({ field, value }) => filterWords(keyOfField(field), value));
  return {
    ...Object.fromEntries(gone.map((name) => [name, null])),
    ...Object.fromEntries(filters),
    sort: sorters.join(),
  };
}

function filterWords(key, value) {
  if ("is" in value) return [`is.${key}`, String(value.is)];
  if ("contains" in value) return [`has.${key}`, value.contains];
  return [`in.${key}`, `${value.from ?? ""}..${value.to ?? ""}`];
}

/** Bring the table to what the address says; what it says already is left alone. */
function tableToPlace(table, place) {
  const { sort } = placeOfTable(table);
  const had = new Map(table.getHeaderFilters().map(({ field, value }) => [field, value]));
  const asked = Object.entries(place).map(([name, value]) => filterOf(name, value));
  const wanted = new Map(asked.filter((filter) => filter !== null)); // of two for a column, the last
  for (const [field, filter] of had) {
    const [name, value] = filterWords(keyOfField(field), filter);
    const kept = wanted.has(field) || place[name] === value; // though no run may have that value any more
    if (!kept) table.setHeaderFilterValue(field, null);
  }
  for (const [field, filter] of wanted) {
    if (JSON.stringify(had.get(field)) !== JSON.stringify(filter)) table.setHeaderFilterValue(field, filter);
  }
  const sorters = (place.sort ?? "").split(",").flatMap((word) => {
    const field = fieldOfKey(word.replace(/^-/, ""));
    return field ? [{ column: field, dir: word.startsWith("-") ? "desc" : "asc" }] : [];
  });
  if (sort === (place.sort ?? "")) return;
  if (sorters.length > 0) table.setSort(sorters);
  else table.clearSort();
}

/** [field, filter] of 'in.depth' and '10..99'; null for what is no filter of a column that there is. */
function filterOf(name, value) {
  const [kind] = name.split(".");
  const field = fieldOfKey(name.slice(kind.length + 1));
  if (!FILTERS.includes(kind) || !field) return null;
  const filter = byField(field)?.type === "number" ? numberFilter(kind, value) : wordsFilter(kind, value, field);
  return filter && [field, filter];
}

/** One number is the range from it to itself; no number has a part of a word. */
function numberFilter(kind, value) {
  if (kind === "has") return null;
  const [from, to = null] = (kind === "is" ? [value, value] : value.split("..")).map((bound) =>
    bound === "" || Number.isNaN(Number(bound)) ? null : Number(bound),
  );
  return from === null && to === null ? null : { from, to };
}

/** No word lies between two numbers. */
function wordsFilter(kind, value, field) {
  if (kind === "in" || value === "") return null;
  if (kind === "has") return { contains: value.toLowerCase() };
  const is = distinct(keyOfField(field)).find((one) => String(one) === value);
  return is === undefined ? null : { is };
}
