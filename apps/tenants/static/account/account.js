// The pages of sign-in and of one's own account.
(() => {
  "use strict";
  // A time zone that nobody has chosen yet is the browser's.
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  for (const select of document.querySelectorAll("select[data-guess-zone]")) {
    if (!select.value && [...select.options].some((option) => option.value === zone)) select.value = zone;
  }
})();
