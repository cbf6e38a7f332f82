// Markdown as the page shows it: turned into HTML, sanitised last, then given what is ours by hand.
//
// HTML that a model writes is text. Pictures from elsewhere are links, since asking for one tells its server what was
// said; what the page itself adds (copy buttons, highlighting) is made of nodes, not of text.

import { Marked } from "marked";
import "dompurify";
import { Blocks, hasReferences } from "./blocks.js";
import { page } from "./api.js";
import { linked, marked as cited } from "./cites.js";
import { _ } from "./i18n.js";
import { mathBlock, mathInline } from "./mathrules.js";

const purify = /** @type {any} */ (globalThis).DOMPurify;
const LONG = 60_000;

/** @param {string} text */
function escaped(text) {
  return text.replace(/[&<>"']/g, (mark) => `&#${mark.charCodeAt(0)};`);
}

/** What the server writes for a sound that a model made; other HTML is text. @param {string} text */
function sound(text) {
  if (text === "</audio>") return "";
  const found = /^<audio controls src="(\/media\/[\w.%-]+)">$/.exec(text.trim());
  return found && `<a class="sound" href="${found[1]}">Sound</a>`;
}

const marked = new Marked({
  gfm: true,
  renderer: {
    html: (/** @type {any} */ { text }) => sound(text) ?? escaped(text),
    checkbox: (/** @type {any} */ { checked }) => (checked ? "☑ " : "☐ "),
  },
});
marked.use({ extensions: [mathBlock, mathInline] });

const ALLOWED = {
  ALLOWED_TAGS: (
    "a b blockquote br code del em h1 h2 h3 h4 h5 h6 hr i img li ol p pre s span strong sub sup table tbody td th " +
    "thead tr ul"
  ).split(" "),
  ALLOWED_ATTR: ["href", "src", "alt", "title", "align", "start", "class", "data-tex", "data-display"],
  // Their values are no addresses.
  ADD_URI_SAFE_ATTR: ["align", "start", "data-tex", "data-display"],
  ALLOW_DATA_ATTR: false,
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:|\/(?!\/)|#)/i,
  RETURN_DOM_FRAGMENT: true,
};

/**
 * Safe nodes for a text of Markdown.
 * @param {any[]} tokens
 * @param {boolean} finished
 * @returns {DocumentFragment}
 */
function nodes(tokens, finished) {
  const fragment = purify.sanitize(marked.parser(tokens), ALLOWED);
  for (const link of fragment.querySelectorAll("a")) asLink(link);
  for (const link of fragment.querySelectorAll("a.sound")) asSound(link);
  for (const image of fragment.querySelectorAll("img")) asImage(image);
  for (const pre of fragment.querySelectorAll("pre")) pre.replaceWith(codeBlock(pre, finished));
  for (const table of fragment.querySelectorAll("table")) asTable(table);
  if (finished) for (const span of fragment.querySelectorAll("[data-tex]")) formula(span);
  return fragment;
}

/** @param {HTMLAnchorElement} link */
function asLink(link) {
  if (!link.hasAttribute("href")) return;
  link.rel = "noopener noreferrer nofollow";
  link.target = "_blank";
}

/** @param {HTMLAnchorElement} link */
function asSound(link) {
  const player = document.createElement("audio");
  player.controls = true;
  player.preload = "metadata";
  player.src = link.getAttribute("href") ?? "";
  link.replaceWith(player);
}

const INLINE = /^data:image\/(?:png|jpeg|gif|webp);base64,/;

/** A picture that opens large, and can be taken along. @param {HTMLImageElement} image @param {string} source */
function framed(image, source) {
  const frame = element("span", "pic");
  const open = /** @type {HTMLButtonElement} */ (element("button", "shot"));
  open.type = "button";
  open.ariaLabel = image.alt ? _("Open {name}", { name: image.alt }) : _("Open picture");
  const take = /** @type {HTMLAnchorElement} */ (element("a", "tap"));
  take.href = source;
  take.download = "";
  take.ariaLabel = image.alt ? _("Download {name}", { name: image.alt }) : _("Download picture");
  take.title = _("Download");
  const icon = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  icon.setAttribute("class", "i");
  icon.setAttribute("aria-hidden", "true");
  icon.append(document.createElementNS("http://www.w3.org/2000/svg", "use"));
  icon.firstElementChild?.setAttribute("href", `${page.urls.icons}#i-download`);
  take.append(icon);
  (image.closest("a") ?? image).replaceWith(frame);
  open.append(image);
  frame.append(open, take);
}

/** @param {HTMLImageElement} image */
function asImage(image) {
  const source = image.getAttribute("src") ?? "";
  const url = new URL(source, location.href);
  if (source && (url.origin === location.origin || INLINE.test(source))) {
    image.loading = "lazy";
    framed(image, source);
    return;
  }
  const words = `${image.alt || _("Picture")} (${url.host || _("elsewhere")})`;
  if (image.closest("a")) {
    image.replaceWith(words);
    return;
  }
  const link = document.createElement("a");
  link.href = /^https?:$/.test(url.protocol) ? url.href : "#";
  link.textContent = words;
  link.title = _("Pictures from other servers are not loaded by themselves.");
  asLink(link);
  image.replaceWith(link);
}

/** @param {HTMLTableElement} table */
function asTable(table) {
  const frame = element("div", "tbl");
  frame.tabIndex = 0;
  frame.role = "region";
  frame.ariaLabel = _("Table");
  for (const cell of table.querySelectorAll("[align]")) {
    if (cell.getAttribute("align") !== "left") cell.classList.add(cell.getAttribute("align") === "right" ? "r" : "c");
    cell.removeAttribute("align");
  }
  for (const cell of table.querySelectorAll("thead th")) cell.setAttribute("scope", "col");
  table.replaceWith(frame);
  const take = element("div", "take");
  frame.append(take, table);
  shown().then((as) => as.table(table, take));
}

const shown = () => import("./shown.js");
/** Those that a browser shows. */
const SHOWN = ["html", "svg"];

/** @param {string} tag @param {string} name */
function element(tag, name) {
  const made = document.createElement(tag);
  made.className = name;
  return made;
}

/** @param {Element} code */
function languageOf(code) {
  return /language-(\S+)/.exec(code.className)?.[1]?.toLowerCase() ?? "";
}

/**
 * A block with its language and a button that copies it.
 * @param {HTMLPreElement} pre
 * @param {boolean} finished
 */
function codeBlock(pre, finished) {
  const code = pre.querySelector("code") ?? pre;
  const language = languageOf(code);
  const block = element("div", "code");
  const bar = document.createElement("header");
  const name = element("span", "name");
  name.textContent = language || "text";
  const copy = /** @type {HTMLButtonElement} */ (element("button", "btn small"));
  copy.type = "button";
  copy.textContent = _("Copy");
  copy.dataset.copy = "";
  bar.append(name, copy);
  pre.tabIndex = 0;
  pre.ariaLabel = language ? _("Code, {language}", { language }) : _("Code");
  pre.role = "region";
  code.className = "";
  block.append(bar, pre.cloneNode(true));
  const text = code.textContent ?? "";
  if (finished && SHOWN.includes(language)) shown().then((as) => as.preview(block, text));
  if (finished && language === "mermaid") shown().then((as) => as.diagram(block, text));
  if (finished && language && text.length < LONG) colour(/** @type {any} */ (block.querySelector("code")), language);
  return block;
}

/** @param {HTMLElement} code @param {string} language */
async function colour(code, language) {
  const { highlighted } = await import("./highlight.js");
  const found = await highlighted(code.textContent ?? "", language);
  if (found) code.replaceChildren(purify.sanitize(found, ALLOWED));
}

/** @param {Element} span */
async function formula(span) {
  const { typeset } = await import("./math.js");
  const found = await typeset(span.getAttribute("data-tex") ?? "", span.hasAttribute("data-display"));
  if (!found) return;
  const only = { USE_PROFILES: { mathMl: true }, FORBID_ATTR: ["style"], RETURN_DOM_FRAGMENT: true };
  span.replaceChildren(purify.sanitize(found, only));
}

/** The Markdown of one message in an element; grows with its text and touches only its end. */
export class Prose {
  /** @param {HTMLElement} place */
  constructor(place) {
    this.place = place;
    this.blocks = new Blocks((text) => /** @type {any} */ (marked.lexer(text)));
    /** @type {Node[]} */
    this.tail = [];
    this.over = false;
  }

  /** @param {string} given @param {boolean} over @param {any[]} [citations] */
  update(given, over, citations = []) {
    const { text, sources } = cited(given, citations);
    if (this.over && over && text === this.blocks.seen) return;
    if (over && (hasReferences(text) || !text.startsWith(this.blocks.seen))) {
      this.blocks.settled = 0;
      this.place.replaceChildren();
      this.tail = [];
    }
    this.over = over;
    const { restart, done, tail } = this.blocks.advance(text, over);
    if (restart) this.place.replaceChildren();
    if (this.#grown(tail, done)) return;
    for (const node of this.tail) /** @type {ChildNode} */ (node).remove();
    for (const token of done) this.place.append(linked(nodes([token], true), sources));
    const last = tail ? nodes([tail], false) : document.createDocumentFragment();
    this.tail = [...last.childNodes];
    this.place.append(last);
  }

  /**
   * A long block of code that only got longer is not built anew.
   * @param {any} tail
   * @param {any[]} done
   */
  #grown(tail, done) {
    if (!tail || done.length || tail.type !== "code" || this.tail.length !== 1) return false;
    const block = /** @type {HTMLElement} */ (this.tail[0]);
    const code = block.classList?.contains("code") ? block.querySelector("pre code") : null;
    if (!code || block.querySelector(".name")?.textContent !== (tail.lang?.split(/\s/)[0].toLowerCase() || "text")) {
      return false;
    }
    const text = `${tail.text}\n`;
    const held = code.firstChild;
    if (held instanceof Text && text.startsWith(held.data.trimEnd())) held.data = text;
    else code.textContent = text;
    return true;
  }
}
