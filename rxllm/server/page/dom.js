/** Small things of the page. Text always gets in as text. */

/**
 * @param {string} name
 * @param {Record<string, unknown>} [properties] of the element; `data` goes into its dataset
 * @param {...(Node | string)} children
 */
export function h(name, { data, ...properties } = {}, ...children) {
  const element = document.createElement(name);
  Object.assign(element, properties);
  Object.assign(element.dataset, data);
  element.append(...children);
  return element;
}

/** Tell who can't see it. Said once a change of state, never once a token. @param {string} text */
export function announce(text) {
  document.getElementById("announcer").textContent = text;
}

const SHOWN = 10; // seconds
let hiding = 0;

/** Show to everybody what could not be done, for a while or until something else is done.
 * @param {string} text */
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

/** The options of a form of the page, as a request has them. @param {HTMLFormElement} form */
export function optionsOf({ elements }) {
  const number = (field) => (field?.value ? Number(field.value) : undefined);
  return {
    model: elements.model?.value || undefined,
    maxTokens: number(elements.maxTokens),
    temperature: number(elements.temperature),
  };
}

/** Ctrl+Enter (or Cmd+Enter) in a form submits it. @param {HTMLFormElement} form */
export function submitWithCtrlEnter(form) {
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
}

/** Enter sends, Shift+Enter begins a line. @param {HTMLFormElement} form */
export function submitWithEnter(form) {
  form.elements.text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
}

/** Escape stops, wherever the focus is, while this panel is shown.
 * @param {HTMLElement} panel @param {() => void} stop */
export function stopWithEscape(panel, stop) {
  document.addEventListener("keydown", ({ key, isComposing }) => {
    if (key === "Escape" && !isComposing && !panel.hidden) stop();
  });
}

/** Switch controls on and off, and hand the focus on where it was on one that goes.
 * @param {{on: HTMLElement[], off: HTMLElement[], hide?: boolean}} controls with `hide` by
 *   `hidden`, else by `disabled`
 * @param {HTMLElement} [heir] of the focus: the first of `on`, if left out */
export function switchOver({ on, off, hide = false }, heir = on[0]) {
  const held = off.includes(document.activeElement);
  const property = hide ? "hidden" : "disabled";
  for (const control of on) control[property] = false;
  if (held) heir.focus({ preventScroll: true }); // a text may be read, further down
  for (const control of off) control[property] = true;
}

/** An example is there to be replaced: it is selected when it is first come to.
 * @param {HTMLTextAreaElement} field */
export function selectExample(field) {
  const select = () => {
    if (field.value === field.defaultValue) field.select();
  };
  for (const event of ["focus", "click"]) field.addEventListener(event, select, { once: true });
}

/** Storage of this tab; nothing where it is switched off. */
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
    } catch {} // it is a convenience
  },
};

/** @param {number} seconds */
export function duration(seconds) {
  if (seconds < 9.995) return `${seconds.toFixed(2)} s`;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

/** What a notice says, in words. @param {import("./rxllm.js").Chunk} notice */
export function noticeText({ kind, attempt, delay, skipped, error, source }) {
  const texts = {
    retry: `asked again${delay ? `, after ${duration(delay)}` : ""}`,
    fallback: "another model answers",
    restart: "the answer begins again",
    resume: "the answer is continued",
    degraded: "the request was made smaller",
    malformed: `${skipped ?? 1} malformed events were skipped`,
    lagged: `${skipped ?? "some"} chunks were left out, for a slow reader`,
    failed: "one of the streams has failed",
  };
  const parts = [texts[kind] ?? kind];
  if (attempt) parts.push(`attempt ${attempt}`);
  if (source) parts.push(source);
  if (error) parts.push(`${error.type}: ${error.message}`);
  return parts.join(" · ");
}
