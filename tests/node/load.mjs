// Loads modules of the chat page, which have no package.json beside them that calls them modules.

import { readFileSync } from "node:fs";

/** @param {URL} url */
function address(url) {
  const text = readFileSync(url, "utf8").replace(/ from "(\.\/[^"]+)"/g, (_, name) => ` from "${address(new URL(name, url))}"`);
  return `data:text/javascript,${encodeURIComponent(text)}`;
}

/** @param {string} path from this folder; modules that it imports by relative names come along */
export const load = (path) => import(address(new URL(path, import.meta.url)));
