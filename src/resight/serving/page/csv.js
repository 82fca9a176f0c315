// The table as CSV, by the rules of `resight predict --format csv` (resight/inference/writers.py): the same columns,
// the same cells, the same bytes.

const FORMULA = ["=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n", "'"];

// entries: [{ name, answer | null, error | null }], in order.
export function csv(entries) {
  const first = entries.find((entry) => entry.answer);
  const width = first ? first.answer.top.length : 0;
  const multi = Boolean(first?.answer.labels);
  const heads = ["source", "label", "probability", "error", "unknown", "score", "threshold"];
  if (multi) heads.push("labels");
  const adaptive = Boolean(first?.answer.route);
  if (adaptive) heads.push("route");
  for (let k = 1; k <= width; k += 1) heads.push(`class_${k}`, `p_${k}`);
  return [heads, ...entries.map((entry) => cells(entry, multi, adaptive))].map((row) => line(row, heads.length)).join("");
}

function cells({ name, answer, error }, multi, adaptive) {
  if (!answer) return [name, null, null, error];
  const { label, probability, unknown, score, labels, top } = answer;
  const row = [name, label, probability, null, unknown === null ? null : String(unknown)];
  row.push(score?.value ?? null, score?.threshold ?? null);
  if (multi) row.push(join((labels ?? []).map((one) => one.class)));
  if (adaptive) row.push(answer.route);
  return [...row, ...top.flatMap((one) => [one.class, one.probability])];
}

function line(row, width) {
  return `${Array.from({ length: width }, (_, k) => cell(row[k])).join(",")}\n`;
}

function cell(value) {
  return typeof value === "number" ? decimal(value) : `"${escapeCell(value ?? "").replaceAll('"', '""')}"`;
}

// A cell that no spreadsheet takes for a formula.
export function escapeCell(text) {
  return FORMULA.some((start) => text.startsWith(start)) ? `'${text}` : text;
}

// Several names in one cell: resight/samples/cells.py.
function join(names) {
  return names.map((name) => name.replaceAll("\\", "\\\\").replaceAll("|", "\\|")).join("|");
}

// A float as Python writes it: 1.0, 0.25, 1e-05.
function decimal(value) {
  const size = Math.abs(value);
  if (value !== 0 && (size < 1e-4 || size >= 1e16)) {
    const [digits, power] = value.toExponential().split("e");
    return `${digits}e${power[0]}${power.slice(1).padStart(2, "0")}`;
  }
  return Number.isInteger(value) ? `${value}.0` : String(value);
}

export function download(text, name) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
