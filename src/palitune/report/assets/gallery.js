"use strict";
// A picture is a button: it gives its card the whole width, and back.
for (const picture of document.querySelectorAll(".picture")) {
  picture.addEventListener("click", () => {
    const large = picture.closest(".card").classList.toggle("large");
    picture.setAttribute("aria-pressed", String(large));
  });
}

// Shows only the cards that match the filter; without JavaScript all are shown.
const form = document.getElementById("filter");
if (form) {
  const cards = [...document.querySelectorAll("article.card")];
  const apply = () => {
    const { kind, label, text } = form.elements;
    const wanted = text.value.toLowerCase();
    for (const card of cards) {
      card.hidden =
        (kind.value !== "" && card.dataset.kind !== kind.value) ||
        (label && label.value !== "" && !JSON.parse(card.dataset.labels).includes(label.value)) ||
        !card.textContent.toLowerCase().includes(wanted);
    }
    for (const group of document.querySelectorAll(".cards")) {
      group.classList.toggle("none", [...group.children].every((card) => card.hidden));
    }
    form.elements.count.value = `${cards.filter((card) => !card.hidden).length} of ${cards.length}`;
  };
  form.hidden = false;
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  apply();
}
