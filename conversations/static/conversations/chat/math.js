// Formulas as MathML, which browsers draw themselves: no fonts and no styles are needed.

import "katex";

const katex = /** @type {any} */ (globalThis).katex;

/**
 * MathML that is yet to be sanitised; nothing where the formula is not one.
 * @param {string} tex
 * @param {boolean} displayMode
 */
export async function typeset(tex, displayMode) {
  try {
    const options = { displayMode, output: "mathml", trust: false, strict: "ignore", maxExpand: 500 };
    // The source that it carries along would be read out, and shown once it is sanitised.
    return katex.renderToString(tex, options).replace(/<annotation[^>]*>[^<]*<\/annotation>/g, "");
  } catch {
    return "";
  }
}
