// Tables as text.

/**
 * Lines of cells as RFC 4180 writes them. What a spreadsheet would take for a formula is marked as text.
 * @param {string[][]} rows
 */
export function csv(rows) {
  const cell = (/** @type {string} */ text) => {
    const safe = /^[=+@\t\r]|^-(?![\d.,]+%?$)./.test(text) ? `'${text}` : text;
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  return `${rows.map((row) => row.map(cell).join(",")).join("\r\n")}\r\n`;
}

/** For pasting into a spreadsheet. @param {string[][]} rows */
export function tabbed(rows) {
  return rows.map((row) => row.map((text) => text.replace(/\s+/g, " ")).join("\t")).join("\n");
}
