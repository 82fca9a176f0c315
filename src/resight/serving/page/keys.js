// The keyboard: arrows from card to card, Enter for the heat map, Delete removes, Escape closes.

import { byId } from "./text.js";

// act: { toggle(item), remove(item), closeMap(item | null) → whether one was open }; of(article): its item.
export function listenForKeys(of, act) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const article = document.activeElement?.closest?.(".card");
    const item = article ? of(article) : null;
    if (event.key === "Escape" && act.closeMap(item)) {
      event.preventDefault();
      if (article) article.focus();
    } else if (article && HANDLERS[event.key]?.(event, article, item, act)) event.preventDefault();
  });
}

const HANDLERS = {
  ArrowRight: (_, article) => step(article, beside(article, 1)),
  ArrowLeft: (_, article) => step(article, beside(article, -1)),
  ArrowDown: (_, article) => step(article, below(article, 1)),
  ArrowUp: (_, article) => step(article, below(article, -1)),
  Home: (_, article) => step(article, visible().at(0)),
  End: (_, article) => step(article, visible().at(-1)),
  Enter: (event, article, item, act) => event.target === article && act.toggle(item),
  Delete: (event, article, item, act) => {
    const near = beside(article, 1) ?? beside(article, -1);
    act.remove(item);
    (near ?? byId("pick")).focus();
    return true;
  },
};

const visible = () => [...document.querySelectorAll("#cards > li:not([hidden]) > .card")];

function beside(article, by) {
  const all = visible();
  return all[all.indexOf(article) + by];
}

// The nearest card in the next row: rows are what the browser made of them.
function below(article, by) {
  const own = article.getBoundingClientRect();
  const rows = visible().map((one) => [one, one.getBoundingClientRect()]);
  const further = rows.filter(([, box]) => by * (box.top - own.top) > 4);
  const top = Math[by > 0 ? "min" : "max"](...further.map(([, box]) => box.top));
  const row = further.filter(([, box]) => Math.abs(box.top - top) < 4);
  return row.sort((a, b) => Math.abs(a[1].left - own.left) - Math.abs(b[1].left - own.left))[0]?.[0];
}

function step(from, to) {
  if (!to || to === from) return false;
  to.focus();
  return true;
}
