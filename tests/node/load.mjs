// Loads modules of the chat page, which have no package.json beside them that calls them modules.

import { readFileSync } from "node:fs";

/** @param {URL} url @param {string} as */
function address(url, as) {
  const text = readFileSync(url, "utf8").replace(/ from "(\.\/[^"]+)"/g, (_, name) => ` from "${address(new URL(name, url), as)}"`);
  return `data:text/javascript,${encodeURIComponent(text)}#${as}`;
}

/**
 * @param {string} path from this folder; modules that it imports by relative names come along
 * @param {string} [as] another name loads the modules anew
 */
export const load = (path, as = "") => import(address(new URL(path, import.meta.url), as));
