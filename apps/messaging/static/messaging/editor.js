// The content editor: variables are put in at the cursor, files chosen, and what is written is drawn beside it a moment
// later. Every text comes from the page.
(() => {
  "use strict";
  const WAIT_MS = 400;
  const cookie = (name) => (document.cookie.match(new RegExp(`(?:^|; )${name}=([^;]*)`)) || [])[1] || "";
  const token = () => document.querySelector("[name=csrfmiddlewaretoken]")?.value || cookie("csrftoken");

  const setUp = (root) => {
    if (root.dataset.ready) return;
    root.dataset.ready = "1";
    const find = (selector, within = root) => within.querySelector(selector);
    const all = (selector, within = root) => [...within.querySelectorAll(selector)];
    const form = root.closest("form");
    const place = find("[data-preview]");
    const person = find("[data-person]");
    const copyOf = (name) => find(`template[data-template="${name}"]`).content.firstElementChild.cloneNode(true);
    const application = () => root.dataset.application || form?.elements.application?.value || "";
    let last = find("[data-insert-here]");

    // --- The preview -------------------------------------------------------------------------------------------
    let timer, asking;
    const ask = async () => {
      asking?.abort();
      asking = new AbortController();
      if (!application()) return;
      const body = new URLSearchParams();
      for (const input of all("input[name], textarea[name], select[name]")) {
        if (input.type === "file" || (input.type === "checkbox" && !input.checked)) continue;
        body.append(input.name, input.value);
      }
      const variables = root.dataset.variablesName && form?.elements[root.dataset.variablesName];
      const said = {
        application: application(),
        channel: root.dataset.channel,
        prefix: root.dataset.prefix,
        person: person.value,
        "external-id": find("[data-external-id]").value,
        language: root.dataset.language,
        literal: root.dataset.literal || "",
        "words-only": root.dataset.wordsOnly || "",
        options: root.dataset.options || "",
        variables: variables ? variables.value : "",
      };
      for (const [name, value] of Object.entries(said)) body.set(`preview-${name}`, value);
      place.setAttribute("aria-busy", "true");
      try {
        const answer = await fetch(root.dataset.previewUrl, { method: "POST", headers: { "X-CSRFToken": token() }, body, signal: asking.signal });
        if (!answer.ok) return place.removeAttribute("aria-busy");
        const isNarrow = Boolean(find("[data-narrow]:checked", place));
        const drawn = find("[data-drawn]", place);
        place.innerHTML = await answer.text();
        if (drawn && !find("[data-drawn]", place)) { // what cannot be drawn now: as it was, and paler
          drawn.classList.add("ap-stale");
          place.append(drawn);
        }
        const narrow = find("[data-narrow]", place);
        if (narrow) narrow.checked = isNarrow;
      } catch (error) {
        if (error.name === "AbortError") return; // another one is asked for
        place.removeAttribute("aria-busy");
        throw error;
      }
      place.removeAttribute("aria-busy");
    };
    const changed = () => {
      clearTimeout(timer);
      timer = setTimeout(ask, WAIT_MS);
    };

    // --- Putting things in -------------------------------------------------------------------------------------
    const tell = (input) => {
      input.dispatchEvent(new Event("input", { bubbles: true }));
      input.dispatchEvent(new Event("change", { bubbles: true }));
    };
    const insert = (text) => {
      const input = last && root.contains(last) ? last : find("[data-insert-here]");
      if (!input) return;
      input.focus();
      input.setRangeText(text, input.selectionStart ?? input.value.length, input.selectionEnd ?? input.value.length, "end");
      tell(input);
    };
    const begin = (button) => {
      const area = find("[data-html]");
      const starters = JSON.parse(document.getElementById("ae-starters").textContent);
      const html = starters[Number(button.dataset.starter)].html;
      const isOwn = area.value.trim() && !starters.some((starter) => starter.html.trim() === area.value.trim());
      const label = find("[data-label]", button);
      if (isOwn && !button.dataset.sure) {
        button.dataset.sure = label.textContent;
        label.textContent = find("[data-starters]").dataset.replaceLabel;
        setTimeout(() => { if (button.dataset.sure) { label.textContent = button.dataset.sure; delete button.dataset.sure; } }, 4000);
        return;
      }
      if (button.dataset.sure) { label.textContent = button.dataset.sure; delete button.dataset.sure; }
      area.value = html;
      tell(area);
    };
    const choose = (button) => {
      const input = find("[data-media]", button.closest(".as-field"));
      if (input.dataset.media === "attachment") {
        const ids = input.value.split(/[,\s]+/).filter(Boolean);
        if (!ids.includes(button.dataset.choose)) ids.push(button.dataset.choose);
        input.value = ids.join(", ");
      } else {
        input.value = button.dataset.choose;
        button.closest("details").open = false;
      }
      tell(input);
    };
    root.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      if (button.dataset.insert !== undefined) insert(`{{ ${button.dataset.insert} }}`);
      else if (button.dataset.starter !== undefined) begin(button);
      else if (button.dataset.choose !== undefined) choose(button);
    });
    root.addEventListener("focusin", (event) => { if (event.target.matches("[data-insert-here]")) last = event.target; });
    root.addEventListener("input", (event) => {
      if (event.target.closest("[data-preview]")) return;
      if (event.target === person) find("[data-external]").hidden = person.value !== "user";
      if (event.target.matches("[data-kakao-code]")) drawVariables();
      if (event.target.matches("[data-kakao-value]")) keepVariables();
      changed();
    });
    form?.addEventListener("input", (event) => { if (event.target.name && event.target.name === root.dataset.variablesName) changed(); });

    // --- Alimtalk: a field for each variable of the chosen template --------------------------------------------
    const kakao = () => JSON.parse(document.getElementById("ae-kakao")?.textContent || "[]");
    const given = (area) => { try { return JSON.parse(area.value || "{}"); } catch { return null; } };
    // The code is chosen by the template's name; one that is not offered (any more) stays.
    const offerTemplates = () => {
      const input = find("[data-kakao-code]");
      const known = document.getElementById("ae-kakao-codes");
      if (!input || !known) return;
      find("[data-kakao-choice]")?.remove();
      const select = document.createElement("select");
      select.className = "as-input";
      select.dataset.kakaoChoice = "";
      select.setAttribute("aria-label", input.labels[0]?.textContent.trim() || "");
      select.add(new Option("–", ""));
      for (const option of known.options) select.add(new Option(`${option.textContent} · ${option.value}`, option.value));
      if (input.value && ![...select.options].some((option) => option.value === input.value)) select.add(new Option(input.value, input.value));
      select.value = input.value;
      select.addEventListener("change", () => { input.value = select.value; tell(input); });
      input.hidden = true;
      input.after(select);
    };
    const drawVariables = () => {
      const holder = find("[data-kakao]");
      const area = holder && find("textarea", holder);
      const values = area && given(area);
      if (!values) return;
      for (const old of all("[data-kakao-value]", holder)) old.closest("label").remove();
      const chosen = kakao().find((item) => item.code === find("[data-kakao-code]").value);
      const names = [...new Set([...(chosen?.names || []), ...Object.keys(values)])];
      for (const name of names) {
        if (typeof (values[name] ?? "") === "object") continue;
        const field = copyOf("variable");
        find("span", field).textContent = name;
        const input = find("input", field);
        input.dataset.kakaoValue = name;
        input.value = values[name] ?? "";
        area.before(field);
      }
      area.hidden = names.length > 0;
      keepVariables();
    };
    const keepVariables = () => {
      const holder = find("[data-kakao]");
      const area = find("textarea", holder);
      const values = given(area) || {};
      for (const input of all("[data-kakao-value]", holder)) {
        if (input.value) values[input.dataset.kakaoValue] = input.value;
        else delete values[input.dataset.kakaoValue];
      }
      area.value = JSON.stringify(values);
    };

    // --- What the application has --------------------------------------------------------------------------------
    const learn = async () => {
      if (!application()) return;
      const asked = new URLSearchParams({ application: application(), channel: root.dataset.channel });
      const answer = await fetch(`${root.dataset.offersUrl}?${asked}`);
      if (!answer.ok) return;
      const offers = find("[data-offers]");
      offers.innerHTML = await answer.text();
      const variables = find("[data-variables]");
      if (variables) {
        find("[data-variables-list]").replaceChildren(...find('[data-offered="variables"]', offers).children);
        variables.hidden = false;
      }
      for (const input of all("[data-media]")) {
        const field = input.closest(".as-field");
        const picker = find(".ae-picker", field) || copyOf("picker");
        const files = find("[data-files]", picker);
        files.replaceChildren(...[...find(`[data-offered="${input.dataset.media}"]`, offers).children].map((child) => child.cloneNode(true)));
        input.after(picker);
      }
      const real = find("[data-real]");
      real.hidden = real.disabled = !find("[data-may-see-users]", offers);
      offerTemplates();
      drawVariables();
    };
    form?.addEventListener("change", (event) => {
      if (event.target.name === "application") { learn(); ask(); }
    });
    learn();
    ask();
  };

  const look = (within) => { for (const root of within.querySelectorAll("[data-editor]")) setUp(root); };
  document.addEventListener("DOMContentLoaded", () => look(document));
  document.addEventListener("htmx:load", (event) => look(event.target));
  if (document.readyState !== "loading") look(document);
})();
