// What a model knows, how good it is, and what it does not know: its card, in sentences and tables.

import { bytes, count, el, listed, percent, plural, shown } from "./text.js";

// In the order shown: [key in metrics, title, meaning, share or plain number].
const METRICS = [
  ["accuracy", "Accuracy", "pictures answered rightly", true],
  ["top5", "Among the best five", "the right class is one of five", true],
  ["subset_accuracy", "All labels right", "pictures answered exactly", true],
  ["map", "mAP", "mean average precision of the classes", true],
  ["macro_precision", "Precision", "how often an answer is right, mean of the classes", true],
  ["macro_recall", "Recall", "how much of a class is found, mean of the classes", true],
  ["macro_f1", "F1", "both in one, mean of the classes", true],
  ["auroc", "AUROC", "how well classes are told apart", false],
  ["hamming_loss", "Hamming loss", "labels that are wrong", true],
  ["log_loss", "Log loss", "0 is sure and right", false],
  ["brier", "Brier score", "0 is sure and right", false],
  ["ece", "Calibration error", "how far its probabilities are from the truth", true],
];

// "85.9 % (85.3 – 86.6 %)"
export function withInterval({ value, low, high }, share = true) {
  const text = (x) => (share ? (100 * x).toFixed(1) : x.toFixed(3));
  return `${text(value)}${share ? "\u00a0%" : ""} (${text(low)} – ${text(high)}${share ? "\u00a0%" : ""})`;
}

const part = (card) => (card.part === "val" ? "validation" : "test");

// One sentence on what it knows, and how well.
export function knows(card) {
  const kinds = card.task === "multi" ? "finds any of" : "tells apart";
  const known = `This model ${kinds} ${plural(card.classes.length, "class").replace("classs", "classes")}: ${listed(card.classes.map((name) => shown(name, 60)), 8)}.`;
  const right = card.metrics?.metrics?.accuracy;
  const mean = card.metrics?.metrics?.map;
  if (right) return `${known} It was right on ${percent(right.value)} of ${count(card.metrics.n)} ${part(card)} pictures (95\u00a0% interval ${withInterval(right).split("(")[1].replace(")", "")}).`;
  if (mean) return `${known} Its mAP is ${withInterval(mean)} on ${count(card.metrics.n)} ${part(card)} pictures.`;
  return `${known} It was not evaluated here.`;
}

// Of one answer: how often such answers were right. "" where it was not measured.
export function reliability(card, label) {
  const found = card?.metrics?.per_class?.find((one) => one.name === label)?.precision;
  if (!found) return "";
  return `Of ${part(card)} pictures it called this, ${withInterval(found)} were.`;
}

export function paintCard(place, card) {
  const sections = [classes(card), metrics(card), perClass(card), unknown(card), data(card), limits(card), made(card)];
  place.replaceChildren(el("p", { class: "lead" }, knows(card)), ...sections.filter(Boolean).flat());
}

function facts(entries) {
  const rows = entries.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return el("dl", { class: "facts" }, rows.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", { dir: "auto" }, value))));
}

function classes(card) {
  return [el("h3", {}, `Classes (${count(card.classes.length)})`), el("ul", { class: "classes" }, card.classes.map((name) => el("li", { dir: "auto" }, shown(name))))];
}

function metrics(card) {
  const found = card.metrics?.metrics;
  if (!found) return [el("h3", {}, "How good it is"), el("p", {}, "It was not evaluated: there are no figures to rely on.")];
  const rows = METRICS.filter(([key]) => found[key]).map(([key, title, meaning, share]) =>
    el("tr", {}, el("th", { scope: "row" }, title, el("span", { class: "soft" }, meaning)), el("td", { class: "number" }, withInterval(found[key], share))),
  );
  return [
    el("h3", {}, "How good it is"),
    el("p", { class: "soft" }, `On ${count(card.metrics.n)} ${part(card)} pictures that it was not trained with, with 95 % intervals.`),
    el("table", { class: "metrics" }, el("tbody", {}, rows)),
  ];
}

function perClass(card) {
  const found = card.metrics?.per_class;
  if (!found?.length) return null;
  const share = (estimate) => (estimate ? withInterval(estimate) : "–");
  const rows = found.map((one) =>
    el("tr", {}, el("th", { scope: "row", dir: "auto" }, shown(one.name)), el("td", { class: "number" }, share(one.precision)), el("td", { class: "number" }, share(one.recall)), el("td", { class: "number" }, count(one.support))),
  );
  const heads = ["Class", "Right when named", "Found", "Pictures"].map((name, k) => el("th", { scope: "col", class: k ? "number" : null }, name));
  return el(
    "details",
    {},
    el("summary", {}, "Class by class"),
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Metrics of each class" }, el("table", {}, el("thead", {}, el("tr", {}, heads)), el("tbody", {}, rows))),
  );
}

function unknown(card) {
  const rule = card.unknown;
  const text = rule
    ? `A picture is called unknown when its score “${shown(rule.score)}” is above ${Number(rule.threshold).toPrecision(4)}: it then is less like the training pictures than ${percent(rule.kept, 0)} of ${plural(rule.validation, "validation picture")} were. About ${percent(1 - rule.kept, 0)} of good pictures are called unknown, too.`
    : "This model cannot tell: it answers with one of its classes, whatever the picture shows.";
  return [el("h3", {}, "What it calls unknown"), el("p", {}, text)];
}

function data(card) {
  const { train, val, test } = card.data?.counts ?? {};
  if (train === undefined && val === undefined) return null;
  return [
    el("h3", {}, "Made from"),
    facts([["Training pictures", count(train ?? 0)], ["Validation pictures", count(val ?? 0)], ["Test pictures", count(test ?? 0)]]),
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

function made(card) {
  const { architecture, geometry, parity } = card;
  const size = geometry && `${geometry.kind} to ${geometry.size} × ${geometry.size} pixels, ${card.channels === 1 ? "grey" : card.channels === 3 ? "colour" : plural(card.channels, "channel")}`;
  const equal = parity?.pictures && `${percent(parity.top1_agreement)} of ${count(parity.pictures)} answers as in training, probabilities within ${Number(parity.max_abs).toExponential(0)}`;
  return [
    el("h3", {}, "Made how"),
    facts([
      ["Network", typeof architecture === "string" ? shown(architecture) : shown(architecture?.name ?? "")],
      ["Parameters", architecture?.parameters && count(architecture.parameters)],
      ["Sees", size],
      ["Recipe", shown(card.recipe ?? "")],
      ["Artifact", card.artifact && shown(card.artifact)],
      ["Parity", equal],
      ["Created", shown((card.created ?? "").replace("T", " ").replace(/\+00:00$/, " UTC"))],
      ["Version", shown(card.version ?? "", 60)],
    ]),
  ];
}
