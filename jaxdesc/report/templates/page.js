"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const [main] = data.methods;
const AROUND = 12; // rows above and below the screen that are there
const HELD = 64; // pieces that are held
const STRIP = 6; // exemplars in a row
const PROPERTIES = ["density", "mean", "highest", "clarity", "redundancy", "polysemanticity"];
const NAME = 60; // most letters of an image's name

const byId = (id) => document.getElementById(id);
const list = byId("list");
const card = byId("card");
const places = new Map(data.units.map((unit, place) => [String(unit), place]));
const labelled = data.labels.some((names) => names.length > 0);
let order = []; // places of the neurons that are listed
let ranks = new Map(); // where each of them is in that order
let rows = new Map(); // elements of the rows that are there, by place

/** An element with a class and children; strings become text, never markup. */
function make(tag, name, ...children) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  element.append(...children);
  return element;
}

const number = (value) =>
  value !== 0 && Math.abs(value) < 0.001 ? value.toExponential(1) : value.toFixed(3);

const folded = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

// Pieces: what only cards and pictures need, in files that are read when they are needed

const pieces = new Map(); // promises by number, the last used last
const arrived = new Map(); // what a promise that waits for its script is resolved with

/** Called by each piece. */
globalThis.addPiece = (number, piece) => arrived.get(number)?.(piece);

function pieceOf(place) {
  const number = Math.floor(place / data.piece);
  const found = pieces.get(number) || load(number);
  pieces.delete(number);
  pieces.set(number, found);
  if (pieces.size > HELD) pieces.delete(pieces.keys().next().value);
  return found;
}

function load(number) {
  return new Promise((resolve, reject) => {
    arrived.set(number, resolve);
    const script = make("script", "");
    script.src = `units/${number}.js`;
    script.addEventListener("load", () => {
      arrived.delete(number);
      script.remove();
    });
    script.addEventListener("error", () => reject(new Error(`units/${number}.js is missing`)));
    document.head.append(script);
  });
}

/** A neuron's part of its piece: of each method, and of the images of all. */
async function detailsOf(place) {
  const piece = await pieceOf(place);
  return { piece, methods: piece.methods.map((neurons) => neurons[place % data.piece]) };
}

// Search, sort and filter

const conceptsOf = (method, place) => method.concepts[place].map(([text, value]) => [data.texts[text], value]);

const foldedTexts = data.texts.map(folded);
const haystacks = data.units.map((unit, place) => {
  const found = data.methods.flatMap((method) => method.concepts[place].map(([text]) => foldedTexts[text]));
  return [...data.labels[place].map(folded), ...found].join("\n");
});

function matches(place, wanted) {
  if (wanted === "") return true;
  if (/^#?\d+$/.test(wanted)) return String(data.units[place]) === wanted.replace("#", "");
  return haystacks[place].includes(wanted);
}

/** Agreement with the label: F1 first, the cosines between those that tie. */
function agreement(place) {
  const [first, ...others] = Object.values(main.measures);
  return first[place] * 1000 + others.reduce((sum, values) => sum + values[place], 0);
}

const columns = Object.entries(main.columns);
const SORTS = [
  ["neuron", (place) => -place, true],
  ["score", (place) => main.maximum[place], true],
  ["agreement with the label", agreement, Object.keys(main.measures).length > 0],
  ...columns.map(([name, values]) => [name, (place) => values[place] ?? -1, true]),
].filter(([, , known]) => known);

const bounds = new Map(); // by name of a column, [least, most]

const within = (place) =>
  [...bounds].every(([name, [least, most]]) => {
    const value = main.columns[name][place];
    return value !== null && value >= least && value <= most;
  });

let flipped = false;
const chosen = new Set();

function refresh() {
  const wanted = folded(byId("search").value.trim());
  const key = SORTS[byId("sort").value][1];
  const flagged = (place) => chosen.size === 0 || main.flags[place].some((flag) => chosen.has(flag));
  order = [...data.units.keys()].filter((place) => flagged(place) && within(place) && matches(place, wanted));
  const keys = data.units.map((_, place) => key(place));
  const sign = flipped ? -1 : 1;
  order.sort((a, b) => sign * (keys[b] - keys[a]) || a - b);
  ranks = new Map(order.map((place, rank) => [place, rank]));
  rows = new Map();
  list.replaceChildren();
  list.style.height = `${order.length * rowHeight()}px`;
  draw();
  const all = data.units.length.toLocaleString("en");
  byId("count").textContent =
    order.length === data.units.length ? `${all} neurons` : `${order.length.toLocaleString("en")} of ${all}`;
}

function setUpTools() {
  for (const [place, [name]] of SORTS.entries()) {
    const option = make("option", "", name);
    option.value = place;
    byId("sort").append(option);
  }
  const turn = () => {
    const ascending = flipped !== (byId("sort").value === "0");
    byId("direction").textContent = ascending ? "↑" : "↓";
    byId("direction").setAttribute("aria-label", ascending ? "Smallest first" : "Largest first");
  };
  turn();
  byId("search").addEventListener("input", refresh);
  byId("sort").addEventListener("change", () => {
    flipped = false;
    turn();
    refresh();
  });
  byId("direction").addEventListener("click", () => {
    flipped = !flipped;
    turn();
    refresh();
  });
  const counts = new Map();
  for (const flag of main.flags.flat()) counts.set(flag, (counts.get(flag) || 0) + 1);
  for (const [flag, count] of counts) byId("flags").append(flagButton(flag, count));
  byId("filters").append(make("div", "ranges", ...columns.map(([name]) => range(name))));
}

/** Two fields, between which a column's numbers have to be. */
function range(name) {
  const fields = ["at least", "at most"].map((words) => {
    const field = make("input", "");
    field.type = "number";
    field.step = "any";
    field.setAttribute("aria-label", `${name} ${words}`);
    field.addEventListener("input", () => {
      const [least, most] = fields.map((each) => each.value);
      if (least === "" && most === "") bounds.delete(name);
      else bounds.set(name, [least === "" ? -Infinity : Number(least), most === "" ? Infinity : Number(most)]);
      refresh();
    });
    return field;
  });
  return make("span", "range", name, fields[0], "–", fields[1]);
}

function flagButton(flag, count) {
  const button = make("button", "flag", flag, make("span", "muted", ` ${count.toLocaleString("en")}`));
  button.type = "button";
  button.title = data.meanings[flag] || "";
  button.setAttribute("aria-pressed", "false");
  button.addEventListener("click", () => {
    const pressed = !chosen.delete(flag);
    if (pressed) chosen.add(flag);
    button.setAttribute("aria-pressed", String(pressed));
    refresh();
  });
  return button;
}

// Rows

const rowHeight = () => parseFloat(getComputedStyle(list).getPropertyValue("--row"));

/** Have the rows near the screen, and no others. */
function draw() {
  const height = rowHeight();
  const top = -list.getBoundingClientRect().top;
  const first = Math.max(0, Math.floor(top / height) - AROUND);
  const last = Math.min(order.length, Math.ceil((top + innerHeight) / height) + AROUND);
  const wanted = new Set(order.slice(first, last));
  for (const [place, element] of rows) {
    if (wanted.has(place)) continue;
    element.remove();
    rows.delete(place);
  }
  let before = null; // rows come in their order, for those who read by ear or by keyboard
  for (let rank = last - 1; rank >= first; rank -= 1) {
    const place = order[rank];
    let element = rows.get(place);
    if (!element) {
      element = row(place);
      rows.set(place, element);
      list.insertBefore(element, before);
    }
    element.style.top = `${rank * height}px`;
    before = element;
  }
}

function row(place) {
  const link = make("a", "row");
  link.href = `#${data.units[place]}`;
  link.dataset.place = place;
  const strip = make("span", "strip");
  strip.setAttribute("aria-hidden", "true");
  const names = data.labels[place];
  link.append(make("span", "unit", String(data.units[place])));
  if (labelled) link.append(make("span", "label", names[0] || ""));
  link.append(concepts(place), marks(place), strip);
  detailsOf(place).then(
    ({ piece, methods }) => strip.isConnected && fillStrip(strip, piece, methods[0]),
    () => {}, // its card says what is missing
  );
  const item = make("li", "", link);
  item.setAttribute("aria-setsize", order.length);
  item.setAttribute("aria-posinset", ranks.get(place) + 1);
  return item;
}

function concepts(place) {
  const found = conceptsOf(main, place);
  const cell = make("span", "concepts");
  for (const [text, value] of found.slice(0, 4)) {
    cell.append(make("span", "concept", text, make("span", "value", number(value))));
  }
  if (found.length > 4) cell.append(make("span", "muted small", `+${found.length - 4}`));
  const count = main.columns.exemplars[place];
  if (count < main.asked) cell.append(make("span", "muted small", exemplarCount(main, count)));
  for (const flag of main.flags[place]) cell.append(flagMark(flag));
  return cell;
}

const exemplarCount = (method, count) =>
  `${count < method.asked ? `${count} of ${method.asked}` : count} exemplar${method.asked === 1 ? "" : "s"}`;

/** A flag, whose meaning shows under the pointer. */
function flagMark(flag) {
  const mark = make("span", "mark", flag);
  mark.title = data.meanings[flag] || "";
  return mark;
}

/** Agreement and stability, if they are known. */
function marks(place) {
  const cell = make("span", "marks");
  const [measure] = Object.entries(main.measures);
  if (measure) cell.append(mark(measure[0], measure[1][place]));
  if (main.columns.stability) cell.append(mark("stability", main.columns.stability[place]));
  return cell;
}

const mark = (name, value) =>
  make("span", "measure", make("span", "muted small", name), make("span", "value", value === null ? "–" : value.toFixed(2)));

function fillStrip(strip, piece, neuron) {
  if (neuron.sheet === null) return;
  for (const rank of neuron.exemplars.slice(0, STRIP).keys()) {
    const view = make("span", "crop");
    showWindow(view, piece, neuron, rank);
    strip.append(view);
  }
}

// Pictures

/** Width and height of an image's thumbnail in its sheet. */
function thumbnail(piece, image) {
  const [width, height] = piece.images.sizes[image];
  const scale = data.cell / Math.max(width, height);
  return [width, height].map((side) => Math.max(1, Math.floor(side * scale + 0.5)));
}

/** Show the part of an exemplar's thumbnail that the network saw, in a square. */
function showWindow(element, piece, neuron, rank) {
  const [image, , ...box] = neuron.exemplars[rank];
  const [width, height] = thumbnail(piece, image);
  const [left, top, right, bottom] = box.length ? box : [0, 0, 1000, 1000];
  const across = (width * (right - left)) / 1000;
  const down = (height * (bottom - top)) / 1000;
  const side = Math.min(across, down);
  const x = (width * left) / 1000 + (across - side) / 2;
  const y = (height * top) / 1000 + (down - side) / 2;
  placeSheet(element, neuron, rank, x, y, side, side);
}

/** Fill an element of any size with part of a thumbnail. */
function placeSheet(element, neuron, rank, x, y, width, height) {
  const count = neuron.exemplars.length;
  const across = Math.min(data.columns, count) * data.cell;
  const down = Math.ceil(count / data.columns) * data.cell;
  const left = (rank % data.columns) * data.cell + x;
  const top = Math.floor(rank / data.columns) * data.cell + y;
  // A position of 100 % is where the far ends of sheet and element meet.
  const share = (from, whole, part) => (whole > part ? (100 * from) / (whole - part) : 0);
  element.style.backgroundImage = `url("sheets/${neuron.sheet}.webp")`;
  element.style.backgroundSize = `${(100 * across) / width}% ${(100 * down) / height}%`;
  element.style.backgroundPosition = `${share(left, across, width)}% ${share(top, down, height)}%`;
}

/** An exemplar: the whole image, its heatmap and the window that the network saw. */
function exemplar(piece, neuron, rank) {
  const [image, activation, ...box] = neuron.exemplars[rank];
  const [width, height] = thumbnail(piece, image);
  const view = make("div", "view");
  const name = piece.images.names[image];
  // A neuron's own map, or that of the image's class.
  const heat = neuron.heats ? neuron.heats[rank] : piece.images.heats[image];
  const explained = neuron.heats ? heat && "this neuron" : piece.classes[piece.images.explained[image]];
  view.style.width = `${(100 * width) / data.cell}%`;
  view.style.aspectRatio = `${width} / ${height}`;
  view.setAttribute("role", "img");
  view.setAttribute("aria-label", explained ? `${name}, heatmap of ${explained}` : name);
  placeSheet(view, neuron, rank, 0, 0, width, height);
  if (heat) view.append(heatmap(heat, piece.images.areas[image]));
  if (box.length) view.append(placed(make("div", "window"), box));
  const figure = make("figure", "exemplar", make("div", "cell", view), caption(name, explained, activation));
  figure.title = name;
  return figure;
}

function caption(name, explained, activation) {
  const line = make("span", "value", activation.toFixed(2));
  if (explained) line.append(make("span", "explained muted", ` heatmap: ${explained}`));
  return make("figcaption", "", line, make("span", "muted name", middle(name)));
}

/** Cut the middle out of a long name: names begin alike and differ at the end. */
const middle = (name) => (name.length > NAME ? `${name.slice(0, NAME / 3)}…${name.slice(1 - (2 * NAME) / 3)}` : name);

function placed(element, [left, top, right, bottom]) {
  element.style.left = `${left / 10}%`;
  element.style.top = `${top / 10}%`;
  element.style.width = `${(right - left) / 10}%`;
  element.style.height = `${(bottom - top) / 10}%`;
  return element;
}

/** A map of a few cells, which the browser smooths: dim at its lowest value, warm at its highest. */
function heatmap(heat, area) {
  const rows = heat.split(" ");
  const canvas = make("canvas", "heat");
  canvas.width = rows[0].length;
  canvas.height = rows.length;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(canvas.width, canvas.height);
  [...rows.join("")].forEach((letter, place) => {
    const value = data.levels.indexOf(letter) / (data.levels.length - 1);
    pixels.data.set([255 * value, 110 * value, 30 * value, 255 * (0.6 - 0.38 * value)], 4 * place);
  });
  context.putImageData(pixels, 0, 0);
  return placed(canvas, area);
}

// The card of a neuron

let opening; // place of the card that is to open

async function openCard(place) {
  opening = place;
  const names = data.labels[place];
  const [best] = conceptsOf(main, place);
  const found = await detailsOf(place).catch((error) => error.message);
  if (opening !== place) return;
  byId("card-unit").textContent = `${data.layer} ${data.units[place]}`;
  byId("card-title").textContent = labelled ? names.join(", ") : best ? best[0] : "no concept";
  byId("card-body").replaceChildren(...typeof found === "string"
      ? [make("p", "", `${found} next to this page: write the report again.`)]
      : data.methods.map((method, which) => side(method, place, found.piece, found.methods[which])));
  byId("card-body").className = data.methods.length > 1 ? "beside" : "";
  const at = ranks.get(place) ?? -1;
  byId("previous").disabled = at <= 0;
  byId("next").disabled = at < 0 || at === order.length - 1;
  card.dataset.place = place;
  if (!card.open) card.showModal();
  card.scrollTop = 0;
  byId("card-title").focus({ preventScroll: true });
}

/** One method's description of a neuron. */
function side(method, place, piece, neuron) {
  const section = make("section", "side");
  if (data.methods.length > 1) section.append(make("h3", "", method.name));
  section.append(conceptTable(method, place, neuron), facts(method, place, neuron));
  const heads = data.judged[data.methods.indexOf(method)];
  if (heads.length && neuron.judged.length) section.append(judged(heads, neuron.judged));
  if (neuron.sheet === null && neuron.exemplars.length) {
    section.append(make("p", "muted small", `Thumbnails: jaxdesc report --workdir=RUN --thumbnails=${data.units[place]}`));
    const line = ([image, activation]) => make("li", "", piece.images.names[image], make("span", "value", ` ${activation.toFixed(2)}`));
    section.append(make("ol", "names small", ...neuron.exemplars.map(line)));
    return section;
  }
  const grid = make("div", "exemplars");
  grid.append(...neuron.exemplars.keys().map((rank) => exemplar(piece, neuron, rank)));
  section.append(grid);
  return section;
}

function conceptTable(method, place, neuron) {
  const found = conceptsOf(method, place);
  const maximum = method.maximum[place];
  if (found.length === 0) return make("p", "muted", method.flags[place].join(", ") || "no concept");
  const labels = new Set(data.labels[place].map((name) => name.toLowerCase()));
  const table = make("ol", "scores");
  for (const [rank, [text, value]] of found.entries()) {
    const [stability, q] = neuron.sure[rank];
    const fill = make("span", "fill");
    fill.style.width = `${(100 * value) / maximum}%`;
    const name = make("span", "text", text);
    if (labels.has(text.toLowerCase())) name.append(make("span", "own", " = label"));
    const sure = [];
    if (stability !== undefined) sure.push(`stability ${stability.toFixed(2)}`);
    if (q !== undefined) sure.push(`q ${number(q)}`);
    if (sure.length) name.append(make("span", "muted small sure", sure.join(" · ")));
    table.append(make("li", "", name, make("span", "track", fill), make("span", "value", number(value))));
  }
  return table;
}

/** Labels of every source, and how good they are. */
function judged(heads, sources) {
  const table = make("table", "facts judged small");
  table.append(make("tr", "", ...["labels", "", ...heads].map((head) => make("th", "", head))));
  for (const [source, label, scores] of sources) {
    const cells = scores.map((score) => make("td", "", score === null ? "–" : score.toFixed(2)));
    table.append(make("tr", "", make("th", "", source), make("td", "", label), ...cells));
  }
  return make("div", "scroll", table);
}

function facts(method, place, { threshold, exemplars }) {
  const texts = [exemplarCount(method, exemplars.length), `threshold ${number(threshold)}`];
  for (const [name, values] of Object.entries(method.measures)) texts.push(`${name} ${values[place].toFixed(2)}`);
  for (const name of PROPERTIES) {
    const value = method.columns[name]?.[place];
    if (value !== null && value !== undefined) texts.push(`${name} ${number(value)}`);
  }
  const lines = method.flags[place].map((flag) =>
    make("p", "small", make("span", "mark", flag), make("span", "muted", ` ${data.meanings[flag] || ""}`)),
  );
  return make("div", "facts-line", make("p", "muted small", texts.join(" · ")), ...lines);
}

// Navigation: the address names the open card, so that "back" closes it

function follow() {
  const place = places.get(location.hash.slice(1));
  if (place !== undefined) openCard(place);
  else {
    opening = undefined;
    if (card.open) card.close();
  }
}

function step(by) {
  const next = order[(ranks.get(Number(card.dataset.place)) ?? NaN) + by];
  if (next !== undefined) location.replace(`#${data.units[next]}`);
}

function focusRow(place) {
  const rank = ranks.get(place);
  if (rank === undefined) return;
  const above = list.getBoundingClientRect().top + rank * rowHeight();
  if (above < byId("tools").offsetHeight || above + rowHeight() > innerHeight) scrollBy(0, above - innerHeight / 2);
  draw();
  rows.get(place).querySelector("a").focus({ preventScroll: true });
}

function moveFocus(event) {
  const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (by === undefined || event.target.tagName === "SELECT") return;
  const inRow = event.target.closest ? event.target.closest(".row") : null;
  if (!inRow && event.target !== byId("search")) return;
  event.preventDefault();
  const at = inRow ? ranks.get(Number(inRow.dataset.place)) + by : by > 0 ? 0 : -1;
  if (at < 0) byId("search").focus();
  else if (at < order.length) focusRow(order[at]);
}

const SHORTCUTS = {
  ArrowLeft: () => step(-1),
  ArrowRight: () => step(1),
  h: () => byId("heat").click(),
  w: () => byId("window").click(),
};

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (card.open) {
    const act = SHORTCUTS[event.key];
    if (act) act();
  } else if (event.key === "/" && event.target !== byId("search")) {
    event.preventDefault();
    byId("search").focus();
  } else moveFocus(event);
}

function setUpCard() {
  byId("heat-switch").hidden = !data.heated;
  byId("window-switch").hidden = !data.boxed;
  byId("heat").addEventListener("change", (event) => card.classList.toggle("no-heat", !event.target.checked));
  byId("window").addEventListener("change", (event) => card.classList.toggle("no-window", !event.target.checked));
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("close").addEventListener("click", () => card.close());
  card.addEventListener("click", (event) => event.target === card && card.close());
  card.addEventListener("close", () => {
    if (places.has(location.hash.slice(1))) location.hash = "list";
    focusRow(Number(card.dataset.place));
  });
}

document.body.classList.toggle("unlabelled", !labelled);
setUpTools();
setUpCard();
refresh();
document.addEventListener("keydown", press);
let waiting = false;
document.addEventListener("scroll", () => {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    draw();
  });
});
addEventListener("resize", () => {
  list.style.height = `${order.length * rowHeight()}px`;
  draw();
});
window.addEventListener("hashchange", follow);
follow();
