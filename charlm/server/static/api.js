// Requests to the server, and elements of the page: what the parts of the page share.

let key = "";

export class Refused extends Error {
  constructor(status, error) {
    super(error?.message ?? `the server answered ${status}`);
    this.status = status;
  }
}

export function useKey(value) {
  key = value;
}

export async function ask(path, body, signal) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const options = body === undefined ? { headers, signal } : { method: "POST", headers, body: JSON.stringify(body), signal };
  const response = await fetch(path, options);
  if (!response.ok) {
    const content = await response.json().catch(() => ({}));
    throw new Refused(response.status, content.error);
  }
  return response;
}

export async function askJson(path, body, signal) {
  return (await ask(path, body, signal)).json();
}

// The server-sent events of a response as they arrive.
export async function* events(path, body, signal) {
  const reader = (await ask(path, body, signal)).body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const data = part.slice("data: ".length);
      if (data === "[DONE]") return;
      yield JSON.parse(data);
    }
  }
}

// A new element with these properties and children. Text never becomes markup.
export function element(name, properties = {}, ...children) {
  const node = document.createElement(name);
  for (const [property, value] of Object.entries(properties)) {
    if (property in node) node[property] = value;
    else node.setAttribute(property, value);
  }
  node.append(...children);
  return node;
}

// The sign of a model: a dot of its colour, hollow for a model whose colour another has, too.
export function swatch({ color, hollow }) {
  const made = element("span", { className: hollow ? "swatch hollow" : "swatch" });
  made.style.color = color;
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

// A new element of an SVG drawing.
export function svg(name, attributes, text) {
  const node = document.createElementNS(SVG, name);
  for (const [attribute, value] of Object.entries(attributes)) node.setAttribute(attribute, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

const SIGNS = { "\n": "⏎", " ": "␣", "\t": "⇥" };

// A token with signs for its spaces and line ends.
export function visible(text) {
  if (text.startsWith("bytes:")) return text.slice("bytes:".length);
  return Array.from(text, (character) => SIGNS[character] ?? character).join("");
}

const SPOKEN_NAMES = { "\n": "line feed", " ": "space", "\t": "tab" };

// A token as a screen reader should say it.
export function spoken(text) {
  return SPOKEN_NAMES[text] ?? text;
}

export function percent(probability) {
  const value = 100 * probability;
  return value >= 9.95 ? `${value.toFixed(0)} %` : value >= 0.1 ? `${value.toFixed(1)} %` : value > 0 ? "<0.1 %" : "0 %";
}

const HEAT_THRESHOLDS = [8, 6, 4, 3, 2, 1, 0]; // bits

// The CSS class of a character that cost so many bits.
export function heat(bits) {
  return `h${HEAT_THRESHOLDS.find((threshold) => bits >= threshold) ?? 0}`;
}
