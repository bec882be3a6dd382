"use strict";
// Without JavaScript every card is shown; with it they are filtered, sorted, and shown by and by.
const AT_ONCE = 24;
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
    good: Number(element.dataset.good),
    gain: Number(element.dataset.gain),
    places: JSON.parse(element.dataset.places),
    pairs: JSON.parse(element.dataset.pairs),
    text: element.textContent.toLowerCase(),
  }));
  let gallery = "";
  let limit = AT_ONCE;

  const parts = [...new Set(cards.map((card) => card.part))];
  const last = (value) => (Number.isNaN(value) ? Infinity : value);
  const orders = {
    "": (a, b) =>
      gallery &&
      (parts.indexOf(a.part) - parts.indexOf(b.part) || a.places[gallery] - b.places[gallery]),
    low: (a, b) => last(a.good) - last(b.good),
    high: (a, b) => last(-a.good) - last(-b.good),
    gain: (a, b) => last(-a.gain) - last(-b.gain),
    loss: (a, b) => last(a.gain) - last(b.gain),
  };

  const value = (name) => form.elements[name]?.value ?? "";
  const matches = (card) => {
    const pair = value("pair");
    const label = value("label");
    return (
      (gallery === "" || gallery in card.places) &&
      (value("part") === "" || card.part === value("part")) &&
      (value("grade") === "" || card.grade === value("grade")) &&
      (label === "" || card.pairs.some((both) => both.includes(label))) &&
      (pair === "" || card.pairs.some((both) => JSON.stringify(both) === pair)) &&
      card.text.includes(value("text").trim().toLowerCase())
    );
  };

  const show = () => {
    const order = orders[value("sort")];
    const found = cards.filter(matches).sort((a, b) => order(a, b) || a.index - b.index);
    const shown = new Set(found.slice(0, limit));
    for (const card of cards) card.element.hidden = !shown.has(card);
    list.append(...found.map((card) => card.element));
    for (const button of buttons) {
      button.setAttribute("aria-pressed", String(button.dataset.gallery === gallery));
    }
    more.hidden = found.length <= limit;
    document.getElementById("none").hidden = found.length > 0;
    form.elements.count.value = `${shown.size} of ${found.length} shown`;
  };
  const filter = () => {
    limit = AT_ONCE;
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
  const labels = new Set(cards.flatMap((card) => card.pairs.flat()));
  const named = [...labels].filter((label) => label !== "" && label !== "\u2026");
  for (const label of named.sort((a, b) => a.localeCompare(b, undefined, { numeric: true }))) {
    option(form.elements.label, label, label);
  }
  const known = new Set();
  for (const button of document.querySelectorAll(".show")) {
    const pair = JSON.stringify(JSON.parse(button.dataset.pair));
    const names = [...button.closest("tr").querySelectorAll("b")].map((b) => b.textContent);
    if (!known.has(pair)) option(form.elements.pair, names.join(" \u2192 "), pair);
    known.add(pair);
    button.hidden = false;
    button.addEventListener("click", () => {
      form.reset();
      if (form.elements.part) form.elements.part.value = button.dataset.part;
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
    limit += AT_ONCE;
    show();
    first?.querySelector("button, summary")?.focus();
  });
  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  // The fields are cleared after this event.
  form.addEventListener("reset", () => setTimeout(() => choose("")));
  choose(buttons.some((button) => button.dataset.gallery === "sample") ? "sample" : "");
}
