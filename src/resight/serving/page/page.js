// The page of `resight serve`: how its parts are joined. No framework, nothing from elsewhere.

import { isReady, modelCard, models } from "./api.js";
import { makeCamera } from "./camera.js";
import { csv, download } from "./csv.js";
import { makeIntake } from "./intake.js";
import { listenForKeys } from "./keys.js";
import { paintCard, paintKnown } from "./model.js";
import { makePictures } from "./pictures.js";
import { canRetry, settled, state } from "./state.js";
import { inWords, matches, paintSummary, sentence } from "./summary.js";
import { paintTable } from "./table.js";
import { byId, count, el, plural, show, shown } from "./text.js";

const pictures = makePictures({
  refresh,
  say,
  answered,
  serverGone: waitForServer,
  modelChanged: () => loadCard(state.model),
});

// --- what is shown around the pictures

let due = false;
function refresh() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    paintAll();
  });
}

function change(changes) {
  Object.assign(state, changes);
  paintAll();
}

function paintAll() {
  const { items, view } = state;
  if (state.chosen !== null && !items.some((item) => matches(item, state.chosen))) state.chosen = null;
  const seen = items.filter((item) => matches(item, state.chosen));
  document.body.classList.toggle("filled", items.length > 0);
  show(byId("results"), items.length > 0);
  show(byId("knows"), items.length === 0 && state.card !== null);
  paintProgress(items);
  paintSummary(byId("summary"), items, state.chosen, (chosen) => change({ chosen }));
  const shownNow = new Set(seen);
  for (const item of items) show(item.card, shownNow.has(item));
  byId("cards").classList.toggle("single", items.length === 1);
  for (const name of ["cards", "table"]) {
    show(byId(name), view === name);
    byId(`as-${name}`).setAttribute("aria-pressed", String(view === name));
  }
  if (view === "table") paintTable(byId("table"), seen, state.sort, (sort) => change({ sort }), goTo);
}

function paintProgress(items) {
  const done = items.filter(settled).length;
  const open = done < items.length;
  Object.assign(byId("progress"), { max: Math.max(items.length, 1), value: done });
  show(byId("progress"), open);
  const text = open ? `${count(done)} of ${count(items.length)} answered` : plural(items.length, "picture");
  byId("progress-text").textContent = text;
  show(byId("retry-all"), items.filter(canRetry).length > 1);
}

function goTo(item) {
  change({ view: "cards" });
  item.card.firstElementChild.focus();
}

function say(text) {
  byId("said").textContent = text;
}

// A few answers are read out one by one, many as a summary at their end.
function answered(item) {
  const done = state.items.filter(settled).length;
  if (done < state.items.length) return;
  const fresh = done - state.spoken;
  state.spoken = done;
  if (fresh > 1) say(sentence(state.items));
  else if (fresh === 1) say(inWords(item));
}

// --- the server and its models

async function start() {
  const found = await models();
  const name = (found.find((one) => one.default) ?? found[0]).name;
  const options = found.map((one) => el("option", { value: one.name }, shown(one.name, 60)));
  byId("model").replaceChildren(...options);
  byId("model").value = name;
  byId("model-name").textContent = shown(name, 60);
  for (const id of ["model", "model-label"]) show(byId(id), found.length > 1);
  show(byId("model-name"), found.length === 1);
  await loadCard(name);
  pictures.release();
}

async function loadCard(name) {
  const card = await modelCard(name);
  Object.assign(state, { card, model: name });
  byId("card-title").textContent = shown(name);
  paintCard(byId("card-body"), card);
  paintKnown(byId("knows-text"), byId("knows-classes"), card);
  byId("about").disabled = false;
  document.title = `${shown(name, 60)} · Resight`;
  refresh();
}

// Pictures wait until the server answers again; where the page itself could not start, it starts then.
let watching = false;
async function waitForServer(text = "The server does not answer.") {
  if (watching) return;
  watching = true;
  pictures.hold(Infinity);
  byId("gone").textContent = `${text} Your pictures wait here, and are asked about as soon as it is back.`;
  show(byId("gone"), true);
  let pause = 1000; // ms
  do {
    await new Promise((done) => setTimeout(done, pause));
    pause = Math.min(2 * pause, 10_000);
  } while (!(await isReady()));
  watching = false;
  show(byId("gone"), false);
  say("The server is back.");
  if (state.card === null) await begin();
  else pictures.release();
}

async function begin() {
  try {
    await start();
  } catch (problem) {
    waitForServer(problem.gone ? undefined : `${problem.title ?? "This page does not fit the server"}.`);
  }
}

async function changeModel(event) {
  try {
    await loadCard(event.target.value);
    pictures.askAgain();
  } catch (problem) {
    event.target.value = state.model;
    say(`The model was not changed: ${problem.title}`);
    if (problem.gone) waitForServer();
  }
}

// --- what a person can do

function saveCsv() {
  const entries = state.items.filter(settled).map(({ name, answer, problem }) => {
    return { name, answer: problem ? null : answer, error: problem && (problem.detail || problem.title) };
  });
  download(csv(entries), "resight.csv");
  say(`${plural(entries.length, "row")} written to resight.csv`);
}

function clear() {
  [...state.items].forEach(pictures.remove);
  byId("pick").focus();
}

function listen() {
  byId("as-cards").addEventListener("click", () => change({ view: "cards" }));
  byId("as-table").addEventListener("click", () => change({ view: "table" }));
  byId("csv").addEventListener("click", saveCsv);
  byId("clear").addEventListener("click", clear);
  byId("retry-all").addEventListener("click", () => state.items.filter(canRetry).forEach(pictures.retry));
  byId("about").addEventListener("click", () => byId("card").showModal());
  byId("model").addEventListener("change", changeModel);
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  }
  listenForKeys((article) => state.items.find((item) => item.card === article.parentElement), {
    toggle: toggleMap,
    remove: pictures.remove,
    closeMap: pictures.closeMap,
  });
}

// By Enter on a card: the map of the best class, or away with the one that is there. Whether there was an answer.
function toggleMap(item) {
  if (item.state !== "done") return false;
  pictures.heat(item, item.map?.class ?? item.answer.top[0].class, { toggle: true });
  return true;
}

pictures.hold(Infinity); // until it is known which model to ask
listen();
makeIntake(pictures.take, say);
makeCamera(pictures.take, () => state.model);
await begin();
