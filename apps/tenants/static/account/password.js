// The link of the e-mail: what stands after `#` goes to the API, and out of the address at once.
(() => {
  "use strict";
  const form = document.querySelector("[data-password-link]");
  const status = form.querySelector("[role=status]");
  const link = new URLSearchParams(location.hash.slice(1));
  history.replaceState(null, "", location.pathname);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = { uid: link.get("uid") || "", token: link.get("token") || "", password: form.password.value };
    try {
      const answer = await fetch(form.dataset.api, {
        method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
      });
      if (answer.status === 204) { location.assign(form.dataset.then); return; }
      const { error } = await answer.json();
      status.textContent = error.details.map((detail) => detail.message).join("\n") || error.message;
    } catch { status.textContent = form.dataset.silent; }
  });
})();
