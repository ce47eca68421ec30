// Choose light or dark before the page is drawn, so that it does not flash.
"use strict";
(() => {
  let theme = null;
  try {
    theme = localStorage.getItem("skerry-theme");
  } catch {
    // storage is forbidden: the system's choice holds
  }
  if (theme === "light" || theme === "dark") {
    document.documentElement.dataset.theme = theme;
  }
  document.documentElement.classList.add("has-script");
})();
