// What every page of the console may use. Behaviour hangs on `data-` attributes: no script stands in a page.
(() => {
  "use strict";

  // htmx: nothing is evaluated, nothing leaves this host, and the CSRF token goes with every request that changes.
  const cookie = (name) => (document.cookie.match(new RegExp(`(?:^|; )${name}=([^;]*)`)) || [])[1] || "";
  const token = () => document.querySelector("[name=csrfmiddlewaretoken]")?.value || cookie("csrftoken");
  if (window.htmx) {
    Object.assign(window.htmx.config, { allowEval: false, selfRequestsOnly: true, includeIndicatorStyles: false, historyCacheSize: 0 });
  }
  document.addEventListener("htmx:configRequest", (event) => {
    if (event.detail.verb !== "get") event.detail.headers["X-CSRFToken"] = token();
  });

  // What asks again every few seconds rests while nobody sees the page.
  document.addEventListener("htmx:beforeRequest", (event) => {
    const trigger = event.target.getAttribute("hx-trigger") || "";
    if (document.hidden && /\bevery\b/.test(trigger) && !/\bload\b/.test(trigger)) event.preventDefault();
  });

  // <button data-copy="#id">: copies a field's value or an element's text, and says so.
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const source = document.querySelector(button.dataset.copy);
    await navigator.clipboard.writeText(source.value ?? source.textContent.trim());
    button.setAttribute("data-copied", "");
    const before = button.textContent;
    if (button.dataset.copiedLabel) button.textContent = button.dataset.copiedLabel;
    setTimeout(() => { button.removeAttribute("data-copied"); if (button.dataset.copiedLabel) button.textContent = before; }, 1500);
  });

  // <select data-submit>: sends its form as soon as it is changed.
  document.addEventListener("change", (event) => {
    if (event.target.closest("[data-submit]")) event.target.form.requestSubmit();
  });

  // Where the content begins, for who jumps from part to part of a page.
  document.addEventListener("DOMContentLoaded", () => document.getElementById("content")?.setAttribute("role", "main"));

  // select2's box has no name of its own: it takes that of the field's label.
  const nameBoxes = () => {
    for (const select of document.querySelectorAll("select.select2-hidden-accessible, select.admin-autocomplete")) {
      const label = select.labels?.[0]?.textContent.trim().replace(/\s*\*$/, "") || select.getAttribute("aria-label");
      const box = select.nextElementSibling?.querySelector("[role=combobox]");
      if (!box || !label) continue;
      box.setAttribute("aria-label", label);
      box.removeAttribute("aria-labelledby");
      box.querySelector("[role=textbox]")?.setAttribute("aria-label", label);
    }
  };
  window.addEventListener("load", () => setTimeout(nameBoxes, 0));
  document.addEventListener("formset:added", () => setTimeout(nameBoxes, 0));
})();
