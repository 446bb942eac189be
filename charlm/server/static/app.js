// The page as a whole: which models, which text, how characters are drawn; and who is told when these change.

import { askJson, element, Refused, useKey } from "./api.js";
import { Beams } from "./beams.js";
import { Expectations } from "./expect.js";
import { Why } from "./why.js";
import { Writing } from "./write.js";

const SLIDERS = [
  { name: "temperature", label: "Temperature", min: 0, max: 2, step: 0.05, value: 1, says: "below 1 keeps to the likely; 0: always the likeliest" },
  { name: "top_k", label: "Top-k", min: 0, max: 40, step: 1, value: 0, says: "the k likeliest only; 0: all" },
  { name: "top_p", label: "Top-p", min: 0.05, max: 1, step: 0.01, value: 1, says: "the fewest that have this probability together" },
  { name: "min_p", label: "Min-p", min: 0, max: 0.5, step: 0.01, value: 0, says: "at least this share of the likeliest" },
];
const COLORS = 8;
const find = (id) => document.getElementById(id);

const page = {
  models: [], // {name, color, chosen, …}
  get chosen() {
    return this.models.filter((model) => model.chosen);
  },
  get text() {
    return find("text").value;
  },
  get settings() {
    return Object.fromEntries(SLIDERS.map(({ name }) => [name, Number(find(name).value)]));
  },
  // Characters (code points) before the cursor.
  get cursor() {
    const box = find("text");
    return Array.from(box.value.slice(0, box.selectionEnd ?? box.value.length)).length;
  },
  say(sentence) {
    find("spoken").textContent = sentence;
  },
  complain(problem) {
    if (problem.name === "AbortError") return;
    if (problem instanceof Refused && problem.status === 401) find("key-form").hidden = false;
    find("notice").textContent = problem instanceof Refused ? problem.message : "The server does not answer. Is it running?";
    find("notice").hidden = false;
  },
  well() {
    find("notice").hidden = true;
  },
};

function slider({ name, label, min, max, step, value, says }) {
  const output = element("output", { textContent: value, htmlFor: name });
  const input = element("input", { id: name, type: "range", min, max, step });
  input.value = value;
  input.setAttribute("aria-describedby", `${name}-says`);
  input.addEventListener("input", () => {
    output.textContent = input.value;
    expectations.refresh();
  });
  const hint = element("small", { id: `${name}-says`, textContent: says, className: "hint" });
  return element("div", {}, element("label", { htmlFor: name }, label, output, input), hint);
}

function chip(model) {
  const box = element("input", { type: "checkbox", checked: model.chosen });
  box.addEventListener("change", () => {
    model.chosen = box.checked;
    expectations.refresh();
  });
  const swatch = element("span", { className: "swatch" });
  swatch.style.background = model.color;
  const bits = model.bits_per_character ? ` ${model.bits_per_character.toFixed(2)} bits` : "";
  const known = model.architecture === model.name ? bits.trim() : `${model.architecture}${bits}`;
  return element("label", { className: "chip" }, box, swatch, model.name, element("small", { textContent: known }));
}

async function loadModels() {
  const found = (await askJson("/api/models")).models;
  page.models = found.map((model, number) => ({ ...model, color: `var(--m${number % COLORS})`, chosen: number < COLORS }));
  const legend = find("models").querySelector("legend");
  find("models").replaceChildren(legend, ...page.models.map(chip));
  const options = page.models.map(({ name }) => element("option", { value: name, textContent: name }));
  find("beams-model").replaceChildren(...options);
  if (!page.models.length) legend.textContent = "No models yet: charlm train makes one, and it shows up here";
  page.well();
}

const expectations = new Expectations(page, find("race"), find("expect"));
const writing = new Writing(page, find("written"), find("write"), find("stop"), find("alternatives"));

const why = new Why(page, find("why-text"), find("why"));
const beams = new Beams(page, find("tree"), find("found"));

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
find("sliders").append(...SLIDERS.map(slider));
find("text").value = new URLSearchParams(location.hash.slice(1)).get("text") ?? "";
for (const event of ["input", "keyup", "click", "select"]) {
  find("text").addEventListener(event, () => {
    expectations.moved();
    why.moved();
  });
}
find("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(find("key").value);
  find("key-form").hidden = true;
  start();
});
find("write").addEventListener("click", () => writing.start());
find("search").addEventListener("click", () => beams.start());
for (const name of ["width", "length", "penalty", "line"]) {
  find(`beams-${name}`).addEventListener("input", ({ target }) => {
    if (target.type === "range") find(`${target.id}-shown`).textContent = target.value;
    if (find("tree").firstChild) beams.start();
  });
}
find("beams-model").addEventListener("change", () => find("tree").firstChild && beams.start());
find("stop").addEventListener("click", () => writing.stop());
start();
