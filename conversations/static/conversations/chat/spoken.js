// What of an answer is read aloud, and in which pieces. Knows neither the page nor the network.

/**
 * An answer without what nobody wants to hear: code, formulas, marks of Markdown, numbers of sources, addresses.
 * @param {string} text
 */
export function speakable(text) {
  return text
    .replace(/^(```|~~~)[\s\S]*?(?:^\1[^\n]*$|$(?![\s\S]))/gm, "\n")
    .replace(/\$\$[\s\S]*?\$\$|\\\[[\s\S]*?\\\]/g, " ")
    .replace(/!\[([^\]]*)\]\([^)]*\)/g, "")
    .replace(/\[([^\]]*)\]\([^)]*\)/g, "$1")
    .replace(/[ \t]*\[\d{1,2}\]/g, "")
    .replace(/<\/?audio[^>]*>/g, "")
    .replace(/https?:\/\/\S+/g, "")
    .replace(/^\s*\|?[\s:|-]+\|[\s:|-]*$/gm, "")
    .replace(/^\s{0,3}(?:#{1,6}|>|[-*+]|\d+[.)])\s+/gm, "")
    .replace(/[ \t]*\|[ \t]*/g, ", ")
    .replace(/^[ \t]*, |,[ \t]*$/gm, "")
    .replace(/(\*\*|__|~~|`+)/g, "")
    .replace(/(^|\s)[*_](\S[^*_\n]*)[*_](?=\W|$)/gm, "$1$2")
    .replace(/[ \t]+/g, " ")
    .replace(/\s*\n\s*/g, "\n")
    .trim();
}

/**
 * Whole sentences, joined up to so many characters; a longer one breaks at a space.
 * @param {string} text
 * @param {number} most
 */
export function pieces(text, most) {
  const found = [""];
  for (let sentence of text.match(/[^.!?。！？\n]+(?:[.!?。！？]+["”’)]*|\n|$)\s*/g) ?? []) {
    while (sentence.length > most) {
      const at = sentence.lastIndexOf(" ", most);
      const end = at > 0 ? at : most;
      found.push(sentence.slice(0, end));
      sentence = sentence.slice(end);
    }
    if (found[found.length - 1].length + sentence.length > most) found.push("");
    found[found.length - 1] += sentence;
  }
  return found.map((piece) => piece.replace(/\s+/g, " ").trim()).filter(Boolean);
}
