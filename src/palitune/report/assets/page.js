"use strict";
// Without JavaScript all cards are visible. With it they are filtered, sorted and paged.
const PAGE_SIZE = 24;
const form = document.getElementById("filter");

for (const button of document.querySelectorAll(".enlarge")) {
  const card = button.closest(".card");
  const toggle = () => button.setAttribute("aria-pressed", card.classList.toggle("large"));
  button.hidden = card.querySelector("img") === null;
  button.addEventListener("click", toggle);
  card.querySelector(".pictures")?.addEventListener("click", toggle);
}

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
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  // The browser clears the fields after this event.
  form.addEventListener("reset", () => setTimeout(() => choose("")));
  choose(buttons.some((button) => button.dataset.gallery === "sample") ? "sample" : "");
}
