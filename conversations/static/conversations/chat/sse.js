// Reads Server-Sent Events from pieces of text that may end anywhere.

/** @typedef {{id: number, type: string, data: any}} ServerEvent `data` is the event's JSON, or null. */

export class EventReader {
  #rest = "";

  /**
   * The events that are complete now. Comments and lines of unknown fields are dropped.
   * @param {string} text
   * @returns {ServerEvent[]}
   */
  push(text) {
    this.#rest += text;
    const parts = this.#rest.split(/\r?\n\r?\n/);
    this.#rest = parts.pop() ?? "";
    return parts.map(parsed).filter((event) => event !== null);
  }
}

/** @param {string} block @returns {ServerEvent | null} */
function parsed(block) {
  let id = 0;
  let type = "message";
  /** @type {string[]} */
  const data = [];
  for (const line of block.split(/\r?\n/)) {
    const at = line.indexOf(":");
    if (at <= 0) continue;
    const value = line[at + 1] === " " ? line.slice(at + 2) : line.slice(at + 1);
    const name = line.slice(0, at);
    if (name === "id") id = Number(value) || 0;
    else if (name === "event") type = value;
    else if (name === "data") data.push(value);
  }
  if (!data.length) return null;
  try {
    return { id, type, data: JSON.parse(data.join("\n")) };
  } catch {
    return { id, type, data: null };
  }
}
