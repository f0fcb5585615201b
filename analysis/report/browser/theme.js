"use strict";
// Light or dark, before anything is drawn: as chosen here once, else as the system is.
(() => {
  let chosen = null;
  try { chosen = localStorage.getItem("theme"); } catch { /* a page on the disk may have no storage */ }
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = chosen ?? (dark ? "dark" : "light");
})();
