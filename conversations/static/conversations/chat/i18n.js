// The reader's language: the words that the page brought with it, or the English ones that stand in the code.

/** @typedef {Record<string, string | number>} Values */

/** @type {Record<string, string | string[]>} */
const catalogue = JSON.parse(globalThis.document?.getElementById("words")?.textContent || "{}");

/** As browsers name languages: "de", "zh-Hans". */
export const language = globalThis.document?.documentElement.lang || "en";

/** How dates and figures are written; in English as most of the world writes them. */
export const region = language === "en" ? "en-GB" : language;

/**
 * The text in the reader's language, with `{name}` replaced.
 * @param {string} text
 * @param {Values} [values]
 */
export function _(text, values) {
  const found = catalogue[text];
  return filled(typeof found === "string" ? found : text, values);
}

/**
 * The text for so many, with `{count}` and other names replaced.
 * @param {string} one
 * @param {string} many
 * @param {number} count
 * @param {Values} [values]
 */
export function ngettext(one, many, count, values = {}) {
  const found = catalogue[one];
  const told = Array.isArray(found) ? found[Math.min(form(count), found.length - 1)] : count === 1 ? one : many;
  return filled(told, { count: count.toLocaleString(region), ...values });
}

/**
 * A translated text with elements in the places of some `{name}`, as children for htm.
 * @param {string} text what `_` or `ngettext` gave
 * @param {Record<string, any>} nodes
 * @returns {any[]}
 */
export function parts(text, nodes) {
  // Every second piece is a name.
  return text.split(/\{(\w+)\}/).map((piece, at) => (at % 2 ? nodes[piece] ?? `{${piece}}` : piece));
}

/** Which of gettext's plural forms, in the languages that there are; Chinese has but one. @param {number} count */
function form(count) {
  return language === "fr" ? Number(count > 1) : Number(count !== 1);
}

/** @param {string} text @param {Values} [values] */
function filled(text, values) {
  return values ? text.replace(/\{(\w+)\}/g, (all, name) => String(values[name] ?? all)) : text;
}
