// One card a picture: the picture, the answer, the next best, and where the network looked.

import { el, icon, percent, shown } from "./text.js";

const TINY = 100; // px: pictures this small are shown as the blocks that they are
let number = 0;

// actions: { retry(item), remove(item), heat(item, class) }. Sets item.card, the list item.
export function makeCard(item, actions) {
  number += 1;
  const ids = { name: `name-${number}`, answer: `answer-${number}` };
  const picture = el("img", { class: "own", src: item.url, alt: `Your picture ${shown(item.name)}`, decoding: "async" });
  picture.addEventListener("load", () => picture.classList.toggle("blocks", small(picture)));
  picture.addEventListener("error", () => picture.replaceWith(noPicture(item)));
  const name = shown(item.name);
  const article = el(
    "article",
    { class: "card", tabindex: "0", "aria-labelledby": `${ids.name} ${ids.answer}` },
    el("div", { class: "picture" }, picture, el("div", { class: "map", hidden: true })),
    el(
      "div",
      { class: "said" },
      el("div", { class: "head" }, el("p", { class: "file", id: ids.name, dir: "auto", title: name }, name), remover(item, name, actions)),
      el("div", { class: "result", id: ids.answer }),
      el("div", { class: "more" }),
    ),
  );
  item.card = el("li", {}, article);
  item.part = (name) => article.querySelector(`.${name}`);
  paint(item, actions);
}

function remover(item, name, actions) {
  const press = () => actions.remove(item);
  return el("button", { type: "button", class: "quiet round remove", "aria-label": `Remove ${name}`, onclick: press }, icon("close"));
}

function noPicture(item) {
  const ending = /\.([a-z0-9]{1,5})$/i.exec(item.name)?.[1] ?? "file";
  return el("div", { class: "nothing" }, icon("file"), el("span", {}, ending.toUpperCase()));
}

function small(picture) {
  return Math.max(picture.naturalWidth, picture.naturalHeight) < TINY;
}

// Shows what is known of the item now.
export function paint(item, actions) {
  const article = item.card.firstElementChild;
  article.dataset.state = item.answer?.unknown && item.state === "done" ? "unknown" : item.state;
  article.setAttribute("aria-busy", String(item.state === "waiting" || item.state === "asking"));
  const [result, more] = STATES[item.state](item, actions);
  item.part("result").replaceChildren(...result);
  item.part("more").replaceChildren(...more);
  grow(item);
}

const STATES = {
  waiting: () => [[el("p", { class: "soft" }, "waiting")], [skeleton()]],
  asking: () => [[el("p", { class: "soft" }, "looking …")], [skeleton()]],
  later: (item) => [[el("p", { class: "warn" }, item.problem.title)], [el("p", { class: "note later" }, "It will be asked again by itself.")]],
  error: failed,
  done: answered,
};

function skeleton() {
  return el("div", { class: "skeleton", "aria-hidden": "true" }, el("i"), el("i"), el("i"));
}

function failed(item, actions) {
  const { title, detail, request, status, retryable } = item.problem;
  const more = [el("p", { class: "note", dir: "auto" }, shown(detail))];
  if (status >= 500 && request) more.push(el("p", { class: "note soft" }, `Request ${shown(request, 60)}`));
  if (retryable) {
    const again = el("button", { type: "button", class: "again", onclick: () => actions.retry(item) }, "Try again");
    more.push(el("div", { class: "actions" }, again));
    untilThen(again, item.notBefore ?? 0);
  }
  return [[el("p", { class: "answer bad" }, title)], more];
}

// The server said when: until then the button counts down and does nothing.
function untilThen(button, then) {
  const left = Math.ceil((then - Date.now()) / 1000);
  button.disabled = left > 0;
  button.textContent = left > 0 ? `Try again in ${left} s` : "Try again";
  if (left > 0) setTimeout(() => button.isConnected && untilThen(button, then), 250);
}

function answered(item, actions) {
  const { answer } = item;
  const result = answer.labels ? several(answer) : [one(answer)];
  const more = [];
  if (answer.unknown) more.push(el("p", { class: "note" }, doubt(answer)));
  else if (item.reliability) more.push(el("p", { class: "note soft" }, item.reliability));
  more.push(el("ol", { class: "bars", "aria-label": "Most probable classes; press one to see where the network found it" }, answer.top.map((each) => bar(item, each, actions))));
  const looked = () => actions.heat(item, answer.top[0].class, { toggle: true });
  const text = el("span", {}, "Where it looked");
  more.push(el("div", { class: "actions" }, el("button", { type: "button", class: "look", "aria-pressed": "false", onclick: looked }, el("i", { class: "swatch", "aria-hidden": "true" }), text)));
  return [result, more];
}

function one({ label, probability, unknown }) {
  if (unknown) return el("p", { class: "answer warn" }, "unknown");
  return el("p", { class: "answer" }, el("bdi", {}, shown(label)), el("span", { class: "share" }, percent(probability)));
}

function several({ labels, unknown }) {
  const tags = labels.map((each) => el("li", {}, el("bdi", {}, shown(each.class)), el("span", { class: "share" }, percent(each.probability))));
  const given = tags.length ? el("ul", { class: "tags", "aria-label": "Answer" }, tags) : el("p", { class: "answer none" }, "none of its classes");
  return unknown ? [el("p", { class: "answer warn" }, "unknown")] : [given];
}

function doubt({ label, probability, labels }) {
  const names = labels?.map((each) => `${shown(each.class)}, ${percent(each.probability)}`);
  if (names && !names.length) return "Unlike anything it was trained on; it would answer with none of its classes.";
  const guess = names ? names.join("; ") : `${shown(label)}, ${percent(probability)}`;
  return `Unlike anything it was trained on; its guess would be ${guess}.`;
}

function bar(item, each, actions) {
  const name = shown(each.class);
  const press = () => actions.heat(item, each.class, { toggle: true });
  const fill = el("i", { class: "fill", "data-share": String(each.probability) });
  const said = `${name}, ${percent(each.probability)}: show where`;
  return el(
    "li",
    {},
    el(
      "button",
      { type: "button", class: "row", "aria-pressed": "false", "aria-label": said, title: `Show where it found “${name}”`, onclick: press },
      el("bdi", { class: "name" }, name),
      el("span", { class: "share" }, percent(each.probability)),
      el("span", { class: "track" }, fill),
    ),
  );
}

// Bars grow from nothing: the width is set by script, since the page allows no style attributes in its markup.
function grow(item) {
  requestAnimationFrame(() => {
    for (const fill of item.card.querySelectorAll(".fill")) fill.style.width = `${100 * fill.dataset.share}%`;
  });
}

// The heat map of one class over the picture: `map` { class, url | null, problem | null }; null takes it away.
export function paintMap(item, map, actions) {
  const place = item.part("map");
  const chosen = map?.class ?? null;
  item.card.querySelectorAll(".row").forEach((row, k) => row.setAttribute("aria-pressed", String(item.answer.top[k].class === chosen)));
  const look = item.part("look");
  if (look) {
    look.setAttribute("aria-pressed", String(Boolean(map)));
    look.lastElementChild.textContent = map ? "Show the picture alone" : "Where it looked";
  }
  item.card.firstElementChild.classList.toggle("mapped", Boolean(map));
  place.hidden = !map;
  if (!map) return place.replaceChildren();
  const name = shown(map.class);
  if (map.problem) {
    const again = el("button", { type: "button", onclick: () => actions.heat(item, map.class, { toggle: false }) }, "Try again");
    return place.replaceChildren(el("div", { class: "refused", role: "alert" }, el("p", {}, `No heat map: ${map.problem.title}. ${shown(map.problem.detail)}`), map.problem.retryable && again || ""));
  }
  if (!map.url) return place.replaceChildren(el("p", { class: "legend" }, `looking for ${name} …`));
  const picture = el("img", { class: "heat", src: map.url, alt: `Heat map: what in ${shown(item.name)} speaks for ${name}` });
  picture.addEventListener("load", () => picture.classList.toggle("blocks", small(picture)));
  return place.replaceChildren(picture, el("p", { class: "legend" }, el("span", {}, "what speaks for ", el("b", { dir: "auto" }, name)), el("i", { class: "scale", "aria-hidden": "true" })));
}
