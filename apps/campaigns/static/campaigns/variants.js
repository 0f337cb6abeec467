// Shares of variants: a slider beside each number, and what they are together. Without a script the numbers do.
document.addEventListener("DOMContentLoaded", () => {
  "use strict";

  const form = document.querySelector("[data-shares]");
  if (!form) return;
  const numbers = [...form.querySelectorAll("[data-share]")];
  const note = form.querySelector("[data-sum]");

  const tell = () => {
    const sum = numbers.reduce((whole, input) => whole + (Number.parseInt(input.value, 10) || 0), 0);
    const isGood = sum === 100;
    note.textContent = isGood ? note.dataset.good : note.dataset.bad.replace("SUM", String(sum));
    note.classList.toggle("cv-is-bad", !isGood);
  };

  // Of two variants the other takes what is left; of more, each is set by itself.
  const balance = (changed) => {
    const value = Number.parseInt(changed.value, 10);
    if (numbers.length !== 2 || !(value >= 1 && value <= 99)) return;
    const other = numbers.find((input) => input !== changed);
    other.value = String(100 - value);
  };

  const slide = () => {
    for (const slider of form.querySelectorAll("[data-slider-of]")) {
      slider.value = document.getElementById(slider.dataset.sliderOf).value;
    }
  };

  form.addEventListener("input", (event) => {
    const of = event.target.dataset.sliderOf;
    const changed = of ? document.getElementById(of) : event.target;
    if (!numbers.includes(changed)) return;
    if (of) changed.value = event.target.value;
    balance(changed);
    slide();
    tell();
  });

  tell();
});
