// What a message is made of beside its words: files in buckets of the user's, and pictures by their address.
// Knows neither the page nor the network.

import { _ } from "./i18n.js";

/**
 * @typedef {object} Attached a file that belongs to a message, or to the draft of one
 * @property {string} bucket the bucket that holds it alone; empty for a picture that has only an address
 * @property {string} name its name there, of pictures and sounds; empty: its text is what counts
 * @property {string} label what its owner calls it
 * @property {"image" | "audio" | "file"} kind
 * @property {number} size bytes
 * @property {string} [url] of a picture without a bucket
 */

/** Longer pastes become a file: a box with that much in it is no box to write in. */
export const LONG_PASTE = 20_000;

/**
 * What is sent: the files first, as what is asked about them reads best after them.
 * @param {string} text
 * @param {Attached[]} files
 * @returns {string | any[]}
 */
export function contentOf(text, files) {
  if (!files.length) return text;
  const parts = files.map(({ bucket, name, label, kind, size, url }) => (url
    ? { type: "image_url", image_url: { url } }
    : { bucket_id: bucket, ...(name ? { name } : {}), label, kind, size }));
  return text.trim() ? [...parts, { type: "text", text }] : parts;
}

/**
 * The files of a message, in their order.
 * @param {any} content
 * @param {any[]} [attachments] what came beside it, from other clients
 * @returns {Attached[]}
 */
export function filesOf(content, attachments = []) {
  const parts = Array.isArray(content) ? content.map(fromPart) : [];
  const beside = attachments.filter((item) => item.beside && item.content_type?.startsWith("image/")).map(fromAddress);
  return /** @type {Attached[]} */ ([...parts, ...beside].filter(Boolean));
}

/** @param {any} part @returns {Attached | null} */
function fromPart(part) {
  if (part?.bucket_id) {
    const { bucket_id: bucket, name = "", label, size = 0 } = part;
    const kind = part.kind ?? (name ? "image" : "file");
    return { bucket, name, label: label || name || _("Files"), kind, size };
  }
  const url = part?.type === "image_url" ? part.image_url?.url : "";
  return isOurs(url) ? fromAddress({ url }) : null;
}

/** @param {any} item @returns {Attached} */
function fromAddress({ url, name = "", size = 0 }) {
  return { bucket: "", name: "", label: name || _("Picture"), kind: "image", size, url };
}

/** Whether asking for it tells nobody else. @param {unknown} url */
function isOurs(url) {
  return typeof url === "string" && (/^\/(?!\/)/.test(url) || url.startsWith("data:image/"));
}

/**
 * The same message in other words: its files stay.
 * @param {any} content
 * @param {string} text
 */
export function withText(content, text) {
  if (!Array.isArray(content)) return text;
  const rest = content.filter((part) => typeof part !== "string" && typeof part?.text !== "string");
  return rest.length ? [...rest, { type: "text", text }] : text;
}

/** Where a picture or a sound is; small: of at most 400 pixels. @param {Attached} file @param {boolean} [small] */
export function addressOf({ bucket, name, url }, small = false) {
  if (url) return small ? url.replace(/^\/(?:media|images)\//, "/thumbnail/") : url;
  return `/files/${encodeURIComponent(bucket)}/${small ? "thumbnail" : "media"}/${encodeURIComponent(name)}`;
}

/** "4.1 MB". @param {number} bytes */
export function bytes(bytes) {
  if (bytes < 1000) return `${bytes} ${_("B")}`;
  for (const [unit, size] of /** @type {[string, number][]} */ ([[_("kB"), 1e3], [_("MB"), 1e6], [_("GB"), 1e9]])) {
    const count = bytes / size;
    if (count < 999.5 || size === 1e9) return `${count < 9.95 ? count.toFixed(1) : Math.round(count)} ${unit}`;
  }
  return "";
}

/**
 * Why a file cannot go along, or an empty text.
 * @param {{name: string, size: number}} file
 * @param {number} most bytes
 */
export function refusal({ name, size }, most) {
  if (!size) return _("{name} is empty.", { name });
  return size > most ? _("{name} has {size}; a file may have {most}.", { name, size: bytes(size), most: bytes(most) }) : "";
}

/** A name for the title of a chat that begins with files alone. @param {Attached[]} files */
export function named(files) {
  return files.map((file) => file.label).join(", ");
}
