"use strict";
// The table of trials.

let table = null;
const whenFiltered = [];

function tableRows() {
  return trials.ids.map((id, place) => Object.fromEntries([["place", place], ...columns.map((one, n) => [`c${n}`, one.values[place]])]));
}

function cellOf(column, cell) {
  const value = cell.getValue();
  if (column.name === "trial_id") {
    const link = h("a", { href: `#trial=${encodeURIComponent(value)}` }, value);
    link.addEventListener("click", (event) => { event.preventDefault(); openTrial(value); });
    return link;
  }
  if (column.name === "outcome") return h("span", { class: `outcome ${/^\w+$/.test(value) ? value : ""}` }, value);
  return h("span", {}, shown(column, value));
}

/** A dotted key, which may be broken behind its dots and lines. */
function breakable(text) {
  return text.split(/(?<=[._])/).flatMap((part) => [part, h("wbr")]);
}

function tableColumn(column, number) {
  return {
    title: column.title,
    field: `c${number}`,
    titleFormatter: () => h("span", { title: column.said ?? column.name }, ...breakable(column.title)),
    formatter: (cell) => cellOf(column, cell),
    sorter: column.kind === "number" ? "number" : "alphanum",
    sorterParams: { alignEmptyValues: "bottom" },
    headerSortStartingDir: column.digits === 2 ? "desc" : "asc",
    hozAlign: column.kind === "number" ? "right" : "left",
    headerFilter: "input",
    headerFilterPlaceholder: column.kind === "number" ? "> 0" : "part of it",
    headerFilterFunc: (typed, value) => passes(typed, value, column),
    headerFilterParams: { elementAttributes: { "aria-label": `Filter ${column.title}` } },
    frozen: column.name === "trial_id" && innerWidth > 700,
    headerWordWrap: true,
    maxInitialWidth: column.kind === "number" ? 128 : 300,
    minWidth: column.kind === "number" ? 78 : 96,
  };
}

function markRow(row) {
  row.getElement().classList.toggle("shown", trials.ids[row.getData().place] === state.trial);
}

/** The row of the trial that is shown, and no other, is marked. */
function markShown() {
  if (table?.initialized) table.getRows("visible").forEach(markRow);
}

/** Whether a row passes what is asked above the table. */
function passesAbove(row) {
  const outcome = columns[columnNamed.get("outcome")].values[row.place];
  if (state.outcomes.length && !state.outcomes.includes(outcome)) return false;
  const words = state.search.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return true;
  const all = columns.map((one) => shown(one, one.values[row.place])).join("\n").toLowerCase();
  return words.every((word) => all.includes(word));
}

/** The places of the trials that pass, in the order shown. */
function activePlaces() {
  return table ? table.getRows("active").map((row) => row.getData().place) : trials.ids.map((_, place) => place);
}

function count(rows) {
  const all = trials.ids.length;
  document.getElementById("count").textContent = rows === all ? `${all} trials` : `${rows} of ${all} trials`;
}

function rememberFilters() {
  state.filters = {};
  for (const one of table.getHeaderFilters()) state.filters[columns[Number(one.field.slice(1))].name] = one.value;
  writeState();
}

function buildTable() {
  const sorted = columnNamed.get(state.sort) ?? trials.metric;
  const down = columnNamed.has(state.sort) ? state.down : true;
  table = new Tabulator("#table", {
    data: tableRows(),
    columns: columns.map(tableColumn),
    index: "place",
    nestedFieldSeparator: false,
    layout: "fitDataFill",
    maxHeight: "36rem",
    placeholder: "No trial passes the filters.",
    initialSort: sorted == null ? [] : [{ column: `c${sorted}`, dir: down ? "desc" : "asc" }],
    initialHeaderFilter: Object.entries(state.filters)
      .filter(([name]) => columnNamed.has(name))
      .map(([name, value]) => ({ field: `c${columnNamed.get(name)}`, value })),
    initialFilter: passesAbove,
    rowFormatter: markRow,
  });
  table.on("tableBuilt", () => {
    table.setFilter(passesAbove);
    table.on("dataSorted", (sorters) => {
      state.sort = sorters.length ? columns[Number(sorters[0].field.slice(1))].name : "";
      state.down = sorters.length > 0 && sorters[0].dir === "desc";
      writeState();
    });
    const changed = calmly(() => whenFiltered.forEach((act) => act()));
    table.on("dataFiltered", (_, rows) => { count(rows.length); rememberFilters(); changed(); });
    count(activePlaces().length);
    whenFiltered.forEach((act) => act());
    document.getElementById("table").dataset.ready = "true";
  });
}

function buildTools() {
  const search = document.getElementById("search");
  search.value = state.search;
  const refilter = calmly(() => { writeState(); table.setFilter(passesAbove); });
  search.addEventListener("input", () => { state.search = search.value; refilter(); });
  const there = new Map();
  for (const one of columns[columnNamed.get("outcome")].values) there.set(one, (there.get(one) ?? 0) + 1);
  const box = document.getElementById("outcomes");
  for (const [name, number] of there.size > 1 ? there : []) {
    const button = h("button", { type: "button", "aria-pressed": String(state.outcomes.includes(name)) }, `${name} ${number}`);
    button.addEventListener("click", () => {
      const pressed = state.outcomes.includes(name);
      state.outcomes = pressed ? state.outcomes.filter((one) => one !== name) : [...state.outcomes, name];
      button.setAttribute("aria-pressed", String(!pressed));
      refilter();
    });
    box.append(button);
  }
  document.getElementById("reset").addEventListener("click", () => {
    Object.assign(state, { search: "", outcomes: [], filters: {} });
    search.value = "";
    for (const button of box.children) button.setAttribute("aria-pressed", "false");
    table.clearHeaderFilter();
    refilter();
  });
}
