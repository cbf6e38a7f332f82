// Prompts without a page: which of them a word means, and what their variables become.

/** @typedef {{id: string, name: string, title: string, text: string}} Prompt */

const VARIABLE = /\{\{\s*([^{}]{1,60}?)\s*\}\}/g;

/** The word behind a slash at the beginning, if that is all there is; else undefined. @param {string} text */
export const wordOf = (text) => /^\/([\p{L}\p{N}_-]*)$/u.exec(text)?.[1].toLowerCase();

/** Those that begin with the word, then those that have it in their name or title. @param {Prompt[]} prompts @param {string} word */
export function matching(prompts, word) {
  const begin = prompts.filter((prompt) => prompt.name.startsWith(word));
  const have = (/** @type {Prompt} */ prompt) => prompt.name.includes(word) || prompt.title.toLowerCase().includes(word);
  return [...begin, ...prompts.filter((prompt) => !begin.includes(prompt) && have(prompt))];
}

/** What is asked for, each once. @param {string} text */
export const variablesOf = (text) => [...new Set([...text.matchAll(VARIABLE)].map((found) => found[1]))];

/** With their values; what a value holds is not looked at again. @param {string} text @param {Record<string, string>} values */
export const filled = (text, values) => text.replace(VARIABLE, (_all, name) => values[name] ?? "");
