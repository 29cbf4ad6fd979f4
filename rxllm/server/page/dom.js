/** DOM helpers of the page. Text is always inserted as text, never as HTML. */

/**
 * @param {string} name
 * @param {Record<string, unknown>} [properties] of the element; `data` is its dataset
 * @param {...(Node | string)} children
 */
export function h(name, { data, ...properties } = {}, ...children) {
  const element = document.createElement(name);
  Object.assign(element, properties);
  Object.assign(element.dataset, data);
  element.append(...children);
  return element;
}

/** Announce to screen readers: changes of state, but not tokens. @param {string} text */
export function announce(text) {
  document.getElementById("announcer").textContent = text;
}

const SHOWN = 10; // seconds
let hiding = 0;

/** Show a failure to all users, for a while or until the next action. @param {string} text */
export function showFailure(text) {
  const line = document.getElementById("failed");
  line.textContent = text;
  const hide = () => {
    line.textContent = "";
  };
  clearTimeout(hiding);
  hiding = setTimeout(hide, SHOWN * 1000);
  for (const event of ["click", "submit"]) {
    document.addEventListener(event, hide, { capture: true, once: true });
  }
}

/** Read the options of a request from a form. @param {HTMLFormElement} form */
export function optionsOf({ elements }) {
  const number = (field) => (field?.value ? Number(field.value) : undefined);
  return {
    model: elements.model?.value || undefined,
    maxTokens: number(elements.maxTokens),
    temperature: number(elements.temperature),
  };
}

/** Submit a form with Ctrl+Enter (or Cmd+Enter). @param {HTMLFormElement} form */
export function submitWithCtrlEnter(form) {
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
}

/** Submit with Enter; Shift+Enter inserts a line break. @param {HTMLFormElement} form */
export function submitWithEnter(form) {
  form.elements.text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
}

/** Stop with Escape, wherever the focus is, while this panel is visible.
 * @param {HTMLElement} panel @param {() => void} stop */
export function stopWithEscape(panel, stop) {
  document.addEventListener("keydown", ({ key, isComposing }) => {
    if (key === "Escape" && !isComposing && !panel.hidden) stop();
  });
}

/** Switch controls on and off, and move the focus if it is on one that is switched off.
 * @param {{on: HTMLElement[], off: HTMLElement[], hide?: boolean}} controls `hide` sets `hidden`
 *   instead of `disabled`
 * @param {HTMLElement} [heir] receives the focus: the first of `on` by default */
export function switchOver({ on, off, hide = false }, heir = on[0]) {
  const held = off.includes(document.activeElement);
  const property = hide ? "hidden" : "disabled";
  for (const control of on) control[property] = false;
  if (held) heir.focus({ preventScroll: true }); // the user may be reading further down
  for (const control of off) control[property] = true;
}

/** Select an example text when its field is first focused, so that typing replaces it.
 * @param {HTMLTextAreaElement} field */
export function selectExample(field) {
  const select = () => {
    if (field.value === field.defaultValue) field.select();
  };
  for (const event of ["focus", "click"]) field.addEventListener(event, select, { once: true });
}

/** The storage of this tab. Does nothing if storage is disabled. */
export const remembered = {
  get(name) {
    try {
      return sessionStorage.getItem(name) ?? undefined;
    } catch {
      return undefined;
    }
  },
  set(name, value) {
    try {
      if (value === undefined) sessionStorage.removeItem(name);
      else sessionStorage.setItem(name, value);
    } catch {} // storage is optional
  },
};

/** @param {number} seconds */
export function duration(seconds) {
  if (seconds < 9.995) return `${seconds.toFixed(2)} s`;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

/** Describe a notice in words. @param {import("./rxllm.js").Chunk} notice */
export function noticeText({ kind, attempt, delay, skipped, error, source }) {
  const texts = {
    retry: `retrying${delay ? ` after ${duration(delay)}` : ""}`,
    fallback: "falling back to another model",
    restart: "the answer starts over",
    resume: "the answer continues",
    degraded: "the request was reduced",
    malformed: `${skipped ?? 1} malformed events were skipped`,
    lagged: `${skipped ?? "some"} chunks were skipped for a slow reader`,
    failed: "one of the streams failed",
    loading: "the model is being loaded",
  };
  const parts = [texts[kind] ?? kind];
  if (attempt) parts.push(`attempt ${attempt}`);
  if (source) parts.push(source);
  if (error) parts.push(`${error.type}: ${error.message}`);
  return parts.join(" · ");
}
