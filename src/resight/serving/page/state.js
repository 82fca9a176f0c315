// What the page knows. An item is one picture:
// { file, name, url, state, tries, turn, maps, map, answer, problem, notBefore, reliability, routed, card, part }
// with state: waiting → asking → done | error, or later: asked again by the page itself.
// turn: grows when an answer that is on its way is no longer wanted.

export const state = {
  items: [],
  model: null, // the name of the chosen one, and its card
  card: null,
  view: "cards",
  chosen: null, // only pictures of this kind are shown: a key of summary.js
  sort: { column: null, down: false },
  spoken: 0, // answers that a screen reader was told
};

export const settled = (item) => item.state === "done" || item.state === "error";

export const canRetry = (item) => item.state === "error" && item.problem.retryable && Date.now() >= item.notBefore;
