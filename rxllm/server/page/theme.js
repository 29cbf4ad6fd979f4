/** The chosen theme, set before the page is drawn: so this is no module. */
(() => {
  const root = document.documentElement;
  try {
    const theme = localStorage.getItem("rxllm-theme");
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  } catch {} // storage is switched off: the system's theme it is
})();
