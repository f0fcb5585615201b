"use strict";
// The trials, and what is asked of them: it stands in the page's address, so that a reload and a link keep it.

const trials = JSON.parse(document.getElementById("data").textContent);
const columns = trials.columns;
const columnNamed = new Map(columns.map((column, number) => [column.name, number]));

/** An element: its text is never read as markup. */
function h(name, attributes = {}, ...content) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  made.append(...content.flat().filter((one) => one != null));
  return made;
}

/** A value of a column as it is shown. */
function shown(column, value) {
  if (value == null || value === "") return "";
  if (column.kind !== "number") return String(value);
  if (column.digits != null) return value.toFixed(column.digits);
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)));
}

function readState() {
  const text = location.hash.slice(1);
  const given = new URLSearchParams(text.includes("=") ? text : "");
  const sort = given.get("sort") ?? "";
  return {
    sort: sort.replace(/^-/, ""),
    down: sort.startsWith("-"),
    search: given.get("q") ?? "",
    outcomes: (given.get("outcome") ?? "").split(",").filter(Boolean),
    filters: Object.fromEntries([...given].filter(([key]) => key.startsWith("f.")).map(([key, text]) => [key.slice(2), text])),
    view: given.get("view") ?? "",
    x: given.get("x") ?? "",
    y: given.get("y") ?? "",
    curve: given.get("curve") ?? "",
    trial: given.get("trial") ?? "",
  };
}

const state = readState();

function writeState() {
  const said = new URLSearchParams();
  if (state.sort) said.set("sort", (state.down ? "-" : "") + state.sort);
  if (state.search) said.set("q", state.search);
  if (state.outcomes.length) said.set("outcome", state.outcomes.join(","));
  for (const [name, text] of Object.entries(state.filters)) if (text) said.set(`f.${name}`, text);
  for (const key of ["view", "x", "y", "curve", "trial"]) if (state[key]) said.set(key, state[key]);
  const text = said.toString();
  if (text !== location.hash.slice(1)) history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
}

/** Whether a value passes what was typed under its column: a part of a text, or 0.1, >0.1, <=20, 0.1..0.2; | is or. */
function passes(typed, value, column) {
  const asked = String(typed ?? "").trim();
  if (!asked) return true;
  return asked.split("|").some((one) => passesOne(one.trim(), value, column));
}

function passesOne(asked, value, column) {
  if (column.kind !== "number") {
    const text = String(value ?? "").toLowerCase();
    return asked.startsWith("=") ? text === asked.slice(1).toLowerCase() : text.includes(asked.toLowerCase());
  }
  if (value == null) return false;
  const range = asked.match(/^(\S+?)\s*\.\.\s*(\S+)$/);
  if (range) return value >= Number(range[1]) && value <= Number(range[2]);
  const compared = asked.match(/^(<=|>=|<|>|=)?\s*(\S+)$/);
  const number = compared ? Number(compared[2]) : NaN;
  if (Number.isNaN(number)) return shown(column, value).includes(asked);
  switch (compared[1]) {
    case "<": return value < number;
    case "<=": return value <= number;
    case ">": return value > number;
    case ">=": return value >= number;
    default: return value === number || shown(column, value) === shown(column, number);
  }
}

/** What is done once the last of several calls is so many milliseconds old. */
function calmly(act, milliseconds = 120) {
  let timer;
  return () => { clearTimeout(timer); timer = setTimeout(act, milliseconds); };
}
