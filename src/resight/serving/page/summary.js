// How many pictures of each class; pressing one shows only those.

import { count, el, percent, plural, shown } from "./text.js";

const SHOWN = 14;

// What a picture counts as: { key, text, kind }. Any number of labels counts once for each.
export function kinds(item) {
  if (item.state === "error") return [{ key: "error", text: "error", kind: "bad" }];
  if (item.state !== "done") return [];
  if (item.answer.unknown) return [{ key: "unknown", text: "unknown", kind: "warn" }];
  const names = item.answer.labels ? item.answer.labels.map((one) => one.class) : [item.answer.label];
  if (!names.length) return [{ key: "none", text: "none", kind: "warn" }];
  return names.map((name) => ({ key: `class ${name}`, text: name, kind: "class" }));
}

export function tally(items) {
  const found = new Map();
  for (const one of items.flatMap(kinds)) {
    const entry = found.get(one.key) ?? { ...one, number: 0 };
    found.set(one.key, { ...entry, number: entry.number + 1 });
  }
  const order = { class: 0, warn: 1, bad: 2 };
  return [...found.values()].sort((a, b) => order[a.kind] - order[b.kind] || b.number - a.number);
}

export function matches(item, chosen) {
  return chosen === null || kinds(item).some((one) => one.key === chosen);
}

// choose(key | null)
export function paintSummary(list, items, chosen, choose) {
  const entries = tally(items);
  const classes = entries.filter((one) => one.kind === "class");
  const hidden = new Set(classes.slice(SHOWN).map((one) => one.key));
  const seen = entries.filter((one) => !hidden.has(one.key) || one.key === chosen);
  const all = { key: null, text: "all", kind: "all", number: items.length };
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  list.replaceChildren(
    ...(entries.length && items.length > 1 ? [all, ...seen] : []).map((one) => chip(one, one.key === chosen, choose)),
    ...(hidden.size ? [el("li", { class: "soft rest" }, `and ${count(hidden.size)} more`)] : []),
  );
  if (focused !== undefined) [...list.querySelectorAll("button")].find((one) => one.dataset.key === focused)?.focus();
}

function chip({ key, text, kind, number }, pressed, choose) {
  const press = () => choose(pressed ? null : key);
  const attributes = { type: "button", class: `chip ${kind}`, "aria-pressed": String(pressed), onclick: press };
  const button = el("button", attributes, el("bdi", {}, shown(text, 60)), " ", el("b", {}, count(number)));
  button.dataset.key = String(key);
  return el("li", {}, button);
}

// "20 pictures: 12 cat, 5 dog, 2 unknown, 1 error", for a screen reader.
export function sentence(items) {
  const parts = tally(items).slice(0, 12).map((one) => `${count(one.number)} ${shown(one.text, 60)}`);
  return `${plural(items.length, "picture")}: ${parts.join(", ")}`;
}

// What one picture was answered, in a few words.
export function inWords(item) {
  const name = shown(item.name, 80);
  if (item.state === "error") return `${name}: ${item.problem.title}. ${shown(item.problem.detail)}`;
  const { answer } = item;
  if (answer.unknown) return `${name}: unknown; the guess would be ${shown(answer.label)}`;
  const labels = answer.labels ?? [{ class: answer.label, probability: answer.probability }];
  return `${name}: ${labels.map((one) => `${shown(one.class)}, ${percent(one.probability)}`).join("; ") || "none"}`;
}
