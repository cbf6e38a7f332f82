// Sends a file into a bucket of its own, tells how far it is, and follows its reading to the end.

import { ROOT, events, request, token } from "./api.js";
import { _ } from "./i18n.js";
import { bytes } from "./parts.js";

/**
 * @param {File} file
 * @param {import("./attachments.js").Chip} chip
 * @param {(news: Partial<import("./attachments.js").Chip>) => void} tell
 */
export async function sent(file, chip, tell) {
  try {
    const found = await posted(file, chip, tell);
    const [media] = found.media;
    const [skipped] = found.skipped;
    if (skipped && !media && !found.files.length) throw new Error(said(skipped, chip.label));
    if (media?.width) {
      tell({ state: "ready", kind: "image", name: media.name, note: `${media.width} × ${media.height}` });
    } else if (media && !media.text && /\.(?:mp3|wav|m4a|aac|flac|ogg|opus|aiff?)$/i.test(media.name)) {
      tell({ state: "ready", kind: "audio", name: media.name, note: bytes(chip.size) });
    } else {
      const size = await read(chip, tell);
      if (!size) throw new Error(_("Nothing in {name} can be read.", { name: chip.label }));
      tell({ state: "ready", kind: media ? "audio" : "file", note: _("{size} of text", { size: bytes(size) }) });
    }
  } catch (error) {
    if (/** @type {any} */ (error).name === "AbortError") return;
    tell({ state: "failed", fault: /** @type {Error} */ (error).message });
  }
}

/** @param {any} skipped @param {string} label */
function said(skipped, label) {
  return skipped.reason || skipped.message || _("{name} cannot be used.", { name: label });
}

/**
 * With XMLHttpRequest, which alone tells how much of a body has been sent.
 * @param {File} file
 * @param {import("./attachments.js").Chip} chip
 * @param {(news: Partial<import("./attachments.js").Chip>) => void} tell
 * @returns {Promise<any>}
 */
function posted(file, chip, tell) {
  const form = new FormData();
  form.append("files", file, chip.label);
  const call = new XMLHttpRequest();
  tell({ stop: () => call.abort() });
  return new Promise((resolve, reject) => {
    call.upload.onprogress = ({ loaded, total }) => total && tell({ done: loaded / total });
    call.upload.onload = () => tell({ state: "reading", done: 1 });
    call.onerror = () => reject(new Error(_("{name} was not sent: the server was not reached.", { name: chip.label })));
    call.onabort = () => reject(new DOMException("stopped", "AbortError"));
    call.onload = () => {
      let body = null;
      try {
        body = JSON.parse(call.responseText);
      } catch {
        // A proxy's page; the status says enough.
      }
      if (call.status === 200 && body) resolve(body);
      else reject(new Error(words(call.status, body, chip)));
    };
    call.open("POST", `${ROOT}/files/${chip.bucket}`);
    call.setRequestHeader("x-csrftoken", token());
    call.setRequestHeader("accept", "application/json");
    call.send(form);
  });
}

/** @param {number} status @param {any} body @param {import("./attachments.js").Chip} chip */
function words(status, body, chip) {
  const reason = body?.error?.message;
  if (reason) return reason;
  if (status === 413) return _("{name} is too large for this server.", { name: chip.label });
  return _("{name} was not taken: the server answered {status}.", { name: chip.label, status });
}

/**
 * Follows the conversion of a document, or the transcript of a recording.
 * @param {import("./attachments.js").Chip} chip
 * @param {(news: Partial<import("./attachments.js").Chip>) => void} tell
 * @returns {Promise<number>} bytes of text
 */
async function read(chip, tell) {
  const abort = new AbortController();
  tell({ state: "reading", stop: () => abort.abort() });
  const response = await request("GET", `${ROOT}/files/${chip.bucket}/stream`, undefined, {
    signal: abort.signal, headers: { accept: "text/event-stream" },
  });
  let size = 0;
  for await (const { data } of events(response)) {
    if (data?.error) throw new Error(data.error.message ?? String(data.error));
    if (data?.action === "transcribe") tell({ note: _("Writing down what is said") });
    if (data?.action === "load") tell({ note: _("Reading: {size} of text", { size: bytes(data.size) }) });
    if (data?.action === "done") size = data.size;
  }
  return size;
}
