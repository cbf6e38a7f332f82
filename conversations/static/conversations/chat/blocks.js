// Splits Markdown that is still being written into blocks that are finished and one that is not, so that each frame
// reads only the end of the text.

/**
 * @typedef {{raw: string, type: string}} Token a block, as marked's lexer gives it
 * @typedef {(text: string) => Token[]} Lex
 */

export class Blocks {
  /** @param {Lex} lex */
  constructor(lex) {
    this.lex = lex;
    /** How much of the text is in finished blocks. */
    this.settled = 0;
    this.seen = "";
  }

  /**
   * The blocks that are finished since the last call, and the one that may still grow.
   * @param {string} text all of it so far
   * @param {boolean} over nothing will follow
   * @returns {{restart: boolean, done: Token[], tail: Token | null}} `restart`: the text is another one
   */
  advance(text, over = false) {
    const restart = !text.startsWith(this.seen);
    if (restart) this.settled = 0;
    this.seen = text;
    const tokens = this.lex(text.slice(this.settled));
    const shown = tokens.filter((token) => token.type !== "space");
    if (over) {
      this.settled = text.length;
      return { restart, done: shown, tail: null };
    }
    const tail = shown.at(-1) ?? null;
    if (tail) {
      const before = tokens.slice(0, tokens.lastIndexOf(tail));
      this.settled += before.reduce((sum, token) => sum + token.raw.length, 0);
    }
    return { restart, done: shown.slice(0, -1), tail };
  }
}

/**
 * Whether the text defines links by reference, which may stand after what uses them.
 * @param {string} text
 */
export function hasReferences(text) {
  return /^ {0,3}\[[^\]\n]+\]:\s*\S/m.test(text);
}
