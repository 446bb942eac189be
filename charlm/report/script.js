"use strict";
// Tables sort by the values that their cells carry; what has none goes last.
for (const table of document.querySelectorAll("table.sortable")) {
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
// A character that is pointed at shows what every model expected in its place.
const sheet = document.getElementById("sheet");
for (const one of document.querySelectorAll("#surprisal .text i")) {
  one.dataset.told = one.title;
  one.removeAttribute("title");
}
function show(one) {
  document.querySelectorAll("i.here").forEach(other => other.classList.remove("here"));
  sheet.hidden = !one;
  if (!one) return;
  one.classList.add("here");
  const tabs = one.closest(".tabs"), place = [...one.parentNode.children].indexOf(one), table = document.createElement("table");
  for (const panel of tabs.querySelectorAll(".panel")) {
    const row = table.insertRow(), name = document.createElement("th");
    name.textContent = panel.querySelector("h4").textContent;
    row.append(name);
    row.insertCell().textContent = panel.querySelector(".text").children[place].dataset.told;
  }
  sheet.replaceChildren(table);
}
const pointed = event => event.target.closest("#surprisal .text i");
document.addEventListener("pointerover", event => { if (pointed(event)) show(pointed(event)); });
document.addEventListener("click", event => { if (!event.target.closest("#sheet")) show(pointed(event)); });
document.addEventListener("keydown", event => { if (event.key === "Escape") show(null); });
