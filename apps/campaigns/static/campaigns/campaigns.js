// The guided flow of campaigns. Behaviour hangs on `data-` attributes; without a script every field is shown.
(() => {
  "use strict";

  // <fieldset data-shows="whom">: shows what stands under data-shown-for="whom:<value> …", and hides the rest of it.
  const chosen = (group) => group.querySelector("input:checked")?.value || "";
  const show = (group) => {
    const name = group.dataset.shows;
    for (const place of document.querySelectorAll(`[data-shown-for~="${name}:${chosen(group)}"]`)) place.hidden = false;
    for (const place of document.querySelectorAll(`[data-shown-for*="${name}:"]`)) {
      if (!place.matches(`[data-shown-for~="${name}:${chosen(group)}"]`)) place.hidden = true;
    }
  };
  const showAll = () => document.querySelectorAll("[data-shows]").forEach(show);
  document.addEventListener("change", (event) => {
    const group = event.target.closest("[data-shows]");
    if (group) show(group);
  });

  // <form data-once>: its button works once, so that a double click does nothing twice.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.matches("[data-once]")) return;
    if (form.dataset.sent) {
      event.preventDefault();
      return;
    }
    form.dataset.sent = "1";
    for (const button of form.querySelectorAll("button[type=submit]")) button.setAttribute("aria-disabled", "true");
  });
  window.addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("[data-sent]")) {
      delete form.dataset.sent;
      for (const button of form.querySelectorAll("button")) button.removeAttribute("aria-disabled");
    }
  });

  showAll();
})();
