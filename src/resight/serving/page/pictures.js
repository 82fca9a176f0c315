// From a file to its answer and its heat maps, and away again.

import { Problem, explain, predict } from "./api.js";
import { makeCard, paint } from "./cards.js";
import { paintMap } from "./heat.js";
import { reliability, routed } from "./model.js";
import { makeQueue } from "./queue.js";
import { settled, state } from "./state.js";
import { byId, bytes, shown } from "./text.js";

const TRIES = 4; // of a busy server, before a person must ask again
const LONGEST_WAIT = 30; // s, that the page waits by itself
const TOP = 5;

// around: { refresh(), say(text), answered(item), serverGone(), modelChanged() → promise }
export function makePictures(around) {
  const queue = makeQueue(answer);
  const actions = { retry, remove, heat };

  function take(found) {
    const items = found.map(({ file, name }) => {
      const url = URL.createObjectURL(file);
      return { file, name, url, state: "waiting", tries: 0, turn: 0, maps: new Map(), map: null };
    });
    for (const item of items) {
      makeCard(item, actions);
      byId("cards").append(item.card);
    }
    state.items.push(...items);
    state.chosen = null;
    state.spoken = state.items.filter(settled).length;
    around.refresh();
    queue.add(items);
  }

  function put(item, changes) {
    Object.assign(item, changes);
    paint(item, actions);
    around.refresh();
  }

  async function answer(item) {
    const { turn } = item;
    put(item, { state: "asking" });
    try {
      refuseTooLarge(item.file);
      const { version, answer: found } = await predict(state.model, item.file, item.name, TOP);
      if (turn !== item.turn) return;
      if (version !== state.card.version) await around.modelChanged(); // the server has reloaded it
      const measured = found.labels ? "" : reliability(state.card, found.label);
      const route = routed(state.card, found.route);
      put(item, { state: "done", answer: found, problem: null, reliability: measured, routed: route });
    } catch (error) {
      if (turn !== item.turn) return;
      failed(item, asProblem(error));
    }
    around.answered(item);
  }

  function failed(item, problem) {
    const again = problem.busy && item.tries + 1 < TRIES && problem.wait <= LONGEST_WAIT;
    const notBefore = Date.now() + 1000 * problem.wait;
    if (problem.busy) queue.hold(1000 * Math.min(problem.wait, LONGEST_WAIT));
    if (problem.gone) around.serverGone();
    const later = problem.gone || again;
    put(item, { problem, tries: item.tries + 1, state: later ? "later" : "error", notBefore });
    if (later) queue.first(item);
    else if (problem.busy) setTimeout(around.refresh, 1000 * problem.wait + 50); // then it may be tried again
  }

  function retry(item) {
    put(item, { state: "waiting", tries: 0, problem: null });
    queue.add([item]);
  }

  function remove(item) {
    item.turn += 1;
    URL.revokeObjectURL(item.url);
    forgetMaps(item);
    item.card.remove();
    state.items = state.items.filter((one) => one !== item);
    queue.drop((one) => one !== item);
    around.refresh();
  }

  // Of another model: what is shown is always of one.
  function askAgain() {
    queue.drop(() => false);
    for (const item of state.items) {
      closeMap(item);
      forgetMaps(item);
      item.turn += 1;
      put(item, { state: "waiting", tries: 0, answer: null, problem: null });
    }
    state.spoken = 0;
    queue.add(state.items);
  }

  async function heat(item, klass, { toggle }) {
    if (toggle && item.map?.class === klass) {
      closeMap(item);
      return;
    }
    const { turn } = item;
    const wanted = () => turn === item.turn && item.map?.class === klass;
    putMap(item, { class: klass, url: item.maps.get(klass) ?? null });
    if (item.map.url) return;
    try {
      const blob = await explain(state.model, item.file, item.name, klass);
      if (turn !== item.turn) return;
      item.maps.set(klass, URL.createObjectURL(blob));
      if (wanted()) putMap(item, { class: klass, url: item.maps.get(klass) });
      around.say(`Heat map for ${shown(klass)}`);
    } catch (error) {
      if (wanted()) putMap(item, { class: klass, problem: asProblem(error) });
    }
  }

  function putMap(item, map) {
    item.map = map;
    paintMap(item, map, actions);
  }

  // Of one item, or of all; whether there was one.
  function closeMap(item) {
    const open = (item ? [item] : state.items).filter((one) => one.map);
    for (const one of open) putMap(one, null);
    return open.length > 0;
  }

  return { take, retry, remove, heat, closeMap, askAgain, hold: queue.hold, release: queue.release };
}

// Said here, since a server may close the connection on a body that is too long before the page can read why.
function refuseTooLarge(file) {
  const limit = state.card.limits?.bytes;
  if (!limit || file.size <= limit) return;
  throw new Problem(413, `The file has ${bytes(file.size)}; this server takes up to ${bytes(limit)}.`);
}

function forgetMaps(item) {
  for (const url of item.maps.values()) URL.revokeObjectURL(url);
  item.maps.clear();
  item.map = null;
}

function asProblem(error) {
  return error instanceof Problem ? error : new Problem(-1, error.message);
}
