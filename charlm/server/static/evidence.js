// What a model's own parts say of a prediction: elements for the page, from the answer of /api/why.

import { element, percent, spoken, visible } from "./api.js";

const LISTED_KINDS = 4;

// The rows of one model, each a label and the evidence. `before` are the characters before the place, the nearest one last;
// `chosen` is the character itself.
export function evidenceRows(answer, before, chosen) {
  const rows = [];
  if (answer.gradients) rows.push(["gradient × input", strip(answer.gradients, before, signed)]);
  if (answer.attention) rows.push(...answer.attention.map((heads, layer) => attentionRow(heads, layer, before)));
  if (answer.contexts) rows.push(["counted", countedList(answer, chosen)]);
  if (answer.kinds) rows.push(["kinds of context", kindBars(answer.kinds)]);
  if (answer.members) rows.push(["weights", memberBars(answer.members)]);
  return rows;
}

const FULL = 3; // bits at which a colour is full
const OPACITY = 0.65; // of a full colour, on which text is still read well

// The colour of a character that speaks for a prediction, or against it, by so many bits.
export function signed(bits) {
  const strength = Math.min(1, Math.abs(bits) / FULL);
  return strength > 0.02 ? `rgb(var(--${bits > 0 ? "gain" : "loss"}) / ${(OPACITY * strength).toFixed(2)})` : "";
}

// One cell for each character, the nearest one last, coloured by its value.
function strip(values, before, color) {
  const best = values.indexOf(Math.max(...values));
  const said = values.length ? `most: ${spoken(before.at(-1 - best))}, ${best + 1} back, ${values[best].toFixed(2)}` : "";
  const made = element("span", { className: "strip", role: "img" });
  made.setAttribute("aria-label", said || "nothing");
  for (const [back, value] of [...values.entries()].reverse()) {
    const cell = element("i", { title: `${visible(before.at(-1 - back))}: ${value.toFixed(2)}` });
    cell.style.background = color(value);
    made.append(cell);
  }
  return made;
}

function attentionRow(heads, layer, before) {
  const strips = heads.map((values, head) => {
    const most = Math.max(...values); // whose colour is full
    const made = strip(values, before, (value) => `rgb(var(--gain) / ${(value / most).toFixed(3)})`);
    made.setAttribute("aria-label", `head ${head + 1}, ${made.getAttribute("aria-label")}`);
    return made;
  });
  return [`attention, layer ${layer + 1}`, element("span", { className: "heads" }, ...strips)];
}

const times = (number) => `${number.toLocaleString()} ${number === 1 ? "time" : "times"}`;

function countedList({ contexts, places }, chosen) {
  const signs = (text) => Array.from(text, visible).join("");
  const counts = contexts.map(({ text, count, followed }) => {
    const context = element("code", { textContent: signs(text) || "nothing" });
    if (count === undefined) return element("li", {}, "the longest context: ", context, " (the training text is not here to count it)");
    const share = count ? `, ${percent(followed / count)}` : "";
    return element("li", {}, context, ` ${times(count)}, followed by `, element("code", { textContent: visible(chosen) }), ` ${times(followed)}${share}`);
  });
  if (!counts.length) counts.push(element("li", { textContent: "no context of this place was counted" }));
  const found = places.map(({ line, before, match, after }) => {
    const passage = element("code", {}, signs(before), element("mark", { textContent: signs(match) }), signs(after));
    return element("li", {}, `line ${line.toLocaleString()}: `, passage);
  });
  return element("ul", { className: "counted" }, ...counts, ...found);
}

function kindBars(kinds) {
  const most = Math.max(0.01, ...kinds.map(({ bits }) => bits));
  return bars(kinds.slice(0, LISTED_KINDS).map(({ name, bits }) => [name, Math.max(0, bits) / most, `saves ${bits.toFixed(2)} bits`]));
}

function memberBars(members) {
  return bars(members.map(({ name, weight, bits }) => [name, weight, `${percent(weight)}, alone ${bits.toFixed(2)} bits`]));
}

function bars(rows) {
  const made = rows.map(([name, share, value]) => {
    const filled = element("i");
    filled.style.width = `${100 * share}%`;
    const bar = element("span", { className: "bar", ariaHidden: "true" }, filled);
    return element("li", {}, element("span", { textContent: name }), bar, element("span", { className: "value", textContent: value }));
  });
  return element("ol", { className: "evidence-bars" }, ...made);
}
