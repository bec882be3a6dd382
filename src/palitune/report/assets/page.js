"use strict";
// Without JavaScript all cards are visible. With it they are filtered, sorted and paged.
const PAGE_SIZE = 24;
// Pixels left and right of the plot area, as in the module that draws it.
const [LEFT, RIGHT] = [62, 10];
const form = document.getElementById("filter");

// The enlarged card shows the original file, if the browser can open it.
const setLarge = (card, large) => {
  card.classList.toggle("large", large);
  card.querySelector(".enlarge").setAttribute("aria-pressed", large);
  if (!large) return;
  for (const box of card.querySelectorAll("[data-photo]")) {
    const original = new Image();
    original.onload = () => (box.querySelector("img").src = original.src);
    original.src = box.dataset.photo;
    delete box.dataset.photo;
  }
};
for (const button of document.querySelectorAll(".enlarge")) {
  const card = button.closest(".card");
  const toggle = () => setLarge(card, !card.classList.contains("large"));
  button.hidden = card.querySelector("img") === null;
  card.classList.toggle("has-enlarge", !button.hidden);
  card.tabIndex = -1;
  button.addEventListener("click", toggle);
  card.querySelector(".pictures")?.addEventListener("click", toggle);
}

// Arrow keys go to the next or the previous card; an enlarged card stays enlarged.
document.addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const card = document.activeElement.closest?.(".card") ?? document.querySelector(".card.large");
  if (!card || event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === "Escape" && card.classList.contains("large")) setLarge(card, false);
  if (!step || document.activeElement.matches("input, select, pre")) return;
  let next = card;
  do next = step > 0 ? next.nextElementSibling : next.previousElementSibling;
  while (next?.hidden);
  if (!next?.matches(".card")) return;
  event.preventDefault();
  if (card.classList.contains("large")) {
    setLarge(card, false);
    setLarge(next, next.classList.contains("has-enlarge"));
  }
  next.focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest" });
});

if (form) {
  const list = document.getElementById("cards");
  const more = document.getElementById("more");
  const buttons = [...form.querySelectorAll("[data-gallery]")];
  const cards = [...list.children].map((element, index) => ({
    element,
    index,
    part: element.dataset.part,
    grade: element.dataset.grade,
    score: Number(element.dataset.score),
    gain: Number(element.dataset.gain),
    labels: JSON.parse(element.dataset.labels),
    positions: JSON.parse(element.dataset.positions),
    pairs: JSON.parse(element.dataset.pairs),
    text: element.textContent.toLowerCase(),
  }));
  const firstGallery = buttons.some((button) => button.dataset.gallery === "sample")
    ? "sample"
    : "";
  let gallery = "";
  let limit = PAGE_SIZE;

  const parts = [...new Set(cards.map((card) => card.part))];
  const last = (value) => (Number.isNaN(value) ? Infinity : value);
  const orders = {
    "": (a, b) =>
      gallery &&
      (parts.indexOf(a.part) - parts.indexOf(b.part) || a.positions[gallery] - b.positions[gallery]),
    low: (a, b) => last(a.score) - last(b.score),
    high: (a, b) => last(-a.score) - last(-b.score),
    gain: (a, b) => last(-a.gain) - last(-b.gain),
    loss: (a, b) => last(a.gain) - last(b.gain),
  };

  const value = (name) => form.elements[name]?.value ?? "";
  const matches = (card) => {
    const pair = value("pair");
    const label = value("label");
    return (
      (gallery === "" || gallery in card.positions) &&
      (value("part") === "" || card.part === value("part")) &&
      (value("grade") === "" || card.grade === value("grade")) &&
      (label === "" || card.labels.includes(label)) &&
      (pair === "" || card.pairs.some((other) => JSON.stringify(other) === pair)) &&
      card.text.includes(value("text").trim().toLowerCase())
    );
  };

  const show = () => {
    const order = orders[value("sort")];
    const matching = cards.filter(matches).sort((a, b) => order(a, b) || a.index - b.index);
    const shown = new Set(matching.slice(0, limit));
    for (const card of cards) card.element.hidden = !shown.has(card);
    list.append(...matching.map((card) => card.element));
    for (const button of buttons) {
      button.setAttribute("aria-pressed", String(button.dataset.gallery === gallery));
    }
    more.hidden = matching.length <= limit;
    document.getElementById("none").hidden = matching.length > 0;
    form.elements.count.value = `${shown.size} of ${matching.length} shown`;
    saveState();
  };
  const fields = () => [...form.elements].filter((field) => field.name && field.type !== "button");
  const isDefault = (field) =>
    field.type === "checkbox"
      ? field.checked === field.defaultChecked
      : field.value === (field.tagName === "SELECT" ? "" : field.defaultValue);
  // The address holds the filter, so that a view can be sent as a link.
  const saveState = () => {
    const state = new URLSearchParams(gallery === firstGallery ? {} : { gallery });
    for (const field of fields()) {
      if (field.tagName === "OUTPUT" || field.tagName === "FIELDSET" || isDefault(field)) continue;
      state.set(field.name, field.type === "checkbox" ? Number(field.checked) : field.value);
    }
    const hash = state.size ? `#?${state}` : "";
    if (hash || location.hash.startsWith("#?")) {
      history.replaceState(null, "", hash || location.pathname + location.search);
    }
  };
  const loadState = () => {
    const state = new URLSearchParams(location.hash.startsWith("#?") ? location.hash.slice(2) : "");
    for (const field of fields()) {
      if (!state.has(field.name)) continue;
      if (field.type === "checkbox") field.checked = state.get(field.name) === "1";
      else field.value = state.get(field.name);
      if (field.tagName === "SELECT" && field.selectedIndex < 0) field.value = "";
    }
    const wanted = state.get("gallery");
    const known = wanted === "" || buttons.some((button) => button.dataset.gallery === wanted);
    return known && wanted !== null ? wanted : firstGallery;
  };

  const filter = () => {
    limit = PAGE_SIZE;
    show();
  };
  const choose = (key) => {
    gallery = key;
    filter();
  };

  const option = (select, text, value) => {
    select.add(new Option(text, value));
    select.closest("label").hidden = false;
  };
  if (parts.length > 1) for (const part of parts) option(form.elements.part, part, part);
  const labels = new Set(cards.flatMap((card) => card.labels));
  const named = [...labels].filter((label) => label !== "" && label !== "\u2026");
  for (const label of named.sort((a, b) => a.localeCompare(b, undefined, { numeric: true }))) {
    option(form.elements.label, label, label);
  }
  const listed = new Set();
  for (const button of document.querySelectorAll(".show")) {
    const pair = JSON.stringify(JSON.parse(button.dataset.pair));
    const names = [...button.closest("tr").querySelectorAll("b")].map((b) => b.textContent);
    if (!listed.has(pair)) option(form.elements.pair, names.join(" \u2192 "), pair);
    listed.add(pair);
    button.hidden = false;
    button.addEventListener("click", () => {
      form.reset();
      form.elements.part.value = button.dataset.part;
      form.elements.pair.value = pair;
      choose("");
      document.getElementById("examples-title").focus();
    });
  }

  for (const button of buttons) {
    button.addEventListener("click", () => choose(button.dataset.gallery));
  }
  more.addEventListener("click", () => {
    const first = list.children[limit];
    limit += PAGE_SIZE;
    show();
    first?.querySelector("button, summary")?.focus();
  });
  form.hidden = false;
  form.addEventListener("input", (event) =>
    drawing.contains(event.target) ? saveState() : filter(),
  );
  form.addEventListener("submit", (event) => event.preventDefault());
  // The browser clears the fields after this event.
  form.addEventListener("reset", () =>
    setTimeout(() => {
      redraw();
      choose("");
    }),
  );

  // What is drawn over the photos: layers, classes, and objects from a lowest score.
  const drawing = document.getElementById("drawing");
  const shapes = [...list.querySelectorAll(".overlay [data-label], .tag")];
  const checkbox = (name, text, checked, parent, color = "") => {
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { type: "checkbox", name });
    input.defaultChecked = checked;
    label.append(input);
    if (color) {
      label.append(document.createElement("i"));
      label.className = color;
    }
    label.append(text);
    parent.append(label);
  };
  const layerNames = new Set([...list.querySelectorAll(".overlay .layer")].map((g) => g.classList[1]));
  const colors = new Map(
    shapes.filter((shape) => shape.matches(".tag")).map((shape) => [shape.dataset.label, /\bc\d+/.exec(shape.className)?.[0]]),
  );
  const redraw = () => {
    for (const name of layerNames) {
      const shown = form.elements[`layer-${name}`].checked;
      list.classList.toggle(`hides-${name}`, !shown);
      list.classList.toggle(`shows-${name}`, shown);
    }
    const lowest = Number(form.elements.score.value);
    form.elements.lowest.value = lowest.toFixed(2);
    for (const shape of shapes) {
      const low = shape.dataset.score !== undefined && Number(shape.dataset.score) < lowest;
      const hidden = form.elements[`class-${shape.dataset.label}`]?.checked === false;
      shape.classList.toggle("off", low || hidden);
    }
  };
  if (shapes.length) {
    const first = drawing.querySelector("label");
    for (const name of layerNames) checkbox(`layer-${name}`, name, name !== "before", drawing);
    drawing.append(first, drawing.querySelector("details"));
    first.hidden = !shapes.some((shape) => shape.dataset.score !== undefined);
    const classes = drawing.querySelector("details");
    classes.hidden = colors.size < 2 || colors.size > 200;
    if (!classes.hidden) {
      for (const label of [...colors.keys()].sort()) {
        checkbox(`class-${label}`, label || "(no label)", true, classes, colors.get(label));
      }
    }
    drawing.hidden = false;
    drawing.addEventListener("input", redraw);
  }
  const startGallery = loadState();
  if (shapes.length) redraw();
  choose(startGallery);
}

// Charts: values below the pointer, and downloads as PNG and CSV.
const download = (name, address) =>
  Object.assign(document.createElement("a"), { download: name, href: address }).click();
const STYLES = [
  ..."fill stroke stroke-width stroke-dasharray stroke-linecap opacity font-size".split(" "),
  ..."font-family text-anchor".split(" "),
];
const toPng = (svg, name) => {
  const copy = svg.cloneNode(true);
  const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
  const elements = [svg, ...svg.querySelectorAll("*")];
  [copy, ...copy.querySelectorAll("*")].forEach((element, index) => {
    const style = getComputedStyle(elements[index]);
    for (const key of STYLES) element.style.setProperty(key, style.getPropertyValue(key));
  });
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("width", 3 * width);
  copy.setAttribute("height", 3 * height);
  const image = new Image();
  image.onload = () => {
    const canvas = Object.assign(document.createElement("canvas"), {
      width: 3 * width,
      height: 3 * height,
    });
    const context = canvas.getContext("2d");
    context.fillStyle = getComputedStyle(svg.closest("figure")).backgroundColor;
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(image, 0, 0);
    download(`${name}.png`, canvas.toDataURL("image/png"));
  };
  const text = new XMLSerializer().serializeToString(copy);
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
};
for (const figure of document.querySelectorAll("figure.chart")) {
  const svg = figure.querySelector("svg");
  const name = figure.querySelector("strong").textContent.trim().replace(/[^\w.-]+/g, "_");
  const buttons = figure.querySelector(".downloads");
  const add = (text, act) => {
    const button = Object.assign(document.createElement("button"), { type: "button" });
    button.textContent = text;
    button.setAttribute("aria-label", `${name} as ${text}`);
    button.addEventListener("click", act);
    buttons.append(button);
    buttons.hidden = false;
  };
  if (svg) add("PNG", () => toPng(svg, name));
  const csv = figure.dataset.csv;
  if (!csv) continue;
  add("CSV", () => download(`${name}.csv`, `data:text/csv;charset=utf-8,${encodeURIComponent(csv)}`));
  const [header, ...rows] = csv.trim().split("\n").map((line) => line.split(","));
  const xs = rows.map((row) => Number(row[0]));
  const [low, high] = [Number(svg.dataset.low), Number(svg.dataset.high)];
  const cursor = document.createElementNS("http://www.w3.org/2000/svg", "path");
  cursor.setAttribute("class", "cursor");
  svg.append(cursor);
  const nearest = (x, column) => {
    let best = -1;
    for (let i = 0; i < rows.length; i += 1) {
      if (rows[i][column] === "") continue;
      if (best < 0 || Math.abs(xs[i] - x) < Math.abs(xs[best] - x)) best = i;
    }
    return best;
  };
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
    const share = (((event.clientX - box.left) / box.width) * width - LEFT) / (width - LEFT - RIGHT);
    const row = nearest(low + Math.min(1, Math.max(0, share)) * (high - low), 0);
    if (row < 0) return;
    const position = high > low ? (xs[row] - low) / (high - low) : 0.5;
    cursor.setAttribute("d", `M${LEFT + position * (width - LEFT - RIGHT)} 0V${height}`);
    const values = header.slice(1).map((line, index) => {
      const at = nearest(xs[row], index + 1);
      return at < 0 ? "" : `${line} ${rows[at][index + 1]}`;
    });
    figure.querySelector(".readout").textContent =
      `${header[0]} ${rows[row][0]}: ${values.filter(Boolean).join(", ")}`;
  });
  svg.addEventListener("pointerleave", () => {
    cursor.removeAttribute("d");
    figure.querySelector(".readout").textContent = "";
  });
}
