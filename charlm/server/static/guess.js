// Guess against the machine: Shannon's game on a held-out passage, and what the guesses say of bits per character.

import { askJson, element, heat, percent, spoken, swatch, visible } from "./api.js";

const BEFORE = 160; // characters that all players see
const MAX_SEED = 2 ** 31;
const COMPOSED = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}]/u; // written by an input method

// Shannon's bounds on the entropy of a text, in bits per character, given how many guesses each character took
// (1951, "Prediction and Entropy of Printed English", equation 17). The numbers of guesses are ordered by how often they
// occurred, as they are for a player who always guesses what is likeliest.
export function bounds(guesses) {
  const counts = new Map();
  for (const number of guesses) counts.set(number, (counts.get(number) ?? 0) + 1);
  const shares = [...counts.values()].map((count) => count / guesses.length).sort((one, other) => other - one);
  let [lower, upper] = [0, 0];
  shares.forEach((share, place) => {
    upper -= share * Math.log2(share);
    lower += (place + 1) * (share - (shares[place + 1] ?? 0)) * Math.log2(place + 1);
  });
  return { lower: Math.min(lower, upper), upper };
}

const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);
const NONE = "–";

export class Guessing {
  constructor(page, parts) {
    Object.assign(this, { page, ...parts });
    this.characters = []; // of the passage; the first guesses.length of them are known to the reader
    this.guesses = [];
    this.drawButton.addEventListener("click", () => this.start());
    this.input.addEventListener("input", (event) => (event.isComposing ? this.composing(event) : this.typed()));
    this.input.addEventListener("compositionend", () => this.typed());
    this.input.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.isComposing) return;
      event.preventDefault();
      this.guess("\n");
    });
    this.tellButton.addEventListener("click", () => this.giveUp());
  }

  async start() {
    const { page } = this;
    const model = page.models.find(({ name }) => name === this.source.value);
    const number = Number(this.length.value);
    if (!model || !this.length.reportValidity()) return;
    this.drawButton.disabled = true;
    try {
      const seed = Math.floor(Math.random() * MAX_SEED);
      const drawn = await askJson("/api/passage", { model: model.name, seed, before: BEFORE, length: number });
      const begin = Array.from(drawn.before).length;
      const players = page.chosen;
      const asked = { models: players.map(({ name }) => name), text: drawn.before + drawn.passage, begin };
      const answers = players.length ? (await askJson("/api/guesses", asked)).models : [];
      this.models = players.map((player, place) => ({ ...player, ...answers[place], stranger: player.held_out !== model.held_out }));
      this.begin(drawn);
      page.clearNotice();
    } catch (problem) {
      page.complain(problem);
    }
    this.drawButton.disabled = false;
    if (!this.game.hidden) this.input.focus();
  }

  begin({ before, passage, characters }) {
    this.characters = Array.from(passage);
    this.composed = COMPOSED.test(passage);
    this.order = Array.from(characters); // in which the page goes on for a reader who gives up
    this.guesses = [];
    this.tried = [];
    this.game.hidden = false;
    this.mark = element("span", { className: "mark next", textContent: "?" });
    this.text.replaceChildren(element("span", { className: "prompt", textContent: before.replaceAll("\n", "⏎\n") }), this.mark);
    this.input.disabled = this.tellButton.disabled = false;
    this.input.value = "";
    this.drawButton.textContent = "Another passage";
    this.update();
    this.text.scrollTop = this.text.scrollHeight;
  }

  // Every character in the field is a guess; what is typed after the right one is a guess at the character after it.
  typed() {
    const typed = Array.from(this.input.value);
    this.input.value = "";
    for (const character of typed) this.guess(character);
  }

  // Phones compose words where a letter is meant: each letter is a guess at once. Only scripts that need it are composed.
  composing({ data }) {
    const letter = Array.from(data ?? "").at(-1);
    if (this.composed || !/^\p{L}$/u.test(letter ?? "")) return;
    this.input.blur(); // which ends the composition, and leaves the letter in the field
    this.input.focus();
  }

  guess(character) {
    if (this.guesses.length === this.characters.length) return;
    const right = this.characters[this.guesses.length];
    if (character === right) return this.found(this.tried.length + 1);
    if (!this.tried.includes(character)) this.tried.push(character);
    this.update();
    this.page.say(`not ${spoken(character)}; ${this.tried.length} wrong`);
  }

  // The page goes on guessing, the most frequent character first.
  giveUp() {
    const right = this.characters[this.guesses.length];
    const left = this.order.filter((character) => !this.tried.includes(character));
    const place = left.indexOf(right);
    this.found(this.tried.length + 1 + (place < 0 ? left.length : place));
    if (!this.input.disabled) this.input.focus();
  }

  found(number) {
    const character = this.characters[this.guesses.length];
    this.guesses.push(number);
    this.tried = [];
    const title = `${visible(character)}: ${number} ${number === 1 ? "guess" : "guesses"}`;
    const shown = character === "\n" ? "⏎\n" : character;
    this.mark.before(element("span", { className: heat(number - 1), textContent: shown, title }));
    const done = this.guesses.length === this.characters.length;
    if (done) {
      this.mark.remove();
      this.input.disabled = this.tellButton.disabled = true;
      this.drawButton.focus();
    }
    this.update();
    this.page.say(`${spoken(character)}, right after ${number}. ${done ? this.summary() : ""}`);
    this.text.scrollTop = this.text.scrollHeight;
  }

  summary() {
    const [reader, ...models] = this.players();
    const rates = models.filter(({ rate }) => rate !== undefined).map(({ name, rate }) => `${name} ${rate.toFixed(1)}`);
    return `The passage is done. You are between ${reader.lower.toFixed(1)} and ${reader.upper.toFixed(1)} bits per character; ${rates.join(", ")}`;
  }

  // The reader and the models, each with what it has reached on the characters that the reader knows.
  players() {
    const { length } = this.guesses;
    const reader = { name: "You", color: "var(--ink)", guesses: this.guesses };
    return [reader, ...this.models].map((player) => {
      const guesses = player.guesses?.slice(0, length);
      const rate = player.bits && length ? sum(player.bits.slice(0, length)) / length : undefined;
      if (!guesses?.length) return { ...player, rate };
      const first = guesses.filter((number) => number === 1).length / length;
      return { ...player, ...bounds(guesses), first, last: guesses.at(-1), rate };
    });
  }

  update() {
    const { length } = this.guesses;
    const total = this.characters.length;
    this.label.textContent = length < total ? `Guess character ${length + 1} of ${total}` : `All ${total} characters are guessed`;
    this.wrong.textContent = this.tried.length ? `Not: ${this.tried.map(visible).join(" ")}` : "";
    const players = this.players();
    const scale = Math.max(4, ...players.flatMap(({ upper, rate }) => [upper ?? 0, rate ?? 0]));
    const known = `${length} ${length === 1 ? "character" : "characters"}`;
    this.table.caption.textContent = `On the ${known} guessed so far`;
    this.table.hidden = !length;
    this.table.tBodies[0].replaceChildren(...players.map((player) => this.row(player, scale)));
  }

  row(player, scale) {
    const { name, color, first, last, lower, upper, rate, error, stranger } = player;
    const heading = element("th", { scope: "row" }, element("span", { className: "player" }, swatch(player), stranger ? `${name}*` : name));
    if (error) return element("tr", {}, heading, element("td", { colSpan: 4, textContent: error.message }));
    const range = upper === undefined ? NONE : `${lower.toFixed(2)} to ${upper.toFixed(2)}`;
    return element(
      "tr",
      {},
      heading,
      element("td", { textContent: last ?? NONE }),
      element("td", { textContent: first === undefined ? NONE : percent(first) }),
      element("td", {}, element("span", { textContent: range }), this.track({ lower, upper, rate, color }, scale)),
      element("td", { textContent: rate?.toFixed(2) ?? NONE }),
    );
  }

  // A line from 0 to `scale` bits with the bounds as a bar and the real bits as a mark.
  track({ lower, upper, rate, color }, scale) {
    const track = element("span", { className: "track", ariaHidden: "true" });
    const add = (name, from, width) => {
      const part = element("i", { className: name });
      part.style.left = `${(100 * from) / scale}%`;
      if (width !== undefined) part.style.width = `${(100 * width) / scale}%`;
      part.style.background = color;
      track.append(part);
    };
    if (upper !== undefined) add("range", lower, upper - lower);
    if (rate !== undefined) add("real", rate);
    return track;
  }
}
