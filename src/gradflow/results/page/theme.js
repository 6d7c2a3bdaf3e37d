/* The theme, before anything is painted: what was chosen last, or what the system has. */
(() => {
  let chosen = "auto";
  try {
    chosen = localStorage.getItem("gradflow-theme") || "auto";
  } catch {
    // a browser that keeps nothing for pages from disk: the system's theme, then
  }
  document.documentElement.dataset.theme = chosen;
})();
