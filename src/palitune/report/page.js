"use strict";
// A click on a picture gives its card the whole width, and back.
for (const picture of document.querySelectorAll(".pictures img")) {
  picture.classList.add("enlarges");
  picture.addEventListener("click", () => picture.closest(".card").classList.toggle("large"));
}

// Shows only the cards that match the filter; without JavaScript all are shown.
const form = document.getElementById("filter");
if (form) {
  const cards = [...document.querySelectorAll("article.card")];
  const apply = () => {
    const { part, grade, text } = form.elements;
    const wanted = text.value.toLowerCase();
    for (const card of cards) {
      card.hidden =
        (part.value !== "" && card.dataset.part !== part.value) ||
        (grade.value !== "" && card.dataset.grade !== grade.value) ||
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
