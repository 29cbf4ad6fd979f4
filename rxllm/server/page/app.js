/** The page: tabs, theme, models, and the client and connection that the tabs share. */

import { h, showFailure } from "./dom.js";
import { Client, Connection, RxllmError } from "./rxllm.js";
import { setUpChat } from "./chat.js";
import { setUpCompare } from "./compare.js";
import { setUpGenerate } from "./generate.js";
import { setUpInspector } from "./inspector.js";
import { setUpRoom } from "./room.js";

// The server may be mounted under a path of another one.
const base = new URL(".", location.href);
const client = new Client({ base: base.href });
const connection = new Connection({ url: new URL("ws", base).href.replace(/^http/, "ws") });

// Tabs.

const tabs = [...document.querySelectorAll("[role=tab]")];

function show(name, focus = false) {
  const chosen = tabs.find((tab) => tab.getAttribute("aria-controls") === name) ?? tabs[0];
  for (const tab of tabs) {
    const selected = tab === chosen;
    const panel = document.getElementById(tab.getAttribute("aria-controls"));
    tab.setAttribute("aria-selected", String(selected));
    tab.tabIndex = selected ? 0 : -1;
    panel.hidden = !selected;
    panel.dispatchEvent(new CustomEvent(selected ? "shown" : "hidden"));
  }
  if (focus) chosen.focus();
}

function setUpTabs() {
  const go = (tab) => {
    history.replaceState(null, "", `#${tab.getAttribute("aria-controls")}`);
    show(tab.getAttribute("aria-controls"), true);
  };
  for (const [index, tab] of tabs.entries()) {
    tab.addEventListener("click", () => go(tab));
    tab.addEventListener("keydown", ({ key: pressed }) => {
      const last = tabs.length - 1;
      const to = { ArrowLeft: index - 1, ArrowRight: index + 1, Home: 0, End: last }[pressed];
      if (to !== undefined) go(tabs[(to + tabs.length) % tabs.length]);
    });
  }
  addEventListener("hashchange", () => {
    const name = location.hash.slice(1);
    if (tabs.some((tab) => tab.getAttribute("aria-controls") === name)) show(name);
  });
  show(location.hash.slice(1));
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault(); // the hash names the tab
    document.getElementById("main").focus();
  });
}

// Theme.

const THEMES = { system: "◐", light: "☀", dark: "☾" };

function setUpTheme() {
  const button = document.getElementById("theme");
  const root = document.documentElement;
  const names = Object.keys(THEMES);
  const label = () => {
    const theme = root.dataset.theme ?? "system";
    button.textContent = `${THEMES[theme]}\uFE0E`;
    button.ariaLabel = button.title = `Theme: ${theme}`;
  };
  button.addEventListener("click", () => {
    const next = names[(names.indexOf(root.dataset.theme ?? "system") + 1) % names.length];
    if (next === "system") delete root.dataset.theme;
    else root.dataset.theme = next;
    try {
      localStorage.setItem("rxllm-theme", next);
    } catch {} // then it applies to this page only
    label();
  });
  label();
}

// Models.

/** Limit the tokens to the context length of the model. */
function limitTokens({ elements: { maxTokens, model, other } }) {
  const asked = [model, other].filter((select) => select && !select.closest("label").hidden);
  const lengths = asked.map((select) => Number(select.selectedOptions[0]?.dataset.context));
  const known = lengths.filter((length) => length > 0);
  maxTokens.max = known.length ? String(Math.min(...known)) : "";
}

async function setUpModels() {
  const selects = [...document.querySelectorAll("select.models")];
  try {
    const { models, defaultModel } = await client.models();
    for (const select of selects) {
      const chosen = models.find(({ id }) => id === select.value)?.id ?? defaultModel;
      const options = models.map(({ id, provider, description, contextLength }) => {
        const title = description ?? provider;
        const data = { context: contextLength ?? "" };
        return h("option", { value: id, title, data, selected: id === chosen }, id);
      });
      select.replaceChildren(...options);
    }
    const other = document.querySelector("select[name=other]");
    const second = models.find(({ id }) => id !== defaultModel);
    if (second) other.value = second.id;
    for (const form of document.querySelectorAll("form:has([name=maxTokens])")) {
      form.addEventListener("change", () => limitTokens(form));
      limitTokens(form);
    }
  } catch (error) {
    if (!(error instanceof RxllmError) && !(error instanceof TypeError)) throw error;
    for (const select of selects) select.replaceChildren(h("option", { value: "" }, "default"));
    showFailure(`Couldn't load the list of models: ${error.message}`);
  }
}

setUpTheme();
setUpModels();
setUpGenerate(client);
setUpCompare(client);
setUpChat(connection);
setUpRoom(connection);
setUpInspector(client);
setUpTabs();
