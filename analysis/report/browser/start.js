"use strict";
// Puts the page together once all of it is there.

function restyle() {
  drawView();
  const place = trials.ids.indexOf(state.trial);
  if (document.getElementById("curve") && place >= 0) drawCurve(place, false);
}

function listen() {
  const dialog = document.getElementById("trial");
  dialog.addEventListener("close", () => {
    const link = table.getRow(trials.ids.indexOf(state.trial))?.getElement().querySelector("a");
    state.trial = "";
    writeState();
    markShown();
    link?.focus();
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("keydown", (event) => {
    const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (by && event.altKey) { event.preventDefault(); step(by); }
  });
  for (const tab of document.querySelectorAll("[data-view]")) {
    tab.addEventListener("click", () => { state.view = tab.dataset.view; writeState(); drawView(); });
  }
  document.getElementById("theme").addEventListener("click", () => {
    const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    document.documentElement.dataset.theme = theme;
    try { localStorage.setItem("theme", theme); } catch { /* kept as long as the page is open */ }
    restyle();
  });
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#']");
    if (link && !event.defaultPrevented && !link.hash.includes("=")) goTo(event, link.hash.slice(1));
    const copied = event.target.closest("[data-copy]");
    if (copied) copy(copied);
    const picture = event.target.closest("figure .paper button");
    if (picture) picture.setAttribute("aria-pressed", String(picture.closest("figure").classList.toggle("large")));
  });
  addEventListener("hashchange", () => location.reload());
}

/** To a section, while the address goes on saying what is asked of the table. */
function goTo(event, name) {
  const target = document.getElementById(name);
  if (!target) return;
  event.preventDefault();
  target.scrollIntoView();
  target.setAttribute("tabindex", "-1");
  target.focus({ preventScroll: true });
}

function copy(button) {
  const range = document.createRange();
  const source = document.getElementById(button.dataset.copy);
  range.selectNodeContents(source);
  getSelection().removeAllRanges();
  getSelection().addRange(range);
  const done = () => { button.textContent = "Copied"; };
  if (navigator.clipboard) navigator.clipboard.writeText(source.textContent).then(done, () => {});
  else if (document.execCommand("copy")) done();
}

whenFiltered.push(drawView);
buildTools();
listen();
buildTable();
table.on("tableBuilt", watchEdges);
if (state.trial) openTrial(state.trial);
