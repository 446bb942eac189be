"use strict";
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const made = (name, content = "", kind = "") => {
  const element = document.createElement(name);
  element.append(content);
  if (kind) element.className = kind;
  return element;
};

// Tables sort by the values that their cells carry; cells without one go last.
for (const table of all("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  headings.forEach((heading, column) => heading.querySelector("button").addEventListener("click", () => {
    const way = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    headings.forEach(other => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", way === 1 ? "ascending" : "descending");
    const value = row => row.cells[column].dataset.value;
    body.append(...[...body.rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      return way * (isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y);
    }));
  }));
}

// The hint that a table scrolls is shown where it does.
for (const wide of all(".wide")) {
  const hint = wide.previousElementSibling;
  const update = () => { hint.style.display = wide.scrollWidth > wide.clientWidth + 1 ? "block" : "none"; };
  new ResizeObserver(update).observe(wide);
}

// The sheet: what every model predicted for one character. Pointing shows it, a click or the keyboard keeps it open.
const sheet = document.getElementById("sheet");
let kept = null;
for (const text of all("#surprisal .text")) {
  const characters = [...text.children];
  characters.forEach((one, place) => {
    one.dataset.cost = one.title;
    one.removeAttribute("title");
    one.tabIndex = place ? -1 : 0;
  });
  text.setAttribute("role", "group");
  text.setAttribute("aria-label", "characters; the arrow keys move from one to the next");
  text.addEventListener("pointerover", event => { if (event.target.parentNode === text) show(event.target); });
  text.addEventListener("pointerleave", () => show(kept));
  text.addEventListener("click", event => { if (event.target.parentNode === text) keep(event.target); });
  text.addEventListener("focusin", event => { if (event.target.matches(":focus-visible")) keep(event.target); });
  text.addEventListener("keydown", event => {
    const next = neighbour(characters, characters.indexOf(event.target), event.key);
    if (!next) return;
    event.preventDefault();
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus({ preventScroll: true });
    keep(next);
  });
}
function neighbour(characters, place, key) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[key], line = { ArrowDown: 1, ArrowUp: -1 }[key];
  if (key === "Home" || key === "End") return characters.at(key === "Home" ? 0 : -1);
  if (step) return characters[place + step];
  if (!line) return null;
  const here = characters[place].getClientRects()[0];
  const box = one => one.getClientRects()[0];
  const beyond = characters.filter(one => line * (box(one).top - here.top) > 2);
  if (!beyond.length) return null;
  const top = box(line > 0 ? beyond[0] : beyond.at(-1)).top;
  const near = beyond.filter(one => Math.abs(box(one).top - top) <= 2);
  return near.reduce((a, b) => Math.abs(box(b).left - here.left) < Math.abs(box(a).left - here.left) ? b : a);
}
function keep(one) {
  kept = one;
  show(one);
}
function show(one) {
  all("i.here").forEach(other => other.classList.remove("here"));
  sheet.hidden = !one;
  if (!one) return;
  one.classList.add("here");
  const place = [...one.parentNode.children].indexOf(one), header = made("header"), close = made("button", "Close ✕");
  close.type = "button";
  close.addEventListener("click", () => { keep(null); one.focus({ preventScroll: true, focusVisible: false }); });
  header.append(made("span", `What each model predicted where “${mark(one)}” stands; the bars are probabilities`), close);
  const panels = all(".panel", one.closest(".tabs"));
  sheet.replaceChildren(header, ...panels.map((panel, number) => predicted(panel, place, number)));
  document.documentElement.style.scrollPaddingBottom = `${sheet.offsetHeight + 12}px`;
  if (kept === one) one.scrollIntoView({ block: "nearest", behavior: "instant" });
}
const mark = one => one.textContent.trimEnd() || "␣";
function predicted(panel, place, number) {
  const one = panel.querySelector(".text").children[place];
  const [bits, rank, ...rest] = one.dataset.cost.split(" · ");
  const line = made("div", made("b", panel.querySelector("h4").textContent), `line c${number % 8}`);
  line.append(made("span", bits), made("span", rank, "rank"));
  for (const guess of rest.join(" · ").split("  ")) {
    const cut = guess.lastIndexOf("\u00a0"), token = guess.slice(0, cut), share = Number(guess.slice(cut + 1));
    const shown = made("span", made("span", token), token === mark(one) ? "guess came" : "guess");
    const bar = made("i", made("i"));
    bar.firstChild.style.width = `${100 * share}%`;
    shown.title = `${token}: probability ${share}`;
    shown.append(bar);
    line.append(shown);
  }
  return line;
}
document.addEventListener("click", event => { if (!event.target.closest("#sheet, #surprisal .text")) keep(null); });
document.addEventListener("keydown", event => { if (event.key === "Escape") keep(null); });

// Two lists choose which pair of models is shown.
for (const pairs of all(".pairs")) {
  const [first, second] = all("select", pairs);
  first.value = "0";
  second.value = "1";
  pairs.querySelector(".choice").hidden = false;
  const update = changed => {
    if (first.value === second.value) {
      const other = changed === first ? second : first;
      other.value = first.value === "0" ? "1" : "0";
    }
    const pair = [first.value, second.value].sort((a, b) => a - b).join("-");
    all("[data-pair]", pairs).forEach(panel => { panel.hidden = panel.dataset.pair !== pair; });
  };
  first.addEventListener("change", () => update(first));
  second.addEventListener("change", () => update(second));
}

// A cell of an attention map that is pointed at, or reached by the arrow keys, is read out.
const SVG = "http://www.w3.org/2000/svg", CELL = 10;
for (const map of all("svg.attention")) {
  const rows = all(".row", map), columns = all(".column", map), size = rows.length;
  const margin = Number(map.dataset.margin), readout = map.parentNode.querySelector("output");
  const weight = (row, column) => parseInt(map.dataset.weights.substr(2 * (row * size + column), 2), 16) / 255;
  const across = document.createElementNS(SVG, "rect"), cell = document.createElementNS(SVG, "rect");
  map.append(across, cell);
  let row = size - 1, column = size - 1;
  const place = (rect, x, width) => {
    const values = { x: margin + CELL * x, y: margin + CELL * row, width: CELL * width, height: CELL };
    Object.entries(values).forEach(([name, value]) => rect.setAttribute(name, value));
  };
  const read = () => {
    [rows, columns].forEach((texts, n) => texts.forEach((text, m) => text.classList.toggle("here", m === [row, column][n])));
    place(across, 0, row + 1);
    place(cell, column, 1);
    const token = n => rows[n].textContent, text = made("div", "", "text");
    rows.slice(0, row + 1).forEach((_, n) => {
      const one = made("span", token(n));
      one.style.background = `rgb(var(--heat) / ${Math.sqrt(weight(row, n))})`;
      text.append(one);
    });
    const far = row === column ? "itself" : `“${token(column)}”, ${row - column} back`;
    const value = made("p", `“${token(row)}” looks at ${far}: weight ${weight(row, column).toFixed(2)}`);
    readout.replaceChildren(value, made("p", "The whole row:", "note"), text);
  };
  const strongest = () => rows.reduce((best, _, n) => n <= row && weight(row, n) > weight(row, best) ? n : best, 0);
  const move = (newRow, newColumn) => {
    row = Math.max(0, Math.min(size - 1, newRow));
    column = Math.max(0, Math.min(row, newColumn));
    read();
  };
  const pointed = event => {
    const box = map.getBoundingClientRect(), scale = map.viewBox.baseVal.width / box.width;
    const at = (position, start) => Math.floor(((position - start) * scale - margin) / CELL);
    move(at(event.clientY, box.top), at(event.clientX, box.left));
  };
  map.addEventListener("pointermove", pointed);
  map.addEventListener("pointerdown", pointed);
  map.addEventListener("keydown", event => {
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!steps) return;
    event.preventDefault();
    move(row + steps[0], column + steps[1]);
  });
  column = strongest();
  read();
}
