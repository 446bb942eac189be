// Type, and watch: what each model expects at the cursor, what every character cost it, and who is ahead.

import { askJson, element, heat, percent, spoken, svg, swatch, visible } from "./api.js";

const LISTED = innerWidth < 600 ? 5 : 8;
const RACE = { height: 176, left: 30, right: 10, top: 10, bottom: 22 }; // pixels
const SPEAK_AFTER = 900; // milliseconds without a key

export class Expectations {
  constructor(page, race, cards) {
    Object.assign(this, { page, race, cards });
    this.bits = new Map(); // of each model by name: what the characters of `text` cost
    this.kept = new Map(); // of each model by name: its card and what changes in it
    this.text = [];
    this.cursor = -1;
  }

  // The text or the cursor may have changed.
  moved() {
    if (this.page.cursor !== this.cursor || this.page.text !== this.text.join("")) this.refresh();
  }

  // Ask again. One question is on its way at a time; what changed meanwhile is asked for when its answer is here.
  async refresh() {
    this.changed = true;
    if (this.asking) return;
    this.asking = true;
    while (this.changed) {
      this.changed = false;
      await this.ask();
    }
    this.asking = false;
  }

  async ask() {
    const { page } = this;
    const models = page.chosen;
    const text = Array.from(page.text);
    const asked = { text, cursor: page.cursor, models };
    this.cursor = asked.cursor;
    if (!models.length) return this.draw(asked, []);
    let since = 0;
    const known = models.every((model) => this.bits.has(model.name));
    while (known && since < this.text.length && since < text.length && this.text[since] === text[since]) since++;
    since = Math.max(0, since - 16); // a longer piece may have taken the place of the last ones
    const begun = performance.now();
    const body = { models: models.map((model) => model.name), text: page.text, cursor: asked.cursor, since, top: LISTED };
    try {
      const answer = await askJson("/api/expect", { ...body, ...page.settings });
      performance.measure("charlm: key to answer", { start: begun });
      for (const found of answer.models) {
        const before = known ? this.bits.get(found.model).slice(0, since) : [];
        if (found.bits) this.bits.set(found.model, [...before, ...found.bits]);
      }
      for (const name of this.bits.keys()) if (!body.models.includes(name)) this.bits.delete(name);
      this.text = text;
      this.draw(asked, answer.models);
      performance.measure("charlm: key to bars", { start: begun });
      page.clearNotice();
    } catch (problem) {
      page.complain(problem);
    }
  }

  draw({ text, cursor, models }, answers) {
    const answered = new Map(answers.map((answer) => [answer.model, answer]));
    const rows = models.filter((model) => answered.has(model.name));
    const cards = rows.map((model) => this.card(model, answered.get(model.name), text, cursor));
    replaceChildren(this.cards, cards);
    const boxes = [...this.cards.querySelectorAll(".text")];
    const places = boxes.map((box) => {
      const mark = box.querySelector(".mark");
      return mark ? mark.offsetTop - box.offsetTop - box.clientHeight + 40 : box.scrollHeight;
    }); // all are measured before any is moved, so that the page is laid out once
    boxes.forEach((box, number) => (box.scrollTop = places[number]));
    this.drawRace(rows, text.length);
    clearTimeout(this.speaking);
    this.speaking = setTimeout(() => this.page.say(this.summary(rows, answered)), SPEAK_AFTER);
  }

  card(model, answer, text, cursor) {
    if (answer.error) return this.broken(model, answer.error);
    const { card, rate, box, bars } = this.kept.get(model.name) ?? this.newCard(model);
    set(rate, "textContent", text.length ? `${(answer.total_bits / text.length).toFixed(2)} bits/char` : "no text yet");
    this.color(box, this.bits.get(model.name) ?? [], text, cursor);
    answer.next.forEach((expected, number) => this.drawBar(bars, number, expected));
    while (bars.childElementCount > answer.next.length) bars.lastChild.remove();
    return card;
  }

  // What cannot answer gets a card with the reason.
  broken(model, error) {
    this.kept.delete(model.name);
    const card = element("article", { className: "card" }, element("h3", { textContent: model.name }), element("p", { textContent: error.message }));
    card.style.setProperty("--model", model.color);
    return card;
  }

  // The elements of a card, which are kept and changed: to make all anew at each key takes the browser several times longer.
  newCard(model) {
    const rate = element("p");
    const box = element("div", { className: "text", tabIndex: 0, role: "group" });
    box.setAttribute("aria-label", `Your text, coloured by what each character cost ${model.name}`);
    const bars = element("ol", { className: "bars" });
    bars.setAttribute("aria-label", `What ${model.name} expects next`);
    const header = element("header", {}, element("h3", { textContent: model.name }), rate);
    const card = element("article", { className: "card" }, header, box, bars);
    card.style.setProperty("--model", model.color);
    const made = { card, rate, box, bars };
    this.kept.set(model.name, made);
    return made;
  }

  // Colour the characters by their bits, in runs of one colour and at most one line, and mark the cursor.
  color(box, bits, text, cursor) {
    const runs = [];
    const add = (kind, content) => runs.push({ kind, content });
    text.forEach((character, place) => {
      if (place === cursor) add("mark", "▏");
      const kind = heat(bits[place] ?? 0);
      const shown = character === "\n" ? "⏎\n" : character;
      const last = runs.at(-1);
      if (last?.kind === kind && shown === character) last.content += shown;
      else add(kind, shown);
    });
    if (cursor === text.length) add("mark", "▏");
    runs.forEach(({ kind, content }, number) => {
      const run = box.children[number] ?? box.appendChild(element("span"));
      set(run, "className", kind);
      set(run, "textContent", content);
    });
    while (box.childElementCount > runs.length) box.lastChild.remove();
  }

  drawBar(bars, number, { text, probability, drawn }) {
    const row = bars.children[number] ?? bars.appendChild(newBar());
    const [name, bar, value] = row.children;
    set(row, "className", drawn > 0 ? "" : "out");
    set(row, "title", `${spoken(text)}: ${percent(probability)}, drawn ${percent(drawn)}`);
    set(name, "textContent", visible(text));
    set(value, "textContent", percent(drawn));
    bar.children[0].style.width = `${100 * probability}%`;
    bar.children[1].style.width = `${100 * drawn}%`;
  }

  summary(rows, answered) {
    return rows
      .map((model) => answered.get(model.name))
      .filter((answer) => answer.next?.length)
      .map(({ model, next }) => `${model} expects ${spoken(next[0].text)}, ${percent(next[0].probability)}`)
      .join(". ");
  }

  drawRace(rows, characters) {
    const curves = rows.map((model) => ({ model, means: running(this.bits.get(model.name) ?? []) }));
    const top = Math.max(4, ...curves.flatMap(({ means }) => means.slice(Math.min(3, means.length - 1))));
    const width = Math.max(200, this.race.clientWidth - 2);
    const across = (place) => RACE.left + ((width - RACE.left - RACE.right) * (place + 1)) / Math.max(1, characters);
    const down = (bits) => RACE.top + (RACE.height - RACE.top - RACE.bottom) * (1 - Math.min(bits, top) / top);
    const chart = svg("svg", { viewBox: `0 0 ${width} ${RACE.height}`, "aria-hidden": "true" });
    for (let bits = 0; bits <= top; bits += top > 8 ? 4 : 2) {
      chart.append(svg("line", { class: "grid", x1: RACE.left, x2: width - RACE.right, y1: down(bits), y2: down(bits) }));
      chart.append(svg("text", { x: RACE.left - 8, y: down(bits) + 4, "text-anchor": "end" }, bits));
    }
    const label = characters ? `${characters.toLocaleString()} characters` : "";
    chart.append(svg("text", { x: width - RACE.right, y: RACE.height - 6, "text-anchor": "end" }, label));
    for (const { model, means } of curves) {
      const path = means.map((mean, place) => `${place ? "L" : "M"}${across(place).toFixed(1)} ${down(mean).toFixed(1)}`).join("");
      const line = svg("path", { d: path || "M0 0" });
      line.style.stroke = model.color;
      if (model.hollow) line.style.strokeDasharray = "6 3";
      chart.append(line);
    }
    const standing = element("ol", { className: "standing" });
    const placed = curves.filter(({ means }) => means.length).sort((one, other) => one.means.at(-1) - other.means.at(-1));
    for (const { model, means } of placed) {
      standing.append(element("li", {}, swatch(model), `${model.name} `, element("b", { textContent: means.at(-1).toFixed(2) })));
    }
    if (!placed.length) standing.append(element("li", { textContent: "The race begins with the first character." }));
    this.race.replaceChildren(chart, standing);
  }
}

function newBar() {
  const bar = element("span", { className: "bar", ariaHidden: "true" }, element("i"), element("i"));
  return element("li", {}, element("span", { className: "name" }), bar, element("span", { className: "value" }));
}

// Set a property that may have this value already; to set it again would cost the browser as much as a change.
function set(node, property, value) {
  if (node[property] !== value) node[property] = value;
}

// Let a node have these children, and leave it alone if it has.
function replaceChildren(node, children) {
  if (children.length !== node.children.length || children.some((child, number) => child !== node.children[number])) node.replaceChildren(...children);
}

// The mean of the first 1, 2, 3, … numbers.
function running(numbers) {
  let sum = 0;
  return numbers.map((number, place) => (sum += number) / (place + 1));
}
