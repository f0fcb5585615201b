"use strict";
// While a sweep runs: the page is loaded anew once what stands under `version` beside it has changed.
(() => {
  let known = document.documentElement.dataset.version ?? null; // of this page, where who serves it says so
  async function ask() {
    try {
      const answer = await fetch(`version${location.search}`, { cache: "no-store" });
      const text = answer.ok ? await answer.text() : known;
      if (known !== null && text !== known) { location.reload(); return; }
      known = text;
    } catch { /* whoever serves it has ended, or not begun again */ }
    setTimeout(ask, 3000);
  }
  ask();
})();
