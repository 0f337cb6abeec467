// The segment builder: what is clicked together in rows is written as JSON into the field's text area. Every text comes
// from the page; the JSON is put together as text, so that what nobody touched is sent back to the letter.
(() => {
  "use strict";
  const WAIT_MS = 450;
  const cookie = (name) => (document.cookie.match(new RegExp(`(?:^|; )${name}=([^;]*)`)) || [])[1] || "";
  const token = () => document.querySelector("[name=csrfmiddlewaretoken]")?.value || cookie("csrftoken");
  const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?$/;

  const setUp = (root) => {
    if (root.dataset.ready) return;
    root.dataset.ready = "1";
    const find = (selector, within = root) => within.querySelector(selector);
    const all = (selector, within = root) => [...within.querySelectorAll(selector)];
    const facts = JSON.parse(document.getElementById(find("[data-facts]").dataset.facts).textContent);
    const area = find("[data-criteria]");
    const side = find("[data-audience-preview]");
    const conditions = find("[data-conditions]");
    const form = root.closest("form");
    const copyOf = (name) => find(`template[data-template="${name}"]`).content.firstElementChild.cloneNode(true);
    const top = () => find("[data-node=group]", conditions);
    const application = () => root.dataset.application || form?.elements.application?.value || "";
    const channel = () => root.dataset.channel || form?.elements.channel_type?.value || "";

    // --- Dates, in the zone that the page names ---------------------------------------------------------------
    const offsetAt = (moment) => {
      const parts = new Intl.DateTimeFormat("en", { timeZone: root.dataset.zone, timeZoneName: "longOffset" }).formatToParts(moment);
      const text = parts.find((part) => part.type === "timeZoneName").value.replace("GMT", "");
      return text || "+00:00";
    };
    const minutesOf = (offset) => (offset[0] === "-" ? -1 : 1) * (Number(offset.slice(1, 3)) * 60 + Number(offset.slice(4, 6)));
    const withZone = (local) => {
      if (!local) return "";
      const asUtc = new Date(`${local}Z`);
      let offset = offsetAt(asUtc);
      offset = offsetAt(new Date(asUtc - minutesOf(offset) * 60000));
      return `${local.length === 16 ? `${local}:00` : local}${offset}`;
    };
    const withoutZone = (text) => {
      const moment = new Date(text);
      if (!text || Number.isNaN(moment.getTime())) return "";
      return new Date(moment.getTime() + minutesOf(offsetAt(moment)) * 60000).toISOString().slice(0, 16);
    };

    // --- Rows to JSON ------------------------------------------------------------------------------------------
    const number = (text) => (NUMBER.test(text.trim()) ? text.trim() : JSON.stringify(text));
    const typed = (type, text) => (type === "number" ? number(text) : JSON.stringify(text));
    const valueText = (place) => {
      const inputs = all("[data-value]", place);
      const value = inputs[0]?.value ?? "";
      const items = () => `[${all("[data-item]", place).map((item) => item.dataset.item).join(", ")}]`;
      switch (place.dataset.input) {
        case "number": return number(value);
        case "two-text": return JSON.stringify(inputs.map((input) => input.value));
        case "two-number": return `[${inputs.map((input) => number(input.value)).join(", ")}]`;
        case "choice": return value;
        case "choices": return `[${inputs.filter((input) => input.checked).map((input) => input.value).join(", ")}]`;
        case "age": return JSON.stringify(`${value}${find("[data-unit]", place).value}`);
        case "moment": return JSON.stringify(withZone(value));
        case "two-moment": return JSON.stringify(inputs.map((input) => withZone(input.value)));
        case "list": case "typed-list": return items();
        case "typed": {
          const type = find("[data-type]", place).value;
          return type === "boolean" ? find("[data-flag]", place).value : typed(type, value);
        }
        default: return JSON.stringify(value);
      }
    };
    const rowText = (row, path) => {
      row.dataset.path = path;
      if (row.dataset.original) return row.dataset.original;
      const name = find("[data-part=field]", row).value;
      const op = find("[data-part=op]", row).value;
      const place = find("[data-input]", row);
      if (!name) return '{"field": ""}';
      if (name === "segment") {
        const node = `{"segment": ${JSON.stringify(find("[data-value]", place)?.value ?? "")}}`;
        return op === "ne" ? `{"not": ${node}}` : node;
      }
      const field = JSON.stringify(name.endsWith(".") ? name + find("[data-part=key]", row).value.trim() : name);
      const value = place.dataset.input === "none" ? "" : `, "value": ${valueText(place)}`;
      return `{"field": ${field}, "op": ${JSON.stringify(op)}${value}}`;
    };
    const nodesOf = (group) => [...find("[data-children]", group).children].filter((child) => child.dataset.node);
    const join = (path, key) => (path ? `${path}.${key}` : key);
    const nodeText = (node, path) => (node.dataset.node === "group" ? groupText(node, path) : rowText(node, path));
    const groupText = (group, path) => {
      group.dataset.path = path;
      const mode = find("[data-part=mode]", group).value;
      const nodes = nodesOf(group);
      const isNot = mode === "none" || mode === "notall";
      if (group.hasAttribute("data-bare") && nodes.length === 1 && (mode === "all" || mode === "none")) {
        return mode === "all" ? nodeText(nodes[0], path) : `{"not": ${nodeText(nodes[0], join(path, "not"))}}`;
      }
      const word = mode === "any" || mode === "none" ? "any" : "all";
      const place = join(isNot ? join(path, "not") : path, word);
      const listed = `{"${word}": [${nodes.map((node, index) => nodeText(node, `${place}[${index}]`)).join(", ")}]}`;
      return isNot ? `{"not": ${listed}}` : listed;
    };
    const isEverybody = () => find("[data-who]:checked")?.value === "everybody";
    const write = () => {
      if (root.dataset.byHand) return;
      area.value = isEverybody() ? "{}" : nodesOf(top()).length ? groupText(top(), "") : "";
    };

    // --- What it means, asked for a moment after the last change -----------------------------------------------
    let timer, asking;
    const ask = async () => {
      asking?.abort();
      asking = new AbortController();
      if (!application()) return;
      side.setAttribute("aria-busy", "true");
      try {
        const answer = await fetch(root.dataset.previewUrl, {
          method: "POST",
          headers: { "X-CSRFToken": token() },
          body: new URLSearchParams({ application: application(), channel: channel(), criteria: area.value }),
          signal: asking.signal,
        });
        if (!answer.ok) return;
        side.innerHTML = await answer.text();
        side.hidden = false;
        side.removeAttribute("aria-busy");
        mark();
      } catch (error) {
        if (error.name !== "AbortError") throw error;
      }
    };
    const mark = () => {
      for (const note of all("[data-error]")) note.hidden = true;
      for (const node of all("[data-node].ab-wrong")) node.classList.remove("ab-wrong");
      const problem = find("[data-problem]", side);
      if (!problem || root.dataset.byHand) return;
      const path = problem.dataset.path;
      const holds = (node) => path === node.dataset.path || path.startsWith(`${node.dataset.path}.`) || path.startsWith(`${node.dataset.path}[`) || !node.dataset.path;
      const nodes = all("[data-node]", conditions).filter((node) => node.dataset.path !== undefined && holds(node));
      const node = nodes.sort((one, other) => other.dataset.path.length - one.dataset.path.length || (one.dataset.node === "row" ? -1 : 1))[0];
      if (!node) return;
      const note = find(":scope > [data-error]", node);
      node.classList.add("ab-wrong");
      note.textContent = problem.dataset.problem;
      note.hidden = false;
    };
    const changed = () => {
      write();
      clearTimeout(timer);
      timer = setTimeout(ask, WAIT_MS);
    };
    const touched = (element) => {
      const row = element.closest("[data-node=row]");
      if (row) row.dataset.original = "";
    };

    // --- Drawing -----------------------------------------------------------------------------------------------
    const offer = (row) => {
      const [kind, offers] = facts.fields[find("[data-part=field]", row).value] || [];
      const key = find("[data-part=key]", row)?.value.trim();
      const own = kind === "json" && offers === "tags" ? all("[data-tag-values]").find((list) => list.dataset.tagValues === key)?.id : "";
      const name = kind === "json" ? own || "" : `known-${offers}`;
      for (const input of all(".ab-value input[type=text]", row)) name ? input.setAttribute("list", name) : input.removeAttribute("list");
      for (const select of all("[data-segments]", row)) {
        for (const known of all("#known-segments option")) {
          const same = [...select.options].find((option) => option.value === known.value);
          if (same) same.textContent = known.textContent;
          else select.add(new Option(known.textContent, known.value));
        }
      }
    };
    const showTyped = (place) => {
      const holder = find("[data-typed]", place);
      if (holder) holder.dataset.typed = find("[data-type]", holder).value;
    };
    const drawValue = (row) => {
      const name = find("[data-part=field]", row).value;
      const [kind, , , choices] = facts.fields[name];
      const input = facts.kinds[kind].find((entry) => entry[0] === find("[data-part=op]", row).value)[2];
      const place = find("[data-input]", row);
      if (place.dataset.input === input && place.dataset.field === name) return;
      const before = find("input[data-value]", place)?.value;
      place.dataset.input = input;
      place.dataset.field = name;
      place.replaceChildren(...(input === "none" ? [] : copyOf(`input-${input}`).childNodes));
      const select = input === "choice" && find("select[data-value]", place);
      if (select) for (const [value, label] of choices) select.add(new Option(label, value));
      const checks = find("[data-checks]", place);
      if (checks) for (const [value, label] of choices) {
        const check = copyOf("check");
        find("input", check).value = value;
        find("span", check).textContent = label;
        checks.append(check);
      }
      const fresh = find("input[type=text][data-value]", place);
      if (fresh && before) fresh.value = before;
      showTyped(place);
      offer(row);
    };
    const drawField = (row) => {
      const name = find("[data-part=field]", row).value;
      const key = find("[data-part=key]", row);
      const op = find("[data-part=op]", row);
      const place = find("[data-input]", row);
      key.hidden = !name.endsWith(".");
      op.hidden = !name;
      if (!name) {
        place.dataset.input = "none";
        place.replaceChildren();
        return;
      }
      const [kind, offers, keyLabel] = facts.fields[name];
      const before = op.value;
      op.replaceChildren(...facts.kinds[kind].map(([value, label]) => new Option(label, value)));
      if (facts.kinds[kind].some((entry) => entry[0] === before)) op.value = before;
      key.setAttribute("list", `known-${offers}`);
      if (keyLabel) {
        key.setAttribute("aria-label", keyLabel);
        key.placeholder = keyLabel;
      }
      place.dataset.field = "";
      drawValue(row);
    };
    const addItem = (input) => {
      const place = input.closest("[data-input]");
      const type = find("[data-type]", place)?.value || "text";
      for (const text of input.value.split(/[\n\t]/).map((part) => part.trim()).filter(Boolean)) {
        const json = typed(type, text);
        if (all("[data-item]", place).some((item) => item.dataset.item === json)) continue;
        const chip = copyOf("chip");
        const known = input.list && [...input.list.options].find((option) => option.value === text && option.textContent);
        chip.dataset.item = json;
        find("span", chip).textContent = known ? known.textContent : text;
        const button = find("button", chip);
        button.setAttribute("aria-label", `${button.getAttribute("aria-label").trim()} ${text}`);
        input.before(chip);
      }
      input.value = "";
      touched(input);
      changed();
    };
    const depthOf = (group) => { let depth = 0; for (let at = group; at && root.contains(at); at = at.parentElement.closest("[data-node=group]")) depth += 1; return depth; };

    const actions = {
      "add-row": (button) => {
        const row = copyOf("row");
        find("[data-children]", button.closest("[data-node=group]")).append(row);
        find("[data-part=field]", row).focus();
      },
      "add-group": (button) => {
        const parent = button.closest("[data-node=group]");
        const group = copyOf("group");
        if (find("[data-part=mode]", parent).value === "all") find("[data-part=mode]", group).value = "any";
        find("[data-children]", parent).append(group);
        find("[data-children]", group).append(copyOf("row"));
        if (depthOf(group) >= 4) find("[data-do=add-group]", group).hidden = true;
        find("[data-part=field]", group).focus();
      },
      duplicate: (button) => {
        const node = button.closest("[data-node]");
        const copy = node.cloneNode(true);
        const values = all("input, select", node);
        all("input, select", copy).forEach((input, index) => { input.value = values[index].value; });
        node.after(copy);
        find("[data-part=field], [data-part=mode], button", copy)?.focus();
      },
      remove: (button) => {
        const node = button.closest("[data-node]");
        const group = node.parentElement.closest("[data-node=group]");
        const next = node.nextElementSibling || node.previousElementSibling;
        node.remove();
        (next ? find("[data-do=remove]", next) : find(":scope > .ab-add [data-do=add-row]", group))?.focus();
      },
      "remove-item": (button) => {
        const input = find("[data-add]", button.closest("[data-list]"));
        touched(button);
        button.closest("[data-item]").remove();
        input.focus();
      },
    };

    // --- Events ------------------------------------------------------------------------------------------------
    root.addEventListener("click", (event) => {
      const button = event.target.closest("[data-do]");
      if (!button || !root.contains(button)) return;
      actions[button.dataset.do](button);
      changed();
    });
    root.addEventListener("input", (event) => {
      const target = event.target;
      if (target === area) {
        root.dataset.byHand = "1";
        conditions.hidden = true;
        find("[data-by-hand]").hidden = false;
      } else if (target.matches("[data-who]")) {
        conditions.hidden = isEverybody();
      } else if (!target.matches("[data-add]")) {
        touched(target);
        const row = target.closest("[data-node=row]");
        if (target.matches("[data-part=field]")) drawField(row);
        else if (target.matches("[data-part=op]")) drawValue(row);
        else if (target.matches("[data-type]")) showTyped(target.closest("[data-input]"));
        else if (target.matches("[data-part=key]")) offer(row);
      } else if (target.list && [...target.list.options].some((option) => option.value === target.value) && event.inputType !== "insertText") {
        addItem(target); // chosen from the list
        return;
      } else return;
      changed();
    });
    root.addEventListener("keydown", (event) => {
      const input = event.target.closest("[data-add]");
      if (event.key === "Enter" && event.target.matches("input:not([type=checkbox])")) event.preventDefault();
      if (!input) return;
      if (event.key === "Enter") addItem(input);
      else if (event.key === "Backspace" && !input.value) {
        const chips = all("[data-item]", input.closest("[data-list]"));
        if (!chips.length) return;
        chips.at(-1).remove();
        touched(input);
        changed();
      }
    });
    root.addEventListener("focusout", (event) => {
      if (event.target.matches("[data-add]") && event.target.value.trim()) addItem(event.target);
    });
    root.addEventListener("paste", (event) => {
      const input = event.target.closest("[data-add]");
      const text = input && event.clipboardData.getData("text");
      if (!text || !/[\n\t]/.test(text)) return;
      event.preventDefault();
      input.value = "";
      const lines = { value: text };
      for (const line of lines.value.split(/[\r\n\t]+/).filter((part) => part.trim())) { input.value = line; addItem(input); }
    });

    // --- What the application has --------------------------------------------------------------------------------
    const learn = async () => {
      if (!application()) return;
      const answer = await fetch(`${root.dataset.offersUrl}?${new URLSearchParams({ application: application() })}`);
      if (!answer.ok) return;
      find("[data-offers]").innerHTML = await answer.text();
      for (const row of all("[data-node=row]", conditions)) if (find("[data-part=field]", row)) offer(row);
    };
    form?.addEventListener("change", (event) => {
      if (event.target.name === "application") { learn(); ask(); }
      if (event.target.name === "channel_type") ask();
    });

    for (const input of all("[data-moment]", conditions)) input.value = withoutZone(input.dataset.moment);
    for (const row of all("[data-node=row]", conditions)) {
      const select = find("[data-part=field]", row);
      if (select?.value) find("[data-input]", row).dataset.field = select.value;
    }
    find("[data-rows]").hidden = false;
    find("[data-json]").open = false;
    if (!area.value.trim() && !nodesOf(top()).length) find("[data-children]", top()).append(copyOf("row"));
    const before = area.value.trim();
    if (before && !isEverybody() && nodesOf(top()).length) groupText(top(), ""); // the places of the rows
    learn();
    ask();
  };

  const look = (within) => { for (const root of within.querySelectorAll("[data-audience]")) setUp(root); };
  document.addEventListener("DOMContentLoaded", () => look(document));
  document.addEventListener("htmx:load", (event) => look(event.target));
  if (document.readyState !== "loading") look(document);
})();
