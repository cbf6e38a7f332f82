// What counts as a formula in Markdown: $$...$$ and \[...\] as blocks, \(...\) in a line, and $...$ only where it
// cannot be money. Rules for marked; what they find is typeset later.

/** @param {string} text */
function quoted(text) {
  return text.replace(/[&<>"']/g, (mark) => `&#${mark.charCodeAt(0)};`);
}

const BLOCK = /^(?:\$\$([\s\S]+?)\$\$|\\\[([\s\S]+?)\\\])[ \t]*(?:\n|$)/;
// No space inside the dollars, no digit after the second, so that "$5 and $6" stays money.
const INLINE = /^(?:\\\(([\s\S]+?)\\\)|\$(?![\s$])((?:\\.|[^\\$\n])*?[^\s\\$])\$(?![\d$]))/;

/** @param {string} text @returns {{raw: string, tex: string} | null} */
export function blockAt(text) {
  const found = BLOCK.exec(text);
  return found ? { raw: found[0], tex: (found[1] ?? found[2]).trim() } : null;
}

/** @param {string} text @returns {{raw: string, tex: string} | null} */
export function inlineAt(text) {
  const found = INLINE.exec(text);
  return found ? { raw: found[0], tex: (found[1] ?? found[2]).trim() } : null;
}

export const mathBlock = {
  name: "mathBlock",
  level: "block",
  /** @param {string} text */
  start(text) {
    const at = text.search(/(?:^|\n)(?:\$\$|\\\[)/);
    return at < 0 ? undefined : at + (text[at] === "\n" ? 1 : 0);
  },
  /** @param {string} text */
  tokenizer(text) {
    const found = blockAt(text);
    return found ? { type: "mathBlock", ...found } : undefined;
  },
  /** @param {any} token */
  renderer: (token) =>
    `<p class="eq"><span data-tex="${quoted(token.tex)}" data-display="1">${quoted(token.tex)}</span></p>`,
};

export const mathInline = {
  name: "mathInline",
  level: "inline",
  /** @param {string} text */
  start(text) {
    const at = text.search(/\$|\\\(/);
    return at < 0 ? undefined : at;
  },
  /** @param {string} text */
  tokenizer(text) {
    const found = inlineAt(text);
    return found ? { type: "mathInline", ...found } : undefined;
  },
  /** @param {any} token */
  renderer: (token) => `<span data-tex="${quoted(token.tex)}">${quoted(token.tex)}</span>`,
};
