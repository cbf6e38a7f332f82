// Blocks that are shown as what they say: pages and drawings in a sandbox of their own, diagrams, tables to take away.
//
// What runs in a frame there has an origin that shares nothing with this page, and reaches no server.

import { page } from "./api.js";
import { csv, tabbed } from "./csv.js";
import { _ } from "./i18n.js";
import * as store from "./store.js";
import { copy } from "./ui.js";

/** @param {string} words @param {() => void} act */
function button(words, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = "btn small";
  made.textContent = words;
  made.addEventListener("click", act);
  return made;
}

/** A frame that is told what it shows once it is ready. @param {string} address @param {string} title @param {(data: any) => void} take */
function frame(address, title, take) {
  const made = document.createElement("iframe");
  made.setAttribute("sandbox", "allow-scripts");
  made.src = address;
  made.title = title;
  const hear = (/** @type {MessageEvent} */ event) => {
    if (!made.isConnected) removeEventListener("message", hear);
    else if (event.source === made.contentWindow) take(event.data);
  };
  addEventListener("message", hear);
  return made;
}

/** @param {HTMLTableElement} table @param {Element} place where the buttons go */
export function table(table, place) {
  const rows = () => [...table.rows].map((row) => [...row.cells].map((cell) => cell.innerText.trim()));
  const save = () => {
    const link = document.createElement("a");
    // The mark tells spreadsheets that it is UTF-8.
    link.href = URL.createObjectURL(new Blob(["\ufeff", csv(rows())], { type: "text/csv;charset=utf-8" }));
    link.download = "table.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  };
  place.append(button(_("Copy"), () => copy(tabbed(rows()), _("Table"))), button("CSV", save));
}

/** A button that shows a page or a drawing in a frame. @param {Element} block @param {string} text */
export function preview(block, text) {
  /** @type {HTMLIFrameElement | null} */
  let shown = null;
  const press = button(_("Preview"), () => {
    if (shown) {
      shown.remove();
      shown = null;
    } else {
      const made = frame(page.urls.preview, _("Preview"), (data) => data === "ready" && made.contentWindow?.postMessage(text, "*"));
      made.className = "preview";
      block.append(made);
      shown = made;
    }
    press.textContent = shown ? _("Close preview") : _("Preview");
    press.setAttribute("aria-expanded", String(Boolean(shown)));
  });
  press.setAttribute("aria-expanded", "false");
  block.querySelector("header")?.append(press);
}

/** @type {Promise<HTMLIFrameElement> | null} */
let drawer = null;
/** @type {Map<number, (answer: {svg?: string, problem?: string}) => void>} */
const waiting = new Map();
let last = 0;

/** The frame that draws; it is fetched with the first diagram, more than a megabyte. */
function drawing() {
  drawer ??= new Promise((resolve) => {
    const made = frame(page.urls.diagram, _("Diagrams"), (data) => {
      if (data === "ready") resolve(made);
      else waiting.get(data?.id)?.(data);
    });
    made.className = "drawer";
    made.setAttribute("aria-hidden", "true");
    made.tabIndex = -1;
    document.body.append(made);
  });
  return drawer;
}

const system = globalThis.matchMedia?.("(prefers-color-scheme: dark)");

function isDark() {
  const { theme } = document.documentElement.dataset;
  return theme === "dark" || (theme !== "light" && system.matches);
}

/** What draws each diagram of the page anew: its colours are in the picture. @type {Map<Element, () => Promise<void>>} */
const painted = new Map();
let wasDark = false;

function repaint() {
  if (isDark() === wasDark) return;
  wasDark = isDark();
  for (const [block, draw] of painted) {
    if (block.isConnected) draw();
    else painted.delete(block);
  }
}

/** @param {Element} block @param {() => Promise<void>} draw */
function keepPainted(block, draw) {
  if (!painted.size) {
    wasDark = isDark();
    system.onchange = repaint;
    new MutationObserver(repaint).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  }
  painted.set(block, draw);
}

/** @param {string} text @returns {Promise<{svg?: string, problem?: string}>} */
async function drawn(text) {
  const by = await drawing();
  const id = ++last;
  const dark = isDark();
  return new Promise((resolve) => {
    waiting.set(id, (answer) => (waiting.delete(id), resolve(answer)));
    by.contentWindow?.postMessage({ id, text, dark }, "*");
  });
}

/** Draws a diagram in the place of its text, which stays a press away. @param {Element} block @param {string} text */
export async function diagram(block, text) {
  const code = /** @type {HTMLElement} */ (block.querySelector("pre"));
  const draw = async () => {
    const { svg, problem } = await drawn(text);
    if (!svg) {
      store.tell(_("This diagram cannot be drawn: {problem}", { problem: problem ?? "" }));
      return;
    }
    const image = /** @type {HTMLImageElement} */ (block.querySelector(".drawn") ?? new Image());
    // As a picture it can run nothing, whatever is in it.
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svg)}`;
    image.alt = _("Diagram; its text is under “Text”.");
    if (image.isConnected) return;
    image.className = "drawn";
    block.append(image);
    code.hidden = true;
    keepPainted(block, draw);
    press.replaceWith(button(_("Text"), () => (code.hidden = !code.hidden)));
  };
  const press = button(_("Draw"), draw);
  block.querySelector("header")?.append(press);
  const line = /** @type {any} */ (navigator).connection;
  if (!line?.saveData && !/2g/.test(line?.effectiveType ?? "")) await draw();
}
