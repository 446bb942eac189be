// Why? What each character before one was worth to each model, in bits.

import { askJson, element, spoken, visible } from "./api.js";

const REACH = innerWidth < 600 ? 16 : 32;
const SHOWN = 600; // characters of the text, its end
const FULL = 3; // bits at which a colour is full

export class Why {
  constructor(page, text, answers) {
    Object.assign(this, { page, text, answers });
    this.characters = [];
    this.place = -1;
    text.addEventListener("mouseover", ({ target }) => this.choose(Number(target.dataset.place ?? -1)));
    text.addEventListener("click", ({ target }) => this.choose(Number(target.dataset.place ?? -1)));
    text.addEventListener("keydown", (event) => this.pressed(event));
  }

  // The text may have changed.
  moved() {
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
    this.text.querySelector(`[data-place="${place}"]`)?.classList.add("chosen");
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

  draw(models, place) {
    const chosen = this.characters[place];
    const rows = models.filter(({ error }) => !error).flatMap(({ model, bits, worths }) => {
      const code = element("code", {});
      const parts = worths.map((worth, back) => this.character(this.characters[place - back - 1], worth)).reverse();
      code.append(...parts, element("span", { className: "chosen", textContent: visible(chosen) }));
      const best = worths.indexOf(Math.max(...worths));
      const said = worths.length ? `; most helpful: ${spoken(this.characters[place - best - 1])}, ${best + 1} back` : "";
      const cost = element("b", { textContent: `${bits.toFixed(2)} bits` });
      cost.setAttribute("aria-label", `${bits.toFixed(2)} bits${said}`);
      return [element("span", { textContent: model }), code, cost];
    });
    this.answers.replaceChildren(...rows);
    this.page.say(`${spoken(chosen)}: ${models.filter(({ bits }) => bits !== undefined).map(({ model, bits }) => `${model} ${bits.toFixed(1)} bits`).join(", ")}`);
  }

  character(text, worth) {
    const made = element("span", { textContent: visible(text), title: `${worth >= 0 ? "saved" : "cost"} ${Math.abs(worth).toFixed(2)} bits` });
    const strength = Math.min(1, Math.abs(worth) / FULL);
    if (strength > 0.02) made.style.background = `rgb(var(--${worth > 0 ? "gain" : "loss"}) / ${(0.75 * strength).toFixed(2)})`;
    return made;
  }
}
