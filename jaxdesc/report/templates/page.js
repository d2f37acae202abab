"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const [main] = data.methods;
const CHUNK = 40; // rows added at a time, whenever the reader comes near the end
const STRIP = 6; // exemplars in a row
const NAME = 60; // most letters of an image's name

const byId = (id) => document.getElementById(id);
const list = byId("list");
const card = byId("card");
const places = new Map(data.units.map((unit, place) => [String(unit), place]));
const labelled = data.labels.some((names) => names.length > 0);
const heated =
  data.images.heats.some((heat) => heat !== "") ||
  data.methods.some((method) => method.neurons.some((neuron) => neuron.heats));
const boxed = data.methods.some((m) => m.neurons.some((n) => n.exemplars.some((e) => e.length > 2)));
let order = []; // places of the neurons that are listed
let shown = 0; // how many of them have rows

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

// Search, sort and filter

const haystacks = data.units.map((unit, place) =>
  folded(
    [
      ...data.labels[place],
      ...data.methods.flatMap((method) => method.neurons[place].concepts.map(([text]) => text)),
    ].join("\n"),
  ),
);

function matches(place, wanted) {
  if (wanted === "") return true;
  if (/^#?\d+$/.test(wanted)) return String(data.units[place]) === wanted.replace("#", "");
  return haystacks[place].includes(wanted);
}

const score = (place) => main.neurons[place].maximum;

/** Agreement with the label: F1 first, the cosines between those that tie. */
function agreement(place) {
  const [first, ...others] = Object.values(main.measures);
  return first[place] * 1000 + others.reduce((sum, values) => sum + values[place], 0);
}

const SORTS = [
  ["neuron", (place) => -place, true],
  ["score", score, true],
  ["stability", (place) => main.stability[place] ?? -1, main.stability.length > 0],
  ["agreement with the label", agreement, Object.keys(main.measures).length > 0],
].filter(([, , known]) => known);

let flipped = false;
const chosen = new Set();

function refresh() {
  const wanted = folded(byId("search").value.trim());
  const key = SORTS[byId("sort").value][1];
  const flagged = (place) => chosen.size === 0 || main.flags[place].some((flag) => chosen.has(flag));
  order = [...data.units.keys()].filter((place) => flagged(place) && matches(place, wanted));
  const keys = new Map(order.map((place) => [place, key(place)]));
  const sign = flipped ? -1 : 1;
  order.sort((a, b) => sign * (keys.get(b) - keys.get(a)) || a - b);
  list.replaceChildren();
  shown = 0;
  grow();
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

const strips = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      strips.unobserve(target);
      fillStrip(target, Number(target.dataset.place));
    }
  },
  { rootMargin: "200px" },
);

// The last entry is the present state: a busy browser delivers several at once.
const ends = new IntersectionObserver(
  (entries) => entries.at(-1).isIntersecting && shown < order.length && grow(),
  { rootMargin: "1200px" },
);

function grow() {
  const more = order.slice(shown, shown + CHUNK);
  list.append(...more.map(row));
  shown += more.length;
  // Observed again, since the end may still be near on a tall screen, which is no change.
  ends.unobserve(byId("end"));
  ends.observe(byId("end"));
}

function row(place) {
  const link = make("a", "row");
  link.href = `#${data.units[place]}`;
  link.dataset.place = place;
  const strip = make("span", "strip");
  strip.dataset.place = place;
  strip.setAttribute("aria-hidden", "true");
  const names = data.labels[place];
  link.append(make("span", "unit", String(data.units[place])));
  if (labelled) link.append(make("span", "label", names[0] || ""));
  link.append(concepts(place), marks(place), strip);
  strips.observe(strip);
  return make("li", "", link);
}

function concepts(place) {
  const found = main.neurons[place].concepts;
  const cell = make("span", "concepts");
  for (const [text, value] of found.slice(0, 4)) {
    cell.append(make("span", "concept", text, make("span", "value", number(value))));
  }
  if (found.length > 4) cell.append(make("span", "muted small", `+${found.length - 4}`));
  const count = main.neurons[place].exemplars.length;
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
  if (main.stability.length) cell.append(mark("stability", main.stability[place]));
  return cell;
}

const mark = (name, value) =>
  make("span", "measure", make("span", "muted small", name), make("span", "value", value === null ? "–" : value.toFixed(2)));

function fillStrip(strip, place) {
  const neuron = main.neurons[place];
  for (const rank of neuron.exemplars.slice(0, STRIP).keys()) {
    const view = make("span", "crop");
    showWindow(view, neuron, rank);
    strip.append(view);
  }
}

// Pictures

/** Width and height of an image's thumbnail in its sheet. */
function thumbnail(image) {
  const [width, height] = data.images.sizes[image];
  const scale = data.cell / Math.max(width, height);
  return [width, height].map((side) => Math.max(1, Math.floor(side * scale + 0.5)));
}

/** Show the part of an exemplar's thumbnail that the network saw, in a square. */
function showWindow(element, neuron, rank) {
  const [image, , ...box] = neuron.exemplars[rank];
  const [width, height] = thumbnail(image);
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
function exemplar(neuron, rank) {
  const [image, activation, ...box] = neuron.exemplars[rank];
  const [width, height] = thumbnail(image);
  const view = make("div", "view");
  const name = data.images.names[image];
  // A neuron's own map, or that of the image's class.
  const heat = neuron.heats ? neuron.heats[rank] : data.images.heats[image];
  const explained = neuron.heats ? heat && "this neuron" : data.classes[data.images.explained[image]];
  view.style.width = `${(100 * width) / data.cell}%`;
  view.style.aspectRatio = `${width} / ${height}`;
  view.setAttribute("role", "img");
  view.setAttribute("aria-label", explained ? `${name}, heatmap of ${explained}` : name);
  placeSheet(view, neuron, rank, 0, 0, width, height);
  if (heat) view.append(heatmap(heat, data.images.areas[image]));
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

function openCard(place) {
  const names = data.labels[place];
  const best = main.neurons[place].concepts[0];
  byId("card-unit").textContent = `${data.layer} ${data.units[place]}`;
  byId("card-title").textContent = labelled ? names.join(", ") : best ? best[0] : "no concept";
  byId("card-body").replaceChildren(...data.methods.map((method) => side(method, place)));
  byId("card-body").className = data.methods.length > 1 ? "beside" : "";
  const at = order.indexOf(place);
  byId("previous").disabled = at <= 0;
  byId("next").disabled = at < 0 || at === order.length - 1;
  card.dataset.place = place;
  if (!card.open) card.showModal();
  card.scrollTop = 0;
  byId("card-title").focus({ preventScroll: true });
}

/** One method's description of a neuron. */
function side(method, place) {
  const neuron = method.neurons[place];
  const section = make("section", "side");
  if (data.methods.length > 1) section.append(make("h3", "", method.name));
  section.append(conceptTable(method, place), facts(method, place));
  const grid = make("div", "exemplars");
  grid.append(...neuron.exemplars.keys().map((rank) => exemplar(neuron, rank)));
  section.append(grid);
  return section;
}

function conceptTable(method, place) {
  const { concepts: found, maximum } = method.neurons[place];
  if (found.length === 0) return make("p", "muted", method.flags[place].join(", ") || "no concept");
  const labels = new Set(data.labels[place].map((name) => name.toLowerCase()));
  const table = make("ol", "scores");
  for (const [text, value, stability, q] of found) {
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

function facts(method, place) {
  const { threshold, exemplars } = method.neurons[place];
  const texts = [exemplarCount(method, exemplars.length), `threshold ${number(threshold)}`];
  for (const [name, values] of Object.entries(method.measures)) texts.push(`${name} ${values[place].toFixed(2)}`);
  const lines = method.flags[place].map((flag) =>
    make("p", "small", make("span", "mark", flag), make("span", "muted", ` ${data.meanings[flag] || ""}`)),
  );
  return make("div", "facts-line", make("p", "muted small", texts.join(" · ")), ...lines);
}

// Navigation: the address names the open card, so that "back" closes it

function follow() {
  const place = places.get(location.hash.slice(1));
  if (place !== undefined) openCard(place);
  else if (card.open) card.close();
}

function step(by) {
  const next = order[order.indexOf(Number(card.dataset.place)) + by];
  if (next !== undefined) location.replace(`#${data.units[next]}`);
}

function focusRow(place) {
  while (shown <= order.indexOf(place)) grow();
  const link = list.querySelector(`a[data-place="${place}"]`);
  if (link) link.focus();
}

function moveFocus(event) {
  const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (by === undefined || event.target.tagName === "SELECT") return;
  const inRow = event.target.closest ? event.target.closest(".row") : null;
  if (!inRow && event.target !== byId("search")) return;
  event.preventDefault();
  const at = inRow ? order.indexOf(Number(inRow.dataset.place)) + by : by > 0 ? 0 : -1;
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
  byId("heat-switch").hidden = !heated;
  byId("window-switch").hidden = !boxed;
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
window.addEventListener("hashchange", follow);
follow();
