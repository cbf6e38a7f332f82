// Which mark in an answer means which source. Needs no page but to make the links.

import { _ } from "./i18n.js";

/** @typedef {{number: number, url: string, title: string, host: string}} Source */

const MARK = /\[(\d{1,2})\]/;

/**
 * The sources of an answer, and its text with a mark where one is named without.
 *
 * Places are counted in characters, as Python has them. A text that says [3] means the third that was found, whatever
 * stands first in the list of those that it names.
 * @param {string} text
 * @param {any[]} citations {url, title, start, end}
 * @returns {{text: string, sources: Source[]}}
 */
export function marked(text, citations) {
  if (!citations.length) return { text, sources: [] };
  const letters = [...text];
  /** @type {Map<number, any>} */
  const named = new Map();
  const others = [];
  for (const citation of citations) {
    const { start, end } = citation;
    const said = start === null || start === undefined ? "" : letters.slice(start, end).join("");
    const number = Number(/^\[(\d{1,2})\]$/.exec(said)?.[1] ?? 0);
    if (number && !named.has(number)) named.set(number, citation);
    else if (!number) others.push({ citation, said });
  }
  let free = 1;
  /** @type {[number, string][]} */
  const added = [];
  for (const { citation, said } of others) {
    const known = [...named].find(([, other]) => other.url === citation.url)?.[0];
    while (!known && named.has(free)) free += 1;
    const number = known ?? free;
    named.set(number, named.get(number) ?? citation);
    // A link that the model wrote itself needs no number beside it.
    if (said && citation.end <= letters.length && !/\]\(|https?:/.test(said)) added.push([citation.end, `[${number}]`]);
  }
  for (const [at, mark] of added.sort((a, b) => b[0] - a[0])) letters.splice(at, 0, mark);
  const sources = [...named].sort((a, b) => a[0] - b[0]).map(([number, { url, title }]) => source(number, url, title));
  return { text: letters.join(""), sources: sources.filter((found) => found.host) };
}

/** @param {number} number @param {string} url @param {string} title @returns {Source} */
function source(number, url, title) {
  let host = "";
  try {
    const parsed = new URL(url);
    if (/^https?:$/.test(parsed.protocol)) host = parsed.hostname.replace(/^www\./, "");
  } catch {
    // Not an address: it is not offered as one.
  }
  return { number, url, title: title || host, host };
}

/**
 * Makes links of the marks, but for those in code and in links.
 * @template {DocumentFragment} Part
 * @param {Part} fragment
 * @param {Source[]} sources
 * @returns {Part}
 */
export function linked(fragment, sources) {
  if (!sources.length) return fragment;
  const texts = [];
  const walker = document.createTreeWalker(fragment, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) texts.push(/** @type {Text} */ (walker.currentNode));
  for (let text of texts) {
    if (text.parentElement?.closest("code, pre, a, math, [data-tex], header")) continue;
    for (let found = MARK.exec(text.data); found; found = MARK.exec(text.data)) {
      const mark = text.splitText(found.index);
      text = mark.splitText(found[0].length);
      const meant = sources.find((one) => one.number === Number(found?.[1]));
      if (meant) mark.replaceWith(chip(meant));
    }
  }
  return fragment;
}

/** @param {Source} source */
function chip({ number, url, title, host }) {
  const link = document.createElement("a");
  link.className = "cite";
  link.href = url;
  link.target = "_blank";
  link.rel = "noopener noreferrer nofollow";
  link.textContent = String(number);
  link.title = `${title} · ${host}`;
  link.ariaLabel = _("Source {number}: {title}", { number, title });
  return link;
}
