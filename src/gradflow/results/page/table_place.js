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
  const now = Object.entries(placeOfTable(table));
  const [sort] = now.filter(([name]) => name === "sort").map(([, value]) => value);
  const had = new Map(now.filter(([name, value]) => name !== "sort" && value !== null));
  const wanted = Object.entries(place).filter(([name]) => filterOf(name, place[name]) !== null);
  for (const name of had.keys()) {
    if (!(name in place)) table.setHeaderFilterValue(fieldOfKey(name.slice(name.indexOf(".") + 1)), null);
  }
  for (const [name, value] of wanted) {
    if (had.get(name) !== value) table.setHeaderFilterValue(...filterOf(name, value));
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
  if (kind === "has") return [field, { contains: value.toLowerCase() }];
  if (kind === "in") {
    const [from, to] = value
      .split("..")
      .map((bound) => (bound === "" || Number.isNaN(Number(bound)) ? null : Number(bound)));
    return from === null && (to ?? null) === null ? null : [field, { from, to: to ?? null }];
  }
  const is = distinct(keyOfField(field)).find((one) => String(one) === value);
  return is === undefined ? null : [field, { is }];
}
