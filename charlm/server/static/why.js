// Why? What each character before one was worth to each model, in bits.

import { askJson, element, spoken, visible } from "./api.js";
import { evidenceRows, signed } from "./evidence.js";

const REACH = innerWidth < 600 ? 16 : 32;
const SHOWN = 600; // characters of the text, its end
const SHOW_AFTER = 200; // milliseconds without a key

export class Why {
  constructor(page, text, answers) {
    Object.assign(this, { page, text, answers });
    this.characters = [];
    this.place = -1;
    text.addEventListener("mouseover", ({ target }) => this.choose(Number(target.dataset.place ?? -1)));
    text.addEventListener("click", ({ target }) => this.choose(Number(target.dataset.place ?? -1)));
    text.addEventListener("keydown", (event) => this.pressed(event));
  }

  // The text may have changed: show it when the typing pauses.
  moved() {
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => this.update(), SHOW_AFTER);
  }

  update() {
    if (this.page.text === this.characters.join("")) return;
    this.characters = Array.from(this.page.text);
    this.place = -1;
    this.answers.replaceChildren();
    const first = Math.max(0, this.characters.length - SHOWN);
    const spans = this.characters.slice(first).map((character, number) => {
      const made = element("span", { textContent: character === "\n" ? "⏎\n" : character });
      made.dataset.place = first + number;
      return made;
    });
    this.text.replaceChildren(...spans);
  }

  pressed(event) {
    this.update();
    const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
    if (!(event.key in steps) || !this.characters.length) return;
    event.preventDefault();
    const from = this.place < 0 ? this.characters.length : this.place;
    this.choose(Math.min(this.characters.length - 1, Math.max(0, from + steps[event.key])));
  }

  async choose(place) {
    if (place < 0 || place === this.place) return;
    this.place = place;
    this.text.querySelector(".chosen")?.classList.remove("chosen");
    const chosen = this.text.querySelector(`[data-place="${place}"]`);
    if (chosen) this.show(chosen);
    if (this.asking) return; // the place that is chosen when the answer is here is asked for then
    this.asking = true;
    try {
      for (let asked = -1; asked !== this.place && this.place >= 0; ) {
        asked = this.place;
        const body = { models: this.page.chosen.map(({ name }) => name), text: this.page.text, place: asked, reach: REACH };
        if (!body.models.length) break;
        const { models } = await askJson("/api/why", body);
        if (asked === this.place) this.draw(models, asked);
      }
    } catch (problem) {
      this.page.complain(problem);
    }
    this.asking = false;
  }

  // Mark a character, and move the box if it is out of sight.
  show(character) {
    character.classList.add("chosen");
    const { text } = this;
    const below = character.offsetTop - text.offsetTop - text.scrollTop;
    if (below < 0 || below + character.offsetHeight > text.clientHeight) text.scrollTop += below - text.clientHeight / 2;
  }

  draw(models, place) {
    const chosen = this.characters[place];
    const rows = models.filter(({ error }) => !error).flatMap((answer) => {
      const before = this.characters.slice(place - answer.worths.length, place);
      const own = evidenceRows(answer, before, chosen).flatMap(([label, found]) => [element("small", { textContent: label }), found]);
      return [...this.saved(answer, place), ...own];
    });
    this.answers.replaceChildren(...rows);
    this.page.say(`${spoken(chosen)}: ${models.filter(({ bits }) => bits !== undefined).map(({ model, bits }) => `${model} ${bits.toFixed(1)} bits`).join(", ")}`);
  }

  // The row of what each character before saves one model.
  saved({ model, bits, worths }, place) {
    const code = element("code", {});
    const parts = worths.map((worth, back) => this.character(this.characters[place - back - 1], worth)).reverse();
    code.append(...parts, element("span", { className: "chosen", textContent: visible(this.characters[place]) }));
    const best = worths.indexOf(Math.max(...worths));
    const said = worths.length ? `; most helpful: ${spoken(this.characters[place - best - 1])}, ${best + 1} back` : "";
    const cost = element("small", { textContent: `${bits.toFixed(2)} bits` }, element("span", { className: "visually-hidden", textContent: said }));
    return [element("span", { className: "model" }, `${model} `, cost), code];
  }

  character(text, worth) {
    const made = element("span", { textContent: visible(text), title: `${worth >= 0 ? "saved" : "cost"} ${Math.abs(worth).toFixed(2)} bits` });
    made.style.background = signed(worth);
    return made;
  }
}
