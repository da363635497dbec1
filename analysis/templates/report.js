"use strict";
// Everything here adds to a page that can be read without it.

// --- figures: point at a mark, or walk from mark to mark with the arrow keys ---------------------
for (const plot of document.querySelectorAll(".plot[data-marks]")) {
  const canvas = plot.querySelector(".canvas"), svg = plot.querySelector("svg");
  const marks = JSON.parse(document.getElementById(plot.dataset.marks).textContent)
    .map(([x, y, series, says, cell]) => ({x, y, series, says, cell}));
  const hidden = new Set();
  const ring = svg.appendChild(document.createElementNS(svg.namespaceURI, "circle"));
  const tip = canvas.appendChild(document.createElement("div"));
  const spoken = plot.appendChild(document.createElement("div"));
  Object.assign(tip, {className: "tip", hidden: true});
  Object.assign(spoken, {className: "skip", ariaLive: "polite"});
  ring.setAttribute("class", "ring");
  ring.setAttribute("r", 0);
  let shown = null;

  function show(mark) {
    shown = mark;
    tip.hidden = !mark;
    ring.setAttribute("r", mark ? 6 : 0);
    if (!mark) return;
    ring.setAttribute("cx", mark.x);
    ring.setAttribute("cy", mark.y);
    const [first, ...rest] = mark.says.split("\n");
    tip.replaceChildren(Object.assign(document.createElement("b"), {textContent: first}), rest.join("\n"));
    if (mark.cell) {
      tip.append("\n", Object.assign(document.createElement("code"), {textContent: "cell " + mark.cell}), " – click to copy");
    }
    const scale = svg.clientWidth / svg.viewBox.baseVal.width;
    const left = mark.x * scale, top = mark.y * scale;
    const right = left + 14 + tip.offsetWidth > canvas.clientWidth;
    tip.style.left = Math.max(0, right ? left - 14 - tip.offsetWidth : left + 14) + "px";
    tip.style.top = Math.max(0, Math.min(top - tip.offsetHeight / 2, canvas.clientHeight - tip.offsetHeight)) + "px";
  }
  const visible = () => marks.filter(mark => !hidden.has(mark.series));

  function nearest(event) {
    const box = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.width / box.width;
    const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
    let best = null, least = 24;
    for (const mark of visible()) {  // means come first: a replicate must be clearly nearer
      const away = Math.hypot(mark.x - x, mark.y - y);
      if (away < least - (best ? 3 : 0)) [best, least] = [mark, away];
    }
    return best;
  }
  async function copy() {
    if (!shown || !shown.cell) return;
    let said = "copied: " + shown.cell;
    try { await navigator.clipboard.writeText(shown.cell); } catch { said = "cell " + shown.cell; }
    tip.append("\n" + said);
    spoken.textContent = said;
  }
  canvas.addEventListener("pointermove", event => show(nearest(event)));
  canvas.addEventListener("pointerleave", () => show(null));
  canvas.addEventListener("click", event => {
    if (event.target.closest("[data-legend]")) return;
    show(nearest(event));
    copy();
  });
  plot.addEventListener("blur", () => show(null));
  plot.addEventListener("keydown", event => {
    if (event.target !== plot) return;
    const list = visible(), place = list.indexOf(shown);
    const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
    if (step) show(list[place < 0 ? 0 : (place + step + list.length) % list.length]);
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const way = event.key === "ArrowDown" ? 1 : -1;  // on to the next series
      let at = place < 0 ? 0 : place;
      for (let i = 0; i < list.length && list[at].series === (shown || list[0]).series; i++) at = (at + way + list.length) % list.length;
      show(list[at]);
    } else if (event.key === "Escape") show(null);
    else if (event.key === "Enter") { copy(); return; }
    else return;
    event.preventDefault();
    spoken.textContent = shown ? shown.says.replaceAll("\n", ", ") : "";
  });

  // A legend's entry hides and shows its series.
  for (const entry of svg.querySelectorAll("[data-legend]")) {
    const series = Number(entry.dataset.legend);
    entry.setAttribute("role", "button");
    entry.setAttribute("tabindex", "0");
    entry.setAttribute("aria-pressed", "true");
    const toggle = () => {
      const hide = !hidden.delete(series);
      if (hide) hidden.add(series);
      for (const drawn of svg.querySelectorAll(`[data-series="${series}"]`)) drawn.classList.toggle("hidden", hide);
      for (const same of svg.querySelectorAll(`[data-legend="${series}"]`)) same.setAttribute("aria-pressed", String(!hide));
      if (hide && shown && shown.series === series) show(null);
    };
    entry.addEventListener("click", toggle);
    entry.addEventListener("keydown", event => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); toggle(); }
    });
  }
}

// --- figures as files ------------------------------------------------------------------------------
function plain(svg) {
  const copy = svg.cloneNode(true), {width, height} = svg.viewBox.baseVal;
  copy.querySelector(".ring").remove();
  copy.setAttribute("width", width + "pt");
  copy.setAttribute("height", height + "pt");
  const text = new XMLSerializer().serializeToString(copy);
  return text.replace(/var\(--c\d+,(#[0-9a-f]{6})\)/g, "$1").replaceAll("var(--sans)", "sans-serif");
}
async function pixels(svg, scale = 3) {
  const image = new Image();
  image.src = URL.createObjectURL(new Blob([plain(svg)], {type: "image/svg+xml"}));
  await image.decode();
  const {width, height} = svg.viewBox.baseVal, canvas = document.createElement("canvas");
  Object.assign(canvas, {width: scale * width, height: scale * height});
  const paint = canvas.getContext("2d");
  paint.fillStyle = "#fff";
  paint.fillRect(0, 0, canvas.width, canvas.height);
  paint.drawImage(image, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/png");
}
for (const figure of document.querySelectorAll("figure")) {
  const svg = figure.querySelector(".canvas > svg"), image = figure.querySelector(".canvas > img");
  const offer = (kind, make) => {
    const button = Object.assign(document.createElement("button"), {type: "button", textContent: kind});
    button.setAttribute("aria-label", `${figure.id} as ${kind}`);
    button.addEventListener("click", async () => {
      const link = Object.assign(document.createElement("a"), {download: `${figure.id}.${kind.toLowerCase()}`});
      link.href = await make();
      link.click();
    });
    figure.querySelector(".get").append(button);
  };
  if (image) offer("PNG", () => image.src);
  if (!svg) continue;
  offer("PNG", () => pixels(svg));
  offer("SVG", () => URL.createObjectURL(new Blob([plain(svg)], {type: "image/svg+xml"})));
}

// --- tables: sort by a click on a column's name, filter the long ones ------------------------------
for (const table of document.querySelectorAll("table.data")) {
  const body = table.tBodies[0], rows = [...body.rows];
  const number = text => text === "–" ? NaN : Number(text.replaceAll(",", ""));
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = Object.assign(document.createElement("button"), {type: "button", textContent: head.textContent});
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const way = head.ariaSort === "ascending" ? -1 : 1;
      for (const other of table.tHead.rows[0].cells) other.ariaSort = null;
      head.ariaSort = way > 0 ? "ascending" : "descending";
      const key = row => row.cells[column].textContent;
      const numeric = rows.every(row => key(row) === "–" || !Number.isNaN(number(key(row))));
      rows.sort((a, b) => {
        if (!numeric) return way * key(a).localeCompare(key(b));
        const [x, y] = [number(key(a)), number(key(b))];
        return Number.isNaN(x) - Number.isNaN(y) || way * (x - y);  // what has no value comes last
      });
      body.append(...rows);
    });
  });
  if (rows.length <= 12) continue;
  const label = Object.assign(document.createElement("label"), {className: "filter", textContent: "only rows with "});
  const input = label.appendChild(Object.assign(document.createElement("input"), {type: "search"}));
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) row.hidden = !words.every(word => row.textContent.toLowerCase().includes(word));
  });
  table.closest(".scroll").before(label);
}

// --- formulas that are too wide can be scrolled by keys, too -------------------------------------
for (const formula of document.querySelectorAll("math[display=block]")) {
  if (formula.scrollWidth > formula.clientWidth) formula.setAttribute("tabindex", "0");
}

// --- contents follow the reading; a link opens what is folded; print opens all -----------------------
const links = new Map([...document.querySelectorAll(".contents a")].map(a => [a.hash.slice(1), a]));
const inView = new Set();
const watcher = new IntersectionObserver(entries => {
  for (const {target, isIntersecting} of entries) isIntersecting ? inView.add(target.id) : inView.delete(target.id);
  const current = [...links.keys()].find(id => inView.has(id));
  if (current) for (const [id, link] of links) id === current ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current");
}, {rootMargin: "-10% 0px -70% 0px"});
for (const id of links.keys()) watcher.observe(document.getElementById(id));

function unfold() {
  const found = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!found) return;
  const around = [];
  for (let outer = found; outer; outer = outer.parentElement) around.push(outer);
  for (const folded of [...around, ...found.querySelectorAll(":scope > details")]) {
    if (folded.tagName === "DETAILS") folded.open = true;
  }
  found.scrollIntoView();
}
addEventListener("hashchange", unfold);
if (location.hash) unfold();
addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("section > details")) folded.open = true;
});
