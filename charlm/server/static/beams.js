// Beams, live: the tree of a search as it grows, what was given up of it, and where the greedy path went.

import { element, events, percent, spoken, svg, visible } from "./api.js";

const COLUMN = 34;
const ROW = 30;
const MARGIN = 24;
const PAUSE = matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 90; // milliseconds between two steps

export class Beams {
  constructor(page, tree, found) {
    Object.assign(this, { page, tree, found });
    this.running = null;
  }

  get asked() {
    const number = (name) => Number(document.getElementById(`beams-${name}`).value);
    return {
      model: document.getElementById("beams-model").value,
      prompt: this.page.text,
      beams: number("width"),
      length: number("length"),
      length_penalty: number("penalty"),
      to_line_end: document.getElementById("beams-line").checked,
    };
  }

  async start() {
    this.running?.abort();
    const running = (this.running = new AbortController());
    const asked = this.asked;
    if (!asked.model) return;
    this.clear(asked);
    try {
      for await (const event of events("/api/beams", asked, running.signal)) {
        if (running.signal.aborted) return;
        if (event.error) throw new Error(event.error.message);
        if (event.found) this.finish(event.found);
        else {
          this.grow(event.nodes);
          await new Promise((resume) => setTimeout(resume, PAUSE));
        }
      }
    } catch (problem) {
      this.page.complain(problem);
    }
  }

  clear({ beams }) {
    this.nodes = new Map([[0, { number: 0, parent: null, greedy: true, log_prob: 0, step: 0, row: 0 }]]);
    this.steps = 0;
    this.chart = svg("svg", { height: 2 * MARGIN + ROW * (beams - 1), width: 2 * MARGIN, "aria-hidden": "true" });
    this.tree.replaceChildren(this.chart);
    this.found.replaceChildren();
    this.draw(this.nodes.get(0), "▸");
  }

  // Add the nodes of one step, and let fade what none of them goes on from.
  grow(added) {
    this.steps++;
    this.chart.setAttribute("width", 2 * MARGIN + COLUMN * this.steps);
    added.forEach((node, row) => {
      Object.assign(node, { step: this.steps, row });
      this.nodes.set(node.number, node);
      this.draw(node, visible(node.token));
    });
    this.keepOnly([...added.map(({ number }) => number), ...this.ends]);
    this.tree.scrollLeft = this.tree.scrollWidth;
  }

  // Nodes of texts that are done stay: those that nothing follows though a step has passed since they were likeliest.
  get ends() {
    return [...this.nodes.values()].filter((node) => node.done).map(({ number }) => number);
  }

  keepOnly(numbers) {
    const alive = new Set([0]);
    for (let number of numbers) {
      while (number && !alive.has(number)) {
        alive.add(number);
        number = this.nodes.get(number).parent;
      }
    }
    for (const node of this.nodes.values()) {
      const given = !alive.has(node.number);
      node.drawn.classList.toggle("pruned", given);
      const follower = [...this.nodes.values()].some((other) => other.parent === node.number && other.greedy);
      node.drawn.classList.toggle("greedy-end", node.greedy && given && !follower);
    }
  }

  draw(node, name) {
    const at = ({ step, row }) => [MARGIN + COLUMN * step, MARGIN + ROW * row];
    const group = svg("g", { class: node.greedy ? "greedy" : "" });
    const [x, y] = at(node);
    if (node.parent !== null) {
      const parent = this.nodes.get(node.parent);
      const [left, above] = at(parent);
      group.append(svg("line", { x1: left + 11, y1: above, x2: x - 11, y2: y }));
      const share = Math.exp(node.log_prob - parent.log_prob);
      group.append(svg("title", {}, `${spoken(node.token)}: ${percent(share)}, whole text 2^${(node.log_prob / Math.LN2).toFixed(1)}`));
    }
    group.append(svg("circle", { cx: x, cy: y, r: 11 }), svg("text", { x, y: y + 5 }, name));
    node.drawn = group;
    this.chart.append(group);
  }

  finish(found) {
    for (const { node } of found) {
      this.nodes.get(node).done = true;
      this.nodes.get(node).drawn.classList.add("done");
    }
    this.keepOnly(this.ends);
    this.found.replaceChildren(
      ...found.map(({ text, log_prob, score }) => {
        const bits = `${(-log_prob / Math.LN2).toFixed(2)} bits`;
        const ranked = score === log_prob ? bits : `${bits}, score ${score.toFixed(2)}`;
        return element("li", {}, element("code", { textContent: Array.from(text, visible).join("") }), " ", element("small", { textContent: ranked }));
      }),
    );
    this.page.say(`The search found ${found.length} texts; the best is ${found[0].text}`);
  }
}
