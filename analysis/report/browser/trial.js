"use strict";
// One trial: its curves, what happened to it, where it ran, how it was set.

const COLOURS = { val: "#E69F00", test: "#0072B2", train: "#8a939b" };
const LINES = { robust: "solid", clean: "dashed", averaged: "dotted" };
const SHAPES = { robust: "circle", clean: "rect", averaged: "triangle" };
let curve = null;

function pairs(entries) {
  const rows = entries.filter(([, value]) => value !== "" && value != null)
    .map(([name, value, axis]) => h("div", { class: axis ? "axis" : "" }, h("dt", {}, name), h("dd", {}, String(value))));
  return h("dl", { class: "pairs" }, ...rows);
}

function settingsOf(place) {
  const { shared = {}, differing = {} } = trials.settings;
  const axes = new Set(columns.filter((one) => one.axis).map((one) => one.name));
  const own = Object.entries(differing).map(([key, { words, of }]) => [key, words[of[place]], axes.has(key)]);
  if (!own.length && !Object.keys(shared).length) return [];
  return [h("h4", {}, "Settings in which trials differ"), pairs(own),
    h("details", {}, h("summary", {}, `${Object.keys(shared).length} settings that all trials share`), pairs(Object.entries(shared)))];
}

function logOf(place) {
  const { of, texts } = trials.events;
  if (!of || !of[place].length) return [];
  const lines = of[place].map(([when, text]) => h("li", {}, h("time", {}, when), texts[text]));
  return [h("h4", {}, "Log"), h("ol", { class: "log" }, ...lines)];
}

function numbersOf(place) {
  const told = columns.filter((one) => one.name !== "trial_id" && one.name !== "reason");
  return [h("h4", {}, "Results"), pairs(told.map((one) => [one.title, shown(one, one.values[place]), one.axis])),
    reasonOf(place)];
}

function reasonOf(place) {
  const reason = columns[columnNamed.get("reason")]?.values[place];
  return reason ? h("p", { class: "note" }, `Reason: ${reason}`) : null;
}

/** Curves of this trial: accuracies, or losses. */
function drawCurve(place, losses) {
  const box = document.getElementById("curve");
  const there = (one) => trials.curves.values[one][place].some((value) => value != null);
  const metrics = trials.curves.metrics.filter((one) => one.endsWith("loss") === losses && there(one));
  const look = axisLook();
  const series = metrics.map((one) => {
    const split = ["val", "test", "train"].find((name) => one.includes(name));
    const kind = one.includes("clean") ? "clean" : one.startsWith("averaged") ? "averaged" : "robust";
    return {
      type: "line", name: one.replace("_loss", "").replaceAll("_", " "), data: curveOf(one, place), color: COLOURS[split],
      showSymbol: trials.curves.values.epoch[place].length < 16, symbol: SHAPES[kind], symbolSize: 6,
      lineStyle: { width: 2, type: LINES[kind] },
    };
  });
  curve?.dispose();
  curve = echarts.init(box, null, { renderer: "canvas" });
  boxes.observe(box);
  curve.setOption({
    ...base(), legend: { ...legendOf(), itemWidth: 38 }, grid: { left: 58, right: 20, top: innerWidth < 700 ? 92 : 48, bottom: 44 },
    tooltip: { ...base().tooltip, trigger: "axis", valueFormatter: (value) => value == null ? "" : String(Number(value.toFixed(3))) },
    xAxis: { ...look, type: "value", name: "epoch", nameLocation: "middle", nameGap: 28, minInterval: 1, min: "dataMin", max: "dataMax" },
    yAxis: { ...look, type: "value", scale: true, name: losses ? "loss (nat)" : "accuracy (%)", nameLocation: "middle", nameGap: 40 },
    series,
  });
  box.dataset.lines = metrics.length;
}

function hasLosses(place) {
  return trials.curves.metrics.some((one) => one.endsWith("loss") && trials.curves.values[one][place].some((value) => value != null));
}

function curveParts(place) {
  if (!trials.curves.metrics.length || !trials.curves.values.epoch[place].length) return [h("p", { class: "note" }, "No epoch of it was measured.")];
  const kinds = [["accuracies", false], ...(hasLosses(place) ? [["losses", true]] : [])];
  const tabs = kinds.map(([title, losses]) => h("button", {
    type: "button", "aria-pressed": String(!losses),
    onclick: (event) => {
      for (const one of event.target.parentElement.children) one.setAttribute("aria-pressed", String(one === event.target));
      drawCurve(place, losses);
    },
  }, title));
  return [h("div", { class: "tabs" }, ...(tabs.length > 1 ? tabs : [])), h("div", { id: "curve", role: "img", "aria-label": "Curves by epoch" })];
}

function step(by) {
  const order = activePlaces();
  const here = order.indexOf(trials.ids.indexOf(state.trial));
  const next = order[here + by];
  if (next != null) openTrial(trials.ids[next]);
}

function openTrial(id) {
  const place = trials.ids.indexOf(id);
  const box = document.getElementById("trial");
  if (place < 0) return;
  state.trial = id;
  writeState();
  const outcome = columns[columnNamed.get("outcome")].values[place];
  const bar = h("div", { class: "bar" },
    h("h3", { id: "trial-title" }, `${trials.method[place]} `, h("code", {}, id), " ", h("span", { class: `outcome ${/^\w+$/.test(outcome) ? outcome : ""}` }, outcome)),
    h("button", { type: "button", "aria-label": "Trial above", onclick: () => step(-1) }, "↑"),
    h("button", { type: "button", "aria-label": "Trial below", onclick: () => step(1) }, "↓"),
    h("button", { type: "button", "aria-label": "Close", autofocus: true, onclick: () => box.close() }, "✕"));
  const ran = trials.ran.map((one) => [one.title.replaceAll("_", " "), shown(one, one.values[place])]);
  const body = h("div", { class: "body" }, ...curveParts(place), ...numbersOf(place), ...logOf(place), ...settingsOf(place),
    ...(ran.length ? [h("h4", {}, "Where it ran"), pairs(ran)] : []));
  box.replaceChildren(bar, body);
  if (!box.open) box.showModal();
  box.scrollTop = 0;
  if (document.getElementById("curve")) drawCurve(place, false);
  markShown();
}
