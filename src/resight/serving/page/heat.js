// The most probable classes as bars, each of which asks for its heat map, and the map over the picture.

import { blocky, el, percent, sentenceOf, shown } from "./text.js";

export function bars(item, actions) {
  const rows = item.answer.top.map((one) => bar(item, one, actions));
  return el("ol", { class: "bars", "aria-label": "Most probable classes" }, rows);
}

function bar(item, one, actions) {
  const name = shown(one.class);
  const attributes = {
    type: "button",
    class: "row",
    "aria-pressed": "false",
    "aria-label": `${name}, ${percent(one.probability)}: show what speaks for it`,
    title: "Show what speaks for it",
    onclick: () => actions.heat(item, one.class, { toggle: true }),
  };
  const fill = el("i", { class: "fill", "data-share": String(one.probability) });
  const share = el("span", { class: "share" }, percent(one.probability));
  const track = el("span", { class: "track" }, fill);
  return el("li", {}, el("button", attributes, el("bdi", { class: "name" }, name), share, track));
}

export function lookButton(item, actions) {
  const press = () => actions.heat(item, item.map?.class ?? item.answer.top[0].class, { toggle: true });
  const attributes = { type: "button", class: "look", "aria-pressed": "false", onclick: press };
  const swatch = el("i", { class: "swatch", "aria-hidden": "true" });
  return el("button", attributes, swatch, el("span", {}, "Where it looked"));
}

// Bars grow from nothing. Their widths are set by script, since the page allows no style in its markup.
export function grow(item) {
  requestAnimationFrame(() => {
    for (const fill of item.card.querySelectorAll(".fill")) fill.style.width = `${100 * fill.dataset.share}%`;
  });
}

// map: { class, url | null, problem? }; null takes it away.
export function paintMap(item, map, actions) {
  mark(item, map);
  const place = item.part("map");
  place.hidden = !map;
  place.replaceChildren(...(map ? content(item, map, actions) : []));
}

function mark(item, map) {
  const rows = [...item.card.querySelectorAll(".row")];
  rows.forEach((row, k) => row.setAttribute("aria-pressed", String(item.answer?.top[k].class === map?.class)));
  const look = item.part("look");
  if (!look) return;
  look.setAttribute("aria-pressed", String(Boolean(map)));
  look.lastElementChild.textContent = map ? "Show the picture alone" : "Where it looked";
}

function content(item, map, actions) {
  const name = shown(map.class);
  if (map.problem) return [refused(item, map, actions)];
  const speaks = el("span", {}, map.url ? "what speaks for " : "looking for ", el("b", { dir: "auto" }, name));
  if (!map.url) return [el("p", { class: "legend" }, speaks)];
  const alt = `Heat map: what in ${shown(item.name)} speaks for ${name}`;
  const picture = el("img", { class: "heat", src: map.url, alt });
  blocky(picture);
  return [picture, el("p", { class: "legend" }, speaks, el("i", { class: "scale", "aria-hidden": "true" }))];
}

function refused(item, { class: klass, problem }, actions) {
  const press = () => actions.heat(item, klass, { toggle: false });
  return el(
    "div",
    { class: "refused", role: "alert" },
    el("p", {}, `No heat map: ${problem.title}. ${sentenceOf(problem.detail)}`),
    problem.retryable && el("button", { type: "button", onclick: press }, "Try again"),
  );
}
