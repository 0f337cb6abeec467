// Pages of applications. Behaviour hangs on `data-` attributes; there is no text in here.
(() => {
  "use strict";

  // <button data-preset="a b">: within [data-scopes], those boxes are on and all others off.
  document.addEventListener("click", (event) => {
    const preset = event.target.closest("[data-preset]");
    if (!preset) return;
    const chosen = new Set(preset.dataset.preset.split(" "));
    for (const box of preset.closest("[data-scopes]").querySelectorAll("input[type=checkbox]")) {
      box.checked = chosen.has(box.value);
    }
  });

  // [data-tabs]: buttons with role=tab show their panel; arrow keys go from one to the next.
  const select = (tab) => {
    for (const other of tab.closest("[role=tablist]").querySelectorAll("[role=tab]")) {
      const isIt = other === tab;
      other.setAttribute("aria-selected", String(isIt));
      other.tabIndex = isIt ? 0 : -1;
      document.getElementById(other.getAttribute("aria-controls")).hidden = !isIt;
    }
  };
  document.addEventListener("click", (event) => {
    const tab = event.target.closest("[data-tabs] [role=tab]");
    if (tab) select(tab);
  });
  document.addEventListener("keydown", (event) => {
    const tab = event.target.closest("[data-tabs] [role=tab]");
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!tab || !step) return;
    const tabs = [...tab.closest("[role=tablist]").querySelectorAll("[role=tab]")];
    const next = tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length];
    select(next);
    next.focus();
  });

  const ready = () => {
    // A key that is shown once stands in the page once; examples are filled in here.
    for (const place of document.querySelectorAll("[data-key-from]")) {
      const key = document.querySelector(place.dataset.keyFrom).textContent.trim();
      place.textContent = place.textContent.replaceAll(place.dataset.keyPlace, key);
    }
    // Of the guides, that of the provider which is chosen.
    const provider = document.querySelector("select[name=provider]");
    const guides = document.querySelectorAll("[data-guide]");
    if (!provider || guides.length < 2) return;
    const show = () => {
      for (const guide of guides) {
        guide.hidden = Boolean(provider.value) && guide.dataset.guide !== provider.value;
        guide.open = guide.dataset.guide === provider.value;
      }
    };
    provider.addEventListener("change", show);
    show();
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", ready);
  else ready();
})();
