// Colours for code: the library and each language are fetched when the first block needs them.

import core from "highlight/core";

/** @type {Record<string, string>} */
const OTHER_NAMES = {
  js: "javascript", jsx: "javascript", mjs: "javascript", ts: "typescript", tsx: "typescript", py: "python",
  sh: "bash", shell: "bash", zsh: "bash", console: "bash", html: "xml", svg: "xml", yml: "yaml", "c++": "cpp",
  "c#": "csharp", cs: "csharp", rb: "ruby", rs: "rust", kt: "kotlin", golang: "go", md: "markdown", toml: "ini",
  docker: "dockerfile", make: "makefile", ps1: "powershell", patch: "diff", jsonc: "json",
};
const languages = JSON.parse(document.getElementById("boot")?.textContent || "{}").languages ?? [];

/**
 * HTML with classes, or nothing for a language that is not here.
 * @param {string} code
 * @param {string} language
 */
export async function highlighted(code, language) {
  const name = OTHER_NAMES[language] ?? language;
  if (!languages.includes(name)) return "";
  if (!core.getLanguage(name)) {
    const module = await import(`highlight/${name}`);
    core.registerLanguage(name, module.default);
  }
  return core.highlight(code, { language: name, ignoreIllegals: true }).value;
}
