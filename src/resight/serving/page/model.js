// What a model knows, how good it is, and what it does not know: its card, in sentences and tables.

import { bytes, count, el, listed, percent, plural, shown } from "./text.js";

const CLASSES_SHOWN = 40;

// In the order shown: key in metrics, title, meaning, whether it is a share.
const METRICS = [
  ["accuracy", "Accuracy", "pictures answered rightly", true],
  ["top5", "Among the best five", "the right class is one of five", true],
  ["subset_accuracy", "All labels right", "pictures answered exactly", true],
  ["map", "mAP", "average precision, mean of the classes", true],
  ["macro_precision", "Precision", "how often an answer is right, mean of the classes", true],
  ["macro_recall", "Recall", "how much of a class is found, mean of the classes", true],
  ["macro_f1", "F1", "both in one, mean of the classes", true],
  ["auroc", "AUROC", "how well classes are told apart; 1 is best", false],
  ["hamming_loss", "Hamming loss", "labels that are wrong", true],
  ["log_loss", "Log loss", "0 is sure and right", false],
  ["brier", "Brier score", "0 is sure and right", false],
  ["ece", "Calibration error", "how far its probabilities are from the truth", true],
];

// "56.3 – 74.5 %", not broken over lines
function interval({ low, high }, share = true, digits = 1) {
  const [from, to] = [low, high].map((x) => (share ? (100 * x).toFixed(digits) : x.toFixed(3)));
  return `${from}\u00a0–\u00a0${to}${share ? "\u00a0%" : ""}`;
}

function withInterval(estimate, share = true) {
  if (!estimate) return "–"; // undefined: as precision is of a class that was never answered
  return `${share ? percent(estimate.value) : estimate.value.toFixed(3)} (${interval(estimate, share)})`;
}

const part = (card) => (card.part === "val" ? "validation" : "test");

// One sentence on what it knows, and one on how well.
function knows(card) {
  const number = card.classes.length;
  const kinds = `${count(number)} ${number === 1 ? "class" : "classes"}`;
  const known = card.task === "multi" ? `This model finds any of ${kinds}` : `This model tells ${kinds} apart`;
  const { accuracy, map } = card.metrics?.metrics ?? {};
  const tested = `${plural(card.metrics?.n ?? 0, `${part(card)} picture`)}, 95\u00a0% interval`;
  if (accuracy) return `${known}. It was right on ${percent(accuracy.value)} of ${tested} ${interval(accuracy)}.`;
  if (map) return `${known}. Its mAP is ${percent(map.value)} on ${tested} ${interval(map)}.`;
  return `${known}. How well was not measured.`;
}

// Of one answer: how often such answers were right. "" where that was not measured.
export function reliability(card, label) {
  const found = card.metrics?.per_class?.find((one) => one.name === label)?.precision;
  if (!found) return "";
  const right = `${percent(found.value, 0)} of these answers were right (${interval(found, true, 0)})`;
  return `On ${part(card)} pictures, ${right}.`;
}

// Of one answer of an adaptive artefact: which of its networks gave it, and how often that one does. "" of others.
export function routed(card, name) {
  const route = card.routes?.find((one) => one.name === name);
  if (!route) return "";
  const often = route.share === null ? "" : ` (${percent(route.share, 0)} of ${part(card)} pictures)`;
  const time = route.time === null ? "" : `, in ${percent(route.time, 0)} of the whole network’s time`;
  return `Answered by ${shown(name)}${often}${time}.`;
}

// Of the empty page: the sentences, and the classes.
export function paintKnown(text, list, card) {
  const rest = card.classes.length - CLASSES_SHOWN;
  text.textContent = knows(card);
  list.replaceChildren(
    ...names(card.classes.slice(0, CLASSES_SHOWN)),
    ...(rest > 0 ? [el("li", { class: "soft" }, `and ${count(rest)} more`)] : []),
  );
}

export function paintCard(place, card) {
  const sections = [classes, metrics, perClass, routes, unknown, data, limits, made].map((section) => section(card));
  place.replaceChildren(el("p", { class: "lead" }, knows(card)), ...sections.flat().filter(Boolean));
}

const names = (classes) => classes.map((name) => el("li", { dir: "auto" }, shown(name, 60)));

function facts(entries) {
  const there = entries.filter(([, value]) => value !== null && value !== undefined && value !== "");
  const rows = there.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, el("bdi", {}, value))));
  return el("dl", { class: "facts" }, rows);
}

function classes(card) {
  return [el("h3", {}, "Classes"), el("ul", { class: "classes" }, names(card.classes))];
}

function metrics(card) {
  const found = card.metrics?.metrics;
  const heading = el("h3", {}, "How good it is");
  if (!found) return [heading, el("p", {}, "It was not evaluated: there are no figures to rely on.")];
  const rows = METRICS.filter(([key]) => found[key]).map(([key, title, meaning, share]) => {
    const head = el("th", { scope: "row" }, title, el("span", { class: "soft" }, meaning));
    return el("tr", {}, head, el("td", { class: "number" }, withInterval(found[key], share)));
  });
  const tested = plural(card.metrics.n, `${part(card)} picture`);
  const told = `On ${tested} it was not trained with; 95\u00a0% intervals in brackets.`;
  return [
    heading,
    el("p", { class: "soft note" }, told),
    el("table", { class: "metrics" }, el("tbody", {}, rows)),
  ];
}

function perClass(card) {
  const found = card.metrics?.per_class;
  if (!found?.length) return null;
  const cell = (text) => el("td", { class: "number" }, text);
  const rows = found.map(({ name, precision, recall, support }) => {
    const head = el("th", { scope: "row", dir: "auto" }, shown(name));
    return el("tr", {}, head, cell(withInterval(precision)), cell(withInterval(recall)), cell(count(support)));
  });
  const titles = ["Class", "Right when named", "Found", "Pictures"];
  const heads = titles.map((title, k) => el("th", { scope: "col", class: k ? "number" : null }, title));
  const table = el("table", {}, el("thead", {}, el("tr", {}, heads)), el("tbody", {}, rows));
  const scroll = { class: "scroll", tabindex: "0", role: "region", "aria-label": "Metrics of each class" };
  return el("details", {}, el("summary", {}, "Class by class"), el("div", scroll, table));
}

function routes(card) {
  if (!card.routes?.length) return null;
  const measured = (share) => (share === null ? "–" : percent(share));
  const rows = card.routes.map(({ name, share, time }) => {
    const cells = [share, time].map((one) => el("td", { class: "number" }, measured(one)));
    return el("tr", {}, el("th", { scope: "row" }, shown(name)), cells);
  });
  const titles = ["Network", `Share of ${part(card)} pictures`, "Time of a picture"];
  const heads = titles.map((title, k) => el("th", { scope: "col", class: k ? "number" : null }, title));
  const told = "Not every picture needs the whole network. Times are relative to its own.";
  return [
    el("h3", {}, "Which network answers"),
    el("p", { class: "soft note" }, told),
    el("table", {}, el("thead", {}, el("tr", {}, heads)), el("tbody", {}, rows)),
  ];
}

function unknown(card) {
  const heading = el("h3", {}, "What it calls unknown");
  const rule = card.unknown;
  if (!rule) return [heading, el("p", {}, "It cannot tell: it names a class whatever the picture shows.")];
  const [limit, kept] = [Number(rule.threshold.toPrecision(4)), percent(rule.kept, 0)];
  const text =
    `A picture is called unknown when its score “${shown(rule.score)}” is above ${limit}: it is then less like ` +
    `the training pictures than ${kept} of ${plural(rule.validation, "validation picture")} were. ` +
    `So about ${percent(1 - rule.kept, 0)} of good pictures are called unknown, too.` +
    (card.routes?.length ? " The score is that of the graph that answered, in a unit of its own." : "");
  return [heading, el("p", {}, text)];
}

function data(card) {
  const { train, val, test } = card.data?.counts ?? {};
  if (train === undefined && !card.data?.name) return null;
  const number = (value) => (value === undefined ? null : count(value));
  return [
    el("h3", {}, "Made from"),
    facts([
      ["Data set", card.data.name && shown(card.data.name)],
      ["Training pictures", number(train)],
      ["Validation pictures", number(val)],
      ["Test pictures", number(test)],
    ]),
  ];
}

function limits(card) {
  const found = card.limits ?? {};
  return [
    el("h3", {}, "What it takes"),
    facts([
      ["Formats", found.formats && listed(found.formats)],
      ["Largest file", found.bytes && bytes(found.bytes)],
      ["Most pixels", found.megapixels && `${found.megapixels} megapixels`],
    ]),
  ];
}

const COLOURS = { 1: "grey", 3: "colour" };

function made(card) {
  const { architecture, geometry, parity, channels } = card;
  const colours = COLOURS[channels] ?? `${channels} channels`;
  const close = parity?.pictures && Number(parity.max_abs).toExponential(0);
  return [
    el("h3", {}, "Made how"),
    facts([
      ["Network", shown(architecture?.name ?? architecture ?? "")],
      ["It sees", geometry && `${geometry.size} × ${geometry.size} pixels, ${colours}, by ${shown(geometry.kind)}`],
      ["Recipe", shown(card.recipe ?? "")],
      ["Artifact", card.artifact && shown(card.artifact)],
      ["Same answers as in training", close && `${percent(parity.top1_agreement)} of ${count(parity.pictures)}`],
      ["Probabilities differ by", close && `${close} at most`],
      ["Created", shown((card.created ?? "").replace("T", " ").replace("+00:00", " UTC"))],
      ["Version", shown(card.version ?? "", 60)],
    ]),
  ];
}
