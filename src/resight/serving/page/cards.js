// One card a picture: the picture, the answer, the next best.

import { bars, grow, lookButton } from "./heat.js";
import { blocky, el, icon, percent, sentenceOf, shown } from "./text.js";

let number = 0;

// actions: { retry(item), remove(item), heat(item, class, { toggle }) }. Sets item.card, the list item, and item.part,
// which finds a part of it by its class.
export function makeCard(item, actions) {
  number += 1;
  const ids = [`name-${number}`, `answer-${number}`];
  const name = shown(item.name);
  const picture = el("img", { class: "own", src: item.url, alt: `Your picture ${name}`, decoding: "async" });
  blocky(picture);
  picture.addEventListener("error", () => picture.replaceWith(noPicture(item)));
  const press = () => actions.remove(item);
  const remove = { type: "button", class: "quiet round", "aria-label": `Remove ${name}`, onclick: press };
  const file = el("p", { class: "file", id: ids[0], dir: "auto", title: name }, name);
  const article = el(
    "article",
    { class: "card", tabindex: "0", "aria-labelledby": ids.join(" ") },
    el("div", { class: "picture" }, picture, el("div", { class: "map", hidden: true })),
    el(
      "div",
      { class: "said" },
      el("div", { class: "head" }, file, el("button", remove, icon("close"))),
      el("div", { class: "result", id: ids[1] }),
      el("div", { class: "more" }),
    ),
  );
  item.card = el("li", {}, article);
  item.part = (part) => article.querySelector(`.${part}`);
  paint(item, actions);
}

function noPicture(item) {
  const ending = /\.([a-z0-9]{1,5})$/i.exec(item.name)?.[1] ?? "file";
  return el("div", { class: "nothing" }, icon("file"), el("span", {}, ending.toUpperCase()));
}

// Shows what is known of the item now.
export function paint(item, actions) {
  const article = item.card.firstElementChild;
  const unknown = item.state === "done" && item.answer.unknown;
  article.dataset.state = unknown ? "unknown" : item.state;
  article.setAttribute("aria-busy", String(item.state === "waiting" || item.state === "asking"));
  const held = article.contains(document.activeElement) && document.activeElement !== article;
  const [result, more] = STATES[item.state](item, actions);
  item.part("result").replaceChildren(...result);
  item.part("more").replaceChildren(...more);
  if (held && !article.contains(document.activeElement)) article.focus(); // its button is gone
  grow(item);
}

const STATES = {
  waiting: () => [[el("p", { class: "soft" }, "waiting")], [skeleton()]],
  asking: () => [[el("p", { class: "soft" }, "looking …")], [skeleton()]],
  later: ({ problem }) => [
    [el("p", { class: "answer warn small" }, problem.title)],
    [el("p", { class: "note" }, "It is asked again by itself.")],
  ],
  error: failed,
  done: answered,
};

function skeleton() {
  return el("div", { class: "skeleton", "aria-hidden": "true" }, el("i"), el("i"), el("i"));
}

function failed(item, actions) {
  const { title, detail, request, status, retryable } = item.problem;
  const more = detail ? [el("p", { class: "note", dir: "auto" }, sentenceOf(detail))] : [];
  if (status >= 500 && request) more.push(el("p", { class: "note soft" }, `Request ${shown(request, 60)}`));
  if (retryable) {
    const again = el("button", { type: "button", class: "again", onclick: () => actions.retry(item) });
    more.push(el("div", { class: "actions" }, again));
    countDown(again, item.notBefore);
  }
  return [[el("p", { class: "answer bad small" }, title)], more];
}

// The server said when it may be asked again: until then the button counts down and does nothing.
function countDown(button, then) {
  const left = Math.ceil((then - Date.now()) / 1000);
  button.disabled = left > 0;
  button.textContent = left > 0 ? `Try again in ${left} s` : "Try again";
  if (left > 0) setTimeout(() => button.isConnected && countDown(button, then), 250);
}

function answered(item, actions) {
  const { answer, reliability, routed } = item;
  const more = [];
  if (answer.unknown) more.push(el("p", { class: "note" }, doubt(answer)));
  else if (reliability) more.push(el("p", { class: "note soft" }, reliability));
  if (routed) more.push(el("p", { class: "note soft route" }, routed));
  more.push(bars(item, actions), el("div", { class: "actions" }, lookButton(item, actions)));
  return [[given(answer)], more];
}

function given({ label, probability, labels, unknown }) {
  if (unknown) return el("p", { class: "answer warn" }, "unknown");
  if (labels && !labels.length) return el("p", { class: "answer" }, "none of its classes");
  const pair = (name, p) => [el("bdi", {}, shown(name)), el("span", { class: "share" }, percent(p))];
  if (!labels) return el("p", { class: "answer" }, pair(label, probability));
  const tags = labels.map((one) => el("li", {}, pair(one.class, one.probability)));
  return el("ul", { class: "tags", "aria-label": "Answer" }, tags);
}

function doubt({ label, probability, labels }) {
  if (labels && !labels.length) return "Unlike anything it was trained on; it would name none of its classes.";
  const guesses = labels ?? [{ class: label, probability }];
  const named = guesses.map((one) => `“${shown(one.class)}” (${percent(one.probability)})`).join(", ");
  return `Unlike anything it was trained on; its guess would be ${named}.`;
}
