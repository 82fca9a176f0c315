// All results as a table; each column sorts.

import { el, percent, shown } from "./text.js";

const collator = new Intl.Collator(undefined, { numeric: true });

// value: what is sorted by; text: what is shown; there: of a column that is left out where no picture has it.
const COLUMNS = [
  { name: "File", value: (item) => item.name, text: (item) => shown(item.name) },
  { name: "Answer", value: answer, text: (item) => shown(answer(item)) },
  { name: "Probability", number: true, value: probability, text: chance },
  { name: "Next best", value: second, text: (item) => shown(second(item)) },
  { name: "Unlikeness", number: true, value: (item) => item.answer?.score?.value ?? null, text: unlikeness },
  { name: "Answered by", value: route, text: (item) => shown(route(item) ?? ""), there: (item) => item.answer?.route },
  { name: "Note", value: note, text: (item) => shown(note(item)) },
];

function answer(item) {
  if (item.state === "error") return "error";
  if (!item.answer) return "waiting";
  if (item.answer.unknown) return "unknown";
  return item.answer.labels ? item.answer.labels.map((one) => one.class).join(", ") || "none" : item.answer.label;
}

function probability(item) {
  return item.answer?.probability ?? null;
}

function chance(item) {
  return item.answer ? percent(item.answer.probability) : "";
}

function second(item) {
  const next = item.answer?.top[1];
  return next ? `${next.class} ${percent(next.probability)}` : "";
}

function unlikeness(item) {
  const score = item.answer?.score;
  return score ? `${score.value.toPrecision(3)} of ${score.threshold.toPrecision(3)}` : "";
}

function route(item) {
  return item.answer?.route ?? null;
}

function note(item) {
  if (item.state === "error") return [item.problem.title, item.problem.detail].filter(Boolean).join(": ");
  return item.answer?.unknown ? `its guess would be ${item.answer.label}` : "";
}

// sort: { column, down }; choose(sort) asks to be shown anew; open(item) goes to its card.
export function paintTable(place, items, sort, choose, open) {
  const seen = [...COLUMNS.keys()].filter((k) => !COLUMNS[k].there || items.some(COLUMNS[k].there));
  const rows = sorted(items, sort).map((item) => {
    const kind = item.answer?.unknown ? "unknown" : item.state;
    return el("tr", { "data-state": kind }, seen.map((k) => cell(item, COLUMNS[k], k, open)));
  });
  const focused = place.contains(document.activeElement) ? document.activeElement.dataset.column : undefined;
  const heads = seen.map((k) => head(COLUMNS[k], k, sort, choose));
  place.replaceChildren(el("table", {}, el("thead", {}, el("tr", {}, heads)), el("tbody", {}, rows)));
  if (focused !== undefined) place.querySelector(`[data-column="${focused}"]`)?.focus();
}

// Stable; what has no value comes last in either direction.
function sorted(items, { column, down }) {
  if (column === null) return items;
  const { value } = COLUMNS[column];
  return [...items].sort((a, b) => {
    const [left, right] = [value(a), value(b)];
    if (left === null || right === null) return (left === null) - (right === null);
    const order = typeof left === "number" ? left - right : collator.compare(left, right);
    return down ? -order : order;
  });
}

function head(column, k, sort, choose) {
  const mine = sort.column === k;
  const state = mine ? (sort.down ? "descending" : "ascending") : "none";
  const press = () => choose({ column: k, down: mine ? !sort.down : Boolean(column.number) });
  const mark = el("span", { class: "order", "aria-hidden": "true" }, mine ? (sort.down ? "↓" : "↑") : "");
  const attributes = { type: "button", class: "quiet", "data-column": String(k), onclick: press };
  const button = el("button", attributes, column.name, mark);
  return el("th", { scope: "col", "aria-sort": state, class: column.number ? "number" : null }, button);
}

function cell(item, column, k, open) {
  const text = column.text(item);
  if (k === 0) {
    const link = el("button", { type: "button", class: "link", onclick: () => open(item) }, el("bdi", {}, text));
    const picture = el("img", { src: item.url, alt: "", width: 36, height: 36, loading: "lazy" });
    return el("th", { scope: "row" }, el("div", { class: "first" }, picture, link));
  }
  return el("td", { class: column.number ? "number" : null }, el("bdi", {}, text));
}
