/** Applies the chosen theme. Not a module, so that it runs before the page is rendered. */
(() => {
  const root = document.documentElement;
  try {
    const theme = localStorage.getItem("rxllm-theme");
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  } catch {} // storage is disabled: keep the system's theme
})();
