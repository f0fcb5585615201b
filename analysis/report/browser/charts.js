"use strict";
// The views of the trials: parallel coordinates, a scatter, curves; methods in the colours and marks of the figures.

const SYMBOLS = { o: ["circle", 0], s: ["rect", 0], "^": ["triangle", 0], D: ["diamond", 0], v: ["triangle", 180] };
const MOST_LINES = 120;
const FEW_VALUES = 8;
let view = null;

/** Charts are as wide as their boxes, whatever makes these wider or narrower. */
const boxes = new ResizeObserver((entries) => {
  for (const { target } of entries) echarts.getInstanceByDom(target)?.resize();
});

function ink(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }

/** How much of a line's colour shows where there are many: more on a dark page, on which colours are fainter. */
function opacity(light) { return Math.min(1, light * (document.documentElement.dataset.theme === "dark" ? 1.7 : 1)); }

function colourOf(place) { return (trials.methods[trials.method[place]] ?? ["#0072B2", "o"])[0]; }

/** What all charts share. */
function base() {
  return {
    animation: false,
    aria: { enabled: true },
    textStyle: { fontFamily: getComputedStyle(document.body).fontFamily, color: ink("--ink") },
    tooltip: {
      confine: true, backgroundColor: ink("--card"), borderColor: ink("--line"),
      textStyle: { color: ink("--ink"), fontSize: 12.5 }, extraCssText: "max-width: 22rem; white-space: normal",
    },
  };
}

function axisLook() {
  const line = { lineStyle: { color: ink("--faint") } };
  return {
    axisLine: line, axisTick: line,
    axisLabel: { color: ink("--soft"), hideOverlap: true, textBorderColor: ink("--card"), textBorderWidth: 3 },
    nameTextStyle: { color: ink("--ink") }, splitLine: { lineStyle: { color: ink("--line") } },
  };
}

/** How a column's values lie on an axis: each for itself where they are words or, if asked, few; else along a scale. */
function scaleOf(column, few = false) {
  const values = column.values.filter((one) => one != null && one !== "");
  const distinct = [...new Set(values)];
  if (column.kind !== "number") return { type: "category", data: distinct };
  if (few && column.axis && distinct.length <= FEW_VALUES) return { type: "category", data: distinct.sort((a, b) => a - b).map(String) };
  const low = Math.min(...values), high = Math.max(...values);
  const ticks = column.axis && distinct.length <= FEW_VALUES ? { customValues: distinct } : {};
  if (column.axis && low > 0 && high / low >= 8) return { type: "log", min: low / 1.2, max: high * 1.2, axisTick: ticks, axisLabel: { formatter: brief, ...ticks } };
  const room = 0.04 * (high - low || Math.abs(high) || 1);
  return { type: "value", scale: true, min: Number((low - room).toPrecision(4)), max: Number((high + room).toPrecision(4)), axisTick: ticks, axisLabel: { formatter: brief, ...ticks } };
}

function brief(value) { return String(Number(Number(value).toPrecision(3))); }

/** Of one trial its id, what varies, and some further columns. */
function summary(place, names = []) {
  const told = columns.filter((one) => one.axis || one.name === "seed" || names.includes(one.name));
  const lines = told.map((one) => h("div", {}, `${one.title}: ${shown(one, one.values[place])}`));
  return h("div", {}, h("strong", {}, `${trials.ids[place]}, ${trials.method[place]}`), ...lines);
}

/** The numeric columns and those of words that the charts can show. */
function drawable() {
  return columns.filter((one) => one.name !== "trial_id" && one.name !== "reason" && one.values.some((value) => value != null && value !== ""));
}

function parallelOption(places) {
  const known = columns.filter((one) => one.axis || columns.indexOf(one) === trials.metric || one.name === "last_test_clean");
  const usable = known.length > 1 ? known : drawable().filter((one) => one.kind === "number");
  const axes = usable.filter((one) => one.axis || 2 * one.values.filter((value) => value != null && value !== "").length > one.values.length);
  const cells = places.map((place) => ({
    value: axes.map((one) => { const value = one.values[place]; return value == null || value === "" ? "-" : scaleOf(one, true).data ? String(value) : value; }),
    place, lineStyle: { color: colourOf(place), opacity: opacity(places.length > 200 ? 0.22 : 0.5), width: 1.3 },
  }));
  const look = axisLook();
  const narrow = innerWidth < 700;
  return {
    axes,
    option: {
      ...base(),
      parallel: { left: narrow ? 46 : 70, right: narrow ? 72 : 90, top: 58, bottom: 34, parallelAxisDefault: { ...look, nameLocation: "end", nameGap: 16, nameTextStyle: { fontSize: narrow ? 10 : 12, color: ink("--ink") }, realtime: false, areaSelectStyle: { width: 22, color: ink("--accent"), borderColor: ink("--accent"), opacity: 0.25 } } },
      parallelAxis: axes.map((one, dim) => {
        const scale = scaleOf(one, true);
        const name = narrow ? one.title.split(".").pop() : one.title;
        return { dim, name, ...scale, axisLabel: { ...look.axisLabel, ...(scale.axisLabel ?? {}) }, nameRotate: narrow ? 18 : 0 };
      }),
      series: [{ type: "parallel", smooth: false, data: cells, emphasis: { lineStyle: { width: 3.5, opacity: 1 } } }],
    },
    note: "A line a trial. Drag along an axis to filter by it; the field under the column's name then says how, and undoes it.",
  };
}

/** A dragged interval becomes the filter of its column, which the address keeps. */
function filterByAxis(axes) {
  const components = view.getModel().queryComponents({ mainType: "parallelAxis" });
  components.forEach((component, number) => {
    const [interval] = component.activeIntervals ?? [];
    if (!interval) return;
    const column = axes[number];
    const words = scaleOf(column, true).data;
    const asked = words
      ? words.slice(Math.max(0, Math.ceil(Math.min(...interval))), Math.floor(Math.max(...interval)) + 1).map((one) => `=${one}`).join("|")
      : interval.map((one) => Number(one.toPrecision(4))).sort((a, b) => a - b).join("..");
    if (asked) table.setHeaderFilterValue(`c${columns.indexOf(column)}`, asked);
  });
}

function scatterOption(places) {
  const x = columns[columnNamed.get(state.x)] ?? columns.find((one) => one.name === "optimizer.lr" && one.axis) ?? columns.find((one) => one.axis) ?? drawable()[0];
  const y = columns[columnNamed.get(state.y)] ?? columns[trials.metric] ?? drawable().at(-1);
  const look = axisLook();
  const scales = [x, y].map((one, which) => {
    const scale = scaleOf(one);
    return { ...look, ...scale, name: one.title, nameLocation: "middle", nameGap: which ? 46 : 30, axisTick: { ...look.axisTick, ...(scale.axisTick ?? {}) }, axisLabel: { ...look.axisLabel, ...(scale.axisLabel ?? {}) } };
  });
  const points = places.filter((place) => [x, y].every((one) => one.values[place] != null && one.values[place] !== ""));
  const series = Object.entries(trials.methods).map(([name, [colour, mark]]) => {
    const [symbol, symbolRotate] = SYMBOLS[mark] ?? SYMBOLS.o;
    const own = points.filter((place) => trials.method[place] === name);
    return {
      type: "scatter", name, symbol, symbolRotate, symbolSize: 9, itemStyle: { color: colour, opacity: opacity(0.75) },
      data: own.map((place) => ({ value: [x.values[place], y.values[place]], place })),
    };
  }).filter((one) => one.data.length);
  const tooltip = { ...base().tooltip, formatter: ({ data }) => summary(data.place, [x.name, y.name]) };
  return {
    x, y,
    option: { ...base(), tooltip, legend: legendOf(), grid: { left: 66, right: 24, top: 44, bottom: 48 }, xAxis: scales[0], yAxis: scales[1], series },
    note: `A point a trial, ${points.length} of them. A click on one shows its curves, its log and its settings.`,
  };
}

function legendOf() { return { top: 8, itemWidth: 18, itemGap: 12, textStyle: { color: ink("--ink") }, inactiveColor: ink("--faint") }; }

function curveOf(metric, place) {
  const at = trials.curves.values.epoch[place];
  const values = trials.curves.values[metric][place];
  const part = metric.endsWith("loss") ? 1 : 100;
  return at.map((epoch, n) => [epoch, values[n] == null ? null : values[n] / part]);
}

function curvesOption(places) {
  const metric = trials.curves.metrics.includes(state.curve) ? state.curve : trials.curves.metrics.find((one) => one === "test_robust") ?? trials.curves.metrics[0];
  const drawn = metric ? places.filter((place) => trials.curves.values[metric][place].some((one) => one != null)) : [];
  const some = drawn.slice(0, MOST_LINES);
  const look = axisLook();
  const tooltip = { ...base().tooltip, formatter: ({ data, value }) => summaryAt((data ?? {}).place, value) };
  const series = some.map((place) => ({
    type: "line", name: trials.method[place], color: colourOf(place), showSymbol: trials.curves.values.epoch[place].length < 12, symbol: "circle", symbolSize: 5,
    lineStyle: { width: 1.4, opacity: opacity(some.length > 30 ? 0.4 : 0.75) }, emphasis: { focus: "series", lineStyle: { width: 3 } }, triggerLineEvent: true,
    data: curveOf(metric, place).map((value) => ({ value, place })), place,
  }));
  const left = drawn.length > some.length ? ` The first ${some.length} of ${drawn.length}, in the order of the table.` : "";
  const every = trials.curves.every > 1 ? ` Every ${trials.curves.every}th epoch and the last are in this page.` : "";
  return {
    metric,
    option: {
      ...base(), tooltip, legend: legendOf(), grid: { left: 62, right: 24, top: 44, bottom: 46 },
      xAxis: { ...look, type: "value", name: "epoch", nameLocation: "middle", nameGap: 28, minInterval: 1, min: "dataMin", max: "dataMax" },
      yAxis: { ...look, type: "value", scale: true, name: metric ? trials.curves.titles[metric] : "", nameLocation: "middle", nameGap: 44 },
      series,
    },
    note: `A line a trial.${left}${every} A click on one shows the trial.`,
  };
}

function summaryAt(place, value) {
  if (place == null) return "";
  const made = summary(place);
  made.append(h("div", {}, `epoch ${value[0]}: ${Number(value[1].toFixed(3))}`));
  return made;
}

const VIEWS = { parallel: parallelOption, scatter: scatterOption, curves: curvesOption };

function chosenView() { return VIEWS[state.view] ? state.view : "parallel"; }

function choice(title, names, chosen, change) {
  const select = h("select", { onchange: (event) => { change(event.target.value); writeState(); drawView(); } },
    ...names.map(([value, text]) => h("option", { value, selected: value === chosen }, text)));
  return h("label", {}, title, select);
}

function drawOptions(drawn) {
  const box = document.getElementById("view-options");
  const named = drawable().map((one) => [one.name, one.title]);
  const parts = {
    parallel: () => Object.entries(trials.methods).filter(([name]) => trials.method.includes(name)).map(([name, [colour]]) => {
      const dot = h("i"); dot.style.background = colour;
      return h("span", { class: "key" }, dot, name);
    }),
    scatter: () => [choice("across", named, drawn.x.name, (name) => { state.x = name; }), choice("up", named, drawn.y.name, (name) => { state.y = name; })],
    curves: () => drawn.metric ? [choice("of", trials.curves.metrics.map((one) => [one, trials.curves.titles[one]]), drawn.metric, (name) => { state.curve = name; })] : [],
  };
  box.replaceChildren(...parts[chosenView()]());
}

function drawView() {
  const box = document.getElementById("view");
  const kind = chosenView();
  for (const tab of document.querySelectorAll("[data-view]")) tab.setAttribute("aria-selected", String(tab.dataset.view === kind));
  const drawn = VIEWS[kind](activePlaces());
  view?.dispose();
  view = echarts.init(box, null, { renderer: "canvas" });
  boxes.observe(box);
  view.setOption(drawn.option);
  view.on("click", (event) => {
    const place = event.data?.place ?? drawn.option.series[event.seriesIndex]?.place;
    if (place != null) openTrial(trials.ids[place]);
  });
  if (kind === "parallel") view.on("axisareaselected", () => filterByAxis(drawn.axes));
  drawOptions(drawn);
  document.getElementById("view-note").textContent = drawn.note;
  box.dataset.drawn = kind;
}
