// The page as a whole: the models, the text and the settings, and what is updated when they change.

import { askJson, element, Refused, swatch, useKey } from "./api.js";
import { Beams } from "./beams.js";
import { Expectations } from "./expect.js";
import { Guessing } from "./guess.js";
import { Why } from "./why.js";
import { Writing } from "./write.js";

const SLIDERS = [
  { name: "temperature", label: "Temperature", min: 0, max: 2, step: 0.05, value: 1, hint: "below 1 favours the likely; 0: always the likeliest" },
  { name: "top_k", label: "Top-k", min: 0, max: 40, step: 1, value: 0, hint: "only the k likeliest; 0: all" },
  { name: "top_p", label: "Top-p", min: 0.05, max: 1, step: 0.01, value: 1, hint: "the fewest whose probabilities add up to this" },
  { name: "min_p", label: "Min-p", min: 0, max: 0.5, step: 0.01, value: 0, hint: "at least this share of the likeliest's probability" },
];
const COLOR_COUNT = 8; // of the variables --m0 to --m7; as many models are chosen at first
const byId = (id) => document.getElementById(id);

const page = {
  models: [], // {name, color, chosen, …}
  get chosen() {
    return this.models.filter((model) => model.chosen);
  },
  get text() {
    return byId("text").value;
  },
  get settings() {
    return Object.fromEntries(SLIDERS.map(({ name }) => [name, Number(byId(name).value)]));
  },
  // The number of characters (code points) before the cursor.
  get cursor() {
    const box = byId("text");
    return Array.from(box.value.slice(0, box.selectionEnd ?? box.value.length)).length;
  },
  say(sentence) {
    byId("spoken").textContent = sentence;
  },
  complain(problem) {
    if (problem.name === "AbortError") return;
    if (problem instanceof Refused && problem.status === 401) byId("key-form").hidden = false;
    byId("notice").textContent = problem instanceof Refused ? problem.message : "The server does not answer. Is it running?";
    byId("notice").hidden = false;
  },
  clearNotice() {
    byId("notice").hidden = true;
  },
};

function slider({ name, label, min, max, step, value, hint }) {
  const output = element("output", { textContent: value, htmlFor: name });
  const input = element("input", { id: name, type: "range", min, max, step });
  input.value = value;
  input.setAttribute("aria-describedby", `${name}-hint`);
  input.addEventListener("input", () => {
    output.textContent = input.value;
    expectations.refresh();
  });
  const description = element("small", { id: `${name}-hint`, textContent: hint, className: "hint" });
  return element("div", {}, element("label", { htmlFor: name }, label, output, input), description);
}

function chip(model) {
  const box = element("input", { type: "checkbox", checked: model.chosen });
  box.addEventListener("change", () => {
    model.chosen = box.checked;
    expectations.refresh();
  });
  const bits = model.bits_per_character ? ` ${model.bits_per_character.toFixed(2)} bits` : "";
  const facts = model.architecture === model.name ? bits.trim() : `${model.architecture}${bits}`;
  return element("label", { className: "chip" }, box, swatch(model), model.name, element("small", { textContent: facts }));
}

async function loadModels() {
  const { models } = await askJson("/api/models");
  page.models = models.map((model, number) => ({ ...model, color: `var(--m${number % COLOR_COUNT})`, hollow: number >= COLOR_COUNT, chosen: number < COLOR_COUNT }));
  const legend = byId("models").querySelector("legend");
  byId("models").replaceChildren(legend, ...page.models.map(chip));
  const options = page.models.map(({ name }) => element("option", { value: name, textContent: name }));
  byId("beams-model").replaceChildren(...options);
  byId("passage-model").replaceChildren(...options.map((option) => option.cloneNode(true)));
  if (!page.models.length) legend.textContent = "No models yet: charlm train makes one, and it shows up here";
  page.clearNotice();
}

const expectations = new Expectations(page, byId("race"), byId("expect"));
const writing = new Writing(page, byId("written"), byId("write"), byId("stop"), byId("alternatives"));

const why = new Why(page, byId("why-text"), byId("why"));
const beams = new Beams(page, byId("tree"), byId("found"));
new Guessing(page, {
  drawButton: byId("passage"), source: byId("passage-model"), length: byId("passage-length"), game: byId("game"),
  text: byId("game-text"), label: byId("guess-label"), input: byId("guess"), tellButton: byId("tell"), wrong: byId("wrong"),
  table: byId("scores"),
});

async function start() {
  try {
    await loadModels();
    why.moved();
    await expectations.refresh();
  } catch (problem) {
    page.complain(problem);
  }
}

document.querySelector(".settings").open = innerWidth >= 600;
byId("sliders").append(...SLIDERS.map(slider));
byId("text").value = new URLSearchParams(location.hash.slice(1)).get("text") ?? "";
for (const event of ["input", "keyup", "click", "select"]) {
  byId("text").addEventListener(event, () => {
    expectations.moved();
    why.moved();
  });
}
byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(byId("key").value);
  byId("key-form").hidden = true;
  start();
});
byId("write").addEventListener("click", () => writing.start());
byId("search").addEventListener("click", () => beams.start());
for (const name of ["width", "length", "penalty", "line"]) {
  byId(`beams-${name}`).addEventListener("input", ({ target }) => {
    if (target.type === "range") byId(`${target.id}-shown`).textContent = target.value;
    if (byId("tree").firstChild) beams.start();
  });
}
byId("beams-model").addEventListener("change", () => byId("tree").firstChild && beams.start());
byId("stop").addEventListener("click", () => writing.stop());
start();
