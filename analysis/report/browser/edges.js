"use strict";
// What is wider than its box fades at the edges beyond which it goes on.

const WIDE = "nav .links, .wide, figure .paper, pre, .tabulator-tableholder";

/** Marks the edges of a box beyond which there is more; of the table also those of its head, which moves along. */
function markEdges(box) {
  const marked = box.closest(".tabulator") ?? box;
  marked.classList.toggle("more-left", box.scrollLeft > 1);
  marked.classList.toggle("more-right", box.scrollWidth - box.clientWidth - box.scrollLeft > 1);
}

function watchEdges() {
  const sizes = new ResizeObserver((entries) => {
    for (const { target } of entries) markEdges(target.closest(WIDE));
  });
  for (const box of document.querySelectorAll(WIDE)) {
    box.addEventListener("scroll", () => markEdges(box), { passive: true });
    for (const one of [box, ...box.querySelectorAll(":scope > *, img")]) sizes.observe(one);
  }
}
