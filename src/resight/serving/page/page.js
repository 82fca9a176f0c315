// The page of `resight serve`: what is there, and how its parts are joined. No framework, nothing from elsewhere.

import { Problem, explain, isReady, modelCard, models, predict } from "./api.js";
import { makeCamera } from "./camera.js";
import { makeCard, paint, paintMap } from "./cards.js";
import { csv, download } from "./csv.js";
import { makeIntake } from "./intake.js";
import { listenForKeys } from "./keys.js";
import { knows, paintCard, reliability } from "./model.js";
import { makeQueue } from "./queue.js";
import { inWords, kinds, matches, paintSummary, sentence } from "./summary.js";
import { paintTable } from "./table.js";
import { bytes, byId, count, el, plural, show, shown } from "./text.js";

const TRIES = 4; // of a busy server, before a person must ask again
const LONGEST_WAIT = 30; // s, that the page waits by itself
const TOP = 5;
const CLASSES_SHOWN = 40;

const state = { items: [], model: null, card: null, view: "cards", chosen: null, sort: { column: null, down: false }, spoken: 0 };
const queue = makeQueue(answer);
const actions = { retry, remove, heat };

// --- pictures and their answers

function take(found) {
  const items = found.map(({ file, name }) => ({ file, name, url: URL.createObjectURL(file), state: "waiting", tries: 0, turn: 0, maps: new Map() }));
  for (const item of items) {
    makeCard(item, actions);
    byId("cards").append(item.card);
  }
  state.items.push(...items);
  state.chosen = null;
  state.spoken = state.items.filter(settled).length;
  refresh();
  queue.add(items);
  if (items.length === 1) items[0].card.scrollIntoView({ block: "nearest" });
}

const settled = (item) => item.state === "done" || item.state === "error";

function put(item, changes) {
  Object.assign(item, changes);
  paint(item, actions);
  refresh();
}

async function answer(item) {
  if (!state.items.includes(item)) return;
  const { turn } = item;
  put(item, { state: "asking" });
  try {
    refuseTooLarge(item.file);
    const { version, answer: found } = await predict(state.model, item.file, item.name, TOP);
    if (turn !== item.turn) return;
    if (state.card && version !== state.card.version) await loadCard(state.model); // the server has reloaded the model
    put(item, { state: "done", answer: found, problem: null, reliability: found.labels ? "" : reliability(state.card, found.label) });
  } catch (problem) {
    if (turn !== item.turn) return;
    failed(item, problem instanceof Problem ? problem : new Problem(-1, problem.message));
  }
  speak();
}

// Said here, since a server may close the connection on a body that is too long before the page can read why.
function refuseTooLarge(file) {
  const limit = state.card?.limits?.bytes;
  if (limit && file.size > limit) throw new Problem(413, `The file has ${bytes(file.size)}; this server takes up to ${bytes(limit)}.`);
}

function failed(item, problem) {
  const later = problem.gone || (problem.busy && item.tries + 1 < TRIES && problem.wait <= LONGEST_WAIT);
  if (problem.busy) queue.hold(1000 * Math.min(problem.wait, LONGEST_WAIT));
  if (problem.gone) waitForServer();
  put(item, { problem, tries: item.tries + 1, state: later ? "later" : "error", notBefore: Date.now() + 1000 * problem.wait });
  if (later) queue.first(item);
}

function retry(item) {
  put(item, { state: "waiting", tries: 0, problem: null });
  queue.add([item]);
}

function remove(item) {
  release(item);
  item.card.remove();
  state.items = state.items.filter((one) => one !== item);
  queue.drop((one) => one !== item);
  refresh();
}

function release(item) {
  item.turn += 1; // an answer on its way is no longer wanted
  URL.revokeObjectURL(item.url);
  forgetMaps(item);
}

function forgetMaps(item) {
  for (const url of item.maps.values()) URL.revokeObjectURL(url);
  item.maps.clear();
  item.map = null;
}

// --- heat maps

async function heat(item, klass, { toggle }) {
  if (toggle && item.map?.class === klass) return closeMap(item);
  const { turn } = item;
  const put = (map) => {
    item.map = map;
    paintMap(item, map, actions);
  };
  put({ class: klass, url: item.maps.get(klass) ?? null });
  if (item.map.url) return undefined;
  try {
    const blob = await explain(state.model, item.file, item.name, klass);
    if (turn !== item.turn) return undefined;
    item.maps.set(klass, URL.createObjectURL(blob));
    if (item.map?.class === klass) put({ class: klass, url: item.maps.get(klass) });
    say(`Heat map for ${shown(klass)}`);
  } catch (problem) {
    if (turn !== item.turn || item.map?.class !== klass) return undefined;
    put({ class: klass, problem: problem instanceof Problem ? problem : new Problem(-1, problem.message) });
  }
  return undefined;
}

// Of one item, or of all; whether there was one.
function closeMap(item) {
  const open = (item ? [item] : state.items).filter((one) => one.map);
  for (const one of open) {
    one.map = null;
    paintMap(one, null, actions);
  }
  return open.length > 0;
}

// --- what is shown around them

let due = false;
function refresh() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    paintAll();
  });
}

function paintAll() {
  const { items, chosen, view } = state;
  const done = items.filter(settled).length;
  document.body.classList.toggle("filled", items.length > 0);
  byId("cards").classList.toggle("single", items.length === 1);
  show(byId("results"), items.length > 0);
  show(byId("knows"), items.length === 0 && state.card !== null);
  Object.assign(byId("progress"), { max: Math.max(items.length, 1), value: done });
  show(byId("progress"), done < items.length);
  byId("progress-text").textContent = done < items.length ? `${count(done)} of ${count(items.length)} answered` : plural(items.length, "picture");
  show(byId("retry-all"), items.some(canRetry));
  if (chosen !== null && !items.some((item) => matches(item, chosen))) state.chosen = null;
  paintSummary(byId("summary"), items, state.chosen, (key) => {
    state.chosen = key;
    refresh();
  });
  for (const item of items) show(item.card, matches(item, state.chosen));
  show(byId("cards"), view === "cards");
  show(byId("table"), view === "table");
  byId("as-cards").setAttribute("aria-pressed", String(view === "cards"));
  byId("as-table").setAttribute("aria-pressed", String(view === "table"));
  if (view === "table") paintTable(byId("table"), items.filter((item) => matches(item, state.chosen)), state.sort, (sort) => {
    state.sort = sort;
    refresh();
  }, goTo);
}

const canRetry = (item) => item.state === "error" && item.problem.retryable && Date.now() >= item.notBefore;

function goTo(item) {
  state.view = "cards";
  paintAll();
  item.card.firstElementChild.focus();
}

function say(text) {
  byId("said").textContent = text;
}

// A few answers are read out one by one, many as a summary at their end.
function speak() {
  const done = state.items.filter(settled);
  const fresh = done.length - state.spoken;
  if (done.length < state.items.length) return;
  if (fresh === 1 || state.items.length === 1) say(inWords(done.at(-1)));
  else if (fresh > 1) say(sentence(state.items));
  state.spoken = done.length;
}

// --- the server: gone and back, its models

let watching = false;
async function waitForServer() {
  if (watching) return;
  watching = true;
  queue.hold(Infinity);
  const banner = byId("gone");
  banner.textContent = "The server does not answer. Your pictures wait here, and are asked as soon as it is back.";
  show(banner, true);
  let pause = 1000;
  do {
    await new Promise((then) => setTimeout(then, pause));
    pause = Math.min(2 * pause, 10_000);
  } while (!(await isReady()));
  watching = false;
  show(banner, false);
  say("The server is back.");
  if (!state.card) await start();
  else queue.release();
}

async function loadCard(name) {
  state.card = await modelCard(name);
  state.model = name;
  paintCard(byId("card-body"), state.card);
  byId("card-title").textContent = shown(name);
  byId("knows-text").textContent = knows(state.card);
  const names = state.card.classes;
  const rest = names.length > CLASSES_SHOWN ? [el("li", { class: "soft" }, `and ${count(names.length - CLASSES_SHOWN)} more`)] : [];
  byId("knows-classes").replaceChildren(...names.slice(0, CLASSES_SHOWN).map((one) => el("li", { dir: "auto" }, shown(one, 60))), ...rest);
  byId("about").disabled = false;
  document.title = `${shown(name, 60)} · Resight`;
  refresh();
}

// All pictures are asked again: what is shown is always of one model.
async function changeModel(name) {
  await loadCard(name);
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

async function start() {
  try {
    const found = await models();
    const name = (found.find((one) => one.default) ?? found[0]).name;
    const several = found.length > 1;
    byId("model").replaceChildren(...found.map((one) => el("option", { value: one.name, selected: one.name === name }, shown(one.name, 60))));
    byId("model-name").textContent = shown(name, 60);
    show(byId("model"), several);
    show(byId("model-label"), several);
    show(byId("model-name"), !several);
    await loadCard(name);
    queue.release();
  } catch (problem) {
    waitForServer();
    if (problem.status !== 0) byId("gone").textContent = `${problem.title ?? "This page does not fit the server"}. ${shown(problem.message)}`;
  }
}

function asCsv() {
  const entries = state.items.filter(settled).map((item) => ({ name: item.name, answer: item.state === "done" ? item.answer : null, error: item.problem ? item.problem.detail || item.problem.title : null }));
  download(csv(entries), "resight.csv");
  say(`${plural(entries.length, "row")} written to resight.csv`);
}

function listen() {
  const view = (name) => () => {
    state.view = name;
    paintAll();
  };
  byId("as-cards").addEventListener("click", view("cards"));
  byId("as-table").addEventListener("click", view("table"));
  byId("csv").addEventListener("click", asCsv);
  byId("retry-all").addEventListener("click", () => state.items.filter(canRetry).forEach(retry));
  byId("clear").addEventListener("click", () => {
    [...state.items].forEach(remove);
    byId("pick").focus();
  });
  byId("about").addEventListener("click", () => byId("card").showModal());
  byId("model").addEventListener("change", (event) => changeModel(event.target.value).catch(waitForServer));
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  }
  listenForKeys((article) => state.items.find((item) => item.card === article.parentElement), {
    toggle: (item) => item.state === "done" && (heat(item, item.map?.class ?? item.answer.top[0].class, { toggle: true }), true),
    remove,
    closeMap,
  });
}

queue.hold(Infinity); // until it is known which model to ask
listen();
makeIntake(take, say);
makeCamera(take, () => state.model);
await start();
