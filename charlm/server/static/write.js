// Let them write: several models go on with the text at once; any character can be changed, and what follows anew.

import { askJson, element, events, heat, percent, spoken, visible } from "./api.js";

const LISTED = 8;

export class Writing {
  constructor(page, cards, startButton, stopButton, dialog) {
    Object.assign(this, { page, cards, startButton, stopButton, dialog });
    this.texts = new Map(); // by name of the model
    this.running = null;
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  }

  get asked() {
    const number = (id) => Number(document.getElementById(id).value);
    return { seed: number("seed"), max_tokens: number("length"), top: LISTED, ...this.page.settings };
  }

  start() {
    this.stop();
    const models = this.page.chosen;
    this.texts = new Map(models.map((model) => [model.name, new Text(this, model, this.page.text)]));
    this.cards.replaceChildren(...[...this.texts.values()].map((text) => text.card));
    return this.run(models, this.page.text);
  }

  // Let one model go on from a text of its own.
  goOn(model, prompt) {
    this.stop();
    const text = new Text(this, model, prompt);
    this.texts.get(model.name).card.replaceWith(text.card);
    this.texts.set(model.name, text);
    return this.run([model], prompt);
  }

  async run(models, prompt) {
    if (!models.length) return;
    const running = new AbortController();
    this.running = running;
    this.busy(true);
    try {
      const body = { models: models.map((model) => model.name), prompt, ...this.asked };
      for await (const event of events("/api/write", body, running.signal)) {
        const text = this.texts.get(event.model);
        if (event.error) text.fail(event.error.message);
        else text.add(event);
      }
      this.page.say(`${models.map((model) => model.name).join(", ")} have written.`);
    } catch (problem) {
      this.page.complain(problem);
    }
    if (this.running === running) this.busy(false);
    for (const model of models) this.texts.get(model.name)?.findQuotes();
  }

  stop() {
    this.running?.abort();
    this.running = null;
    this.busy(false);
  }

  busy(busy) {
    this.stopButton.disabled = !busy;
    this.cards.setAttribute("aria-busy", busy);
  }

  // What else might have come in the place of a token.
  show(text, number) {
    const token = text.tokens[number];
    const list = this.dialog.querySelector("ol");
    const choices = token.alternatives.some((one) => one.text === token.text)
      ? token.alternatives
      : [...token.alternatives, { text: token.text, probability: token.probability }];
    const rows = choices.map((choice) => this.choice(text, number, choice, choice.text === token.text));
    list.replaceChildren(...rows);
    this.dialog.showModal();
    (list.querySelector("[aria-current]") ?? list.querySelector("button"))?.focus();
  }

  choice(text, number, { text: name, probability }, current) {
    const bar = element("i");
    bar.style.width = `${100 * probability}%`;
    const button = element(
      "button",
      { type: "button" },
      element("span", { textContent: visible(name) }),
      element("span", { className: "bar", ariaHidden: "true" }, bar),
      element("span", { textContent: percent(probability) }),
    );
    button.setAttribute("aria-label", `${spoken(name)}, ${percent(probability)}`);
    if (current) button.setAttribute("aria-current", "true");
    button.disabled = name.startsWith("bytes:"); // a part of a character is nothing to go on from
    button.addEventListener("click", () => {
      this.dialog.close();
      if (!current) this.goOn(text.model, text.before(number) + name);
    });
    return element("li", {}, button);
  }
}

class Text {
  constructor(writing, model, prompt) {
    Object.assign(this, { writing, model, prompt });
    this.tokens = [];
    this.active = 0; // the token that the keyboard is at
    this.state = element("p", { textContent: "…" });
    const copy = element("button", { className: "quiet", type: "button", textContent: "Copy" });
    copy.setAttribute("aria-label", `Copy what ${model.name} wrote`);
    copy.addEventListener("click", () => this.copy(copy));
    this.box = element("div", { className: "text", role: "group", tabIndex: 0 });
    this.box.setAttribute("aria-label", `What ${model.name} wrote; arrow keys move, Enter shows alternatives`);
    this.box.append(element("span", { className: "prompt", textContent: prompt }));
    this.box.addEventListener("click", (event) => this.clicked(event));
    this.box.addEventListener("keydown", (event) => this.pressed(event));
    this.quotes = element("ul", { className: "quotes", hidden: true });
    const name = element("h3", { textContent: model.name });
    this.card = element("article", { className: "card written" }, element("header", {}, name, this.state, copy), this.box, this.quotes);
    this.card.style.setProperty("--model", model.color);
  }

  get text() {
    return this.prompt + this.tokens.map(shown).join("");
  }

  // All that stands before a token.
  before(number) {
    return Array.from(this.text).slice(0, this.tokens[number].offset).join("");
  }

  add({ tokens, finish_reason: reason }) {
    for (const token of tokens) {
      const bits = -Math.log2(token.probability);
      const made = element("span", { className: `token ${heat(bits)}`, textContent: shown(token), title: `${bits.toFixed(1)} bits` });
      made.dataset.number = this.tokens.length;
      token.element = made;
      this.tokens.push(token);
      this.box.append(made);
    }
    const nats = this.tokens.reduce((sum, token) => sum - Math.log2(token.probability), 0);
    this.state.textContent = this.tokens.length ? `${(nats / this.tokens.length).toFixed(2)} bits/token` : "…";
    this.box.scrollTop = this.box.scrollHeight;
    if (reason) this.state.textContent += reason === "stop" ? ", stopped" : "";
  }

  fail(message) {
    this.state.textContent = message;
  }

  clicked({ target }) {
    if (target.dataset.number === undefined) return;
    this.moveTo(Number(target.dataset.number));
    this.writing.show(this, this.active);
  }

  pressed(event) {
    const steps = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity };
    if (event.key in steps && this.tokens.length) {
      event.preventDefault();
      this.moveTo(Math.min(this.tokens.length - 1, Math.max(0, this.active + steps[event.key])));
    } else if (event.key === "Enter" && this.tokens.length) {
      event.preventDefault();
      this.writing.show(this, this.active);
    }
  }

  moveTo(number) {
    this.tokens[this.active]?.element.removeAttribute("tabindex");
    this.active = number;
    const { element: made, text, probability } = this.tokens[number];
    made.tabIndex = -1;
    made.focus();
    this.writing.page.say(`${spoken(text)}, ${percent(probability)}`);
  }

  async copy(button) {
    await navigator.clipboard.writeText(this.text);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  }

  // Underline what stands in the training text, and say where.
  async findQuotes() {
    if (!this.tokens.length) return;
    let found;
    try {
      found = (await askJson("/api/quotes", { model: this.model.name, text: this.text })).quotes;
    } catch {
      return; // the training text is not there any more
    }
    const begins = Array.from(this.prompt).length;
    const written = found.filter(({ end }) => end > begins);
    for (const { begin, end } of written) {
      for (const token of this.tokens) if (token.offset >= begin && token.offset < end) token.element.classList.add("quoted");
    }
    this.quotes.hidden = !written.length;
    this.quotes.replaceChildren(
      ...written.map(({ begin, end, line, source }) =>
        element("li", { textContent: `${end - begin} characters stand in the training text, from line ${line.toLocaleString()}: “${source.trim()}”` }),
      ),
    );
  }
}

// A token as part of the text; the bytes of a character are shown as such until the character is whole.
function shown({ text }) {
  return text.startsWith("bytes:") ? text.slice("bytes:".length) : text;
}
