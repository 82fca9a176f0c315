// Strangers' text made safe to show, numbers for people, and elements made without markup.
// Nothing here or elsewhere sets innerHTML: text only ever becomes a text node.

const HARMFUL = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/gu;
const NAMED = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

// As `resight.images.printable`: control and direction characters as escapes, long text cut in the middle.
export function shown(text, limit = 300) {
  const safe = String(text).replace(HARMFUL, (char) => NAMED[char] ?? escaped(char.codePointAt(0)));
  return safe.length > limit ? `${safe.slice(0, limit / 2)}…${safe.slice(-limit / 2)}` : safe;
}

function escaped(code) {
  const hex = (digits) => code.toString(16).padStart(digits, "0");
  if (code < 0x100) return `\\x${hex(2)}`;
  return code < 0x10000 ? `\\u${hex(4)}` : `\\U${hex(8)}`;
}

// A reason as a sentence: servers say them in the middle of one.
export function sentenceOf(text) {
  const safe = shown(text);
  const ended = /[.!?…]$/.test(safe) ? safe : `${safe}.`;
  return safe && ended[0].toUpperCase() + ended.slice(1);
}

// 0 … 1 → "98.3 %"
export function percent(share, digits = 1) {
  return `${(100 * share).toFixed(digits)}\u00a0%`;
}

// A list in a sentence: "cat, dog and fox"; of more than `most` the rest is counted.
export function listed(names, most = Infinity) {
  if (names.length > most) return `${names.slice(0, most).join(", ")} and ${count(names.length - most)} more`;
  return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}

export function count(number) {
  return Number(number).toLocaleString("en-GB");
}

export function plural(number, noun) {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}

export function bytes(number) {
  const mega = number / 2 ** 20;
  return mega >= 1 ? `${Number(mega.toFixed(1))} MiB` : `${Math.max(1, Math.round(number / 1024))} KiB`;
}

// el("button", { type: "button", onclick: f }, "text", node): null, undefined and false are left out.
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
  return node;
}

export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(space, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

export const byId = (id) => document.getElementById(id);

export function show(node, visible) {
  node.hidden = !visible;
}

const TINY = 100; // px

// Pictures as small as this are shown as the blocks that they are, not smoothed to something they never were.
export function blocky(picture) {
  const small = () => Math.max(picture.naturalWidth, picture.naturalHeight) < TINY;
  picture.addEventListener("load", () => picture.classList.toggle("blocks", small()));
}
