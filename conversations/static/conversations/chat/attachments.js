// Files of the message that is being written: chosen, dropped or pasted, sent to buckets of their own, and kept with
// the draft. And the files of messages that were sent.

import { useRef } from "preact/hooks";
import { signal } from "@preact/signals";
import { ROOT, page, request } from "./api.js";
import { _ } from "./i18n.js";
import { LONG_PASTE, addressOf, bytes, refusal } from "./parts.js";
import * as store from "./store.js";
import * as thread from "./thread.js";
import { Icon, Later, Tap, html } from "./ui.js";

const MOST = 20;

/**
 * @typedef {import("./parts.js").Attached & {id: string, state: string, done: number, fault: string, note: string,
 *   stop?: () => void}} Chip `state`: "sending", "reading", "ready" or "failed"
 */

/** The files of each chat's draft. @type {import("@preact/signals").Signal<Map<string, Chip[]>>} */
const drafts = signal(new Map());
/** Something is being dragged over the page. */
export const dragged = signal(false);
/** The pictures that are looked at, and which of them: {items, at}. */
export const viewed = signal(/** @type {{items: {src: string, label: string}[], at: number} | null} */ (null));

const place = () => thread.chat.value?.id ?? "new";

/** @returns {Chip[]} */
export function attached() {
  const known = drafts.value.get(place());
  if (known) return known;
  try {
    return JSON.parse(store.remembered(`files.${place()}`) || "[]");
  } catch {
    return [];
  }
}

/** @param {string} at @param {Chip[]} chips */
function keep(at, chips) {
  drafts.value = new Map(drafts.value).set(at, chips);
  const ready = chips.filter((chip) => chip.state === "ready");
  store.remember(`files.${at}`, ready.length ? JSON.stringify(ready) : "");
}

/** @param {string} at @param {string} id @param {Partial<Chip>} news */
function tell(at, id, news) {
  const chips = drafts.value.get(at) ?? [];
  if (chips.some((chip) => chip.id === id)) keep(at, chips.map((chip) => (chip.id === id ? { ...chip, ...news } : chip)));
}

export const isWaiting = () => attached().some((chip) => chip.state === "sending" || chip.state === "reading");
export const ready = () => attached().filter((chip) => chip.state === "ready");

/** The files that go with the message now; the draft has none any more. */
export function taken() {
  const found = ready();
  keep(place(), []);
  return found;
}

/** Puts files back that could not be sent. @param {import("./parts.js").Attached[]} files */
export function restore(files) {
  keep(place(), files.map((file) => ({ ...file, id: crypto.randomUUID(), state: "ready", done: 1, fault: "", note: "" })));
}

/** @param {Iterable<File>} files */
export async function attach(files) {
  const at = place();
  const all = [...files];
  const room = MOST - attached().length;
  if (all.length > room) store.tell(_("A message takes {count} files.", { count: MOST }));
  const { sent } = await import("./upload.js");
  for (const file of all.slice(0, Math.max(room, 0))) {
    const id = crypto.randomUUID();
    const fault = refusal(file, page.can.fileBytes);
    const chip = /** @type {Chip} */ ({
      id, bucket: `chat-${id}`, name: "", label: file.name || "pasted.png", kind: "file", size: file.size,
      state: fault ? "failed" : "sending", done: 0, fault, note: "",
    });
    keep(at, [...(drafts.value.get(at) ?? attached()), chip]);
    if (fault) store.said.value = fault;
    else sent(file, chip, (news) => tell(at, id, news));
  }
}

/** @param {Chip} chip */
function remove(chip) {
  chip.stop?.();
  keep(place(), attached().filter((other) => other.id !== chip.id));
  store.said.value = _("{name} removed.", { name: chip.label });
  if (chip.state === "ready" && chip.bucket) {
    request("DELETE", `${ROOT}/files/${chip.bucket}`).catch(() => {});
  }
}

/** Files and pictures become files; so does a text that is too long for the box. @param {ClipboardEvent} event */
export function pasted(event) {
  const files = [...(event.clipboardData?.files ?? [])];
  const text = event.clipboardData?.getData("text/plain") ?? "";
  if (!files.length && text.length > LONG_PASTE) {
    const clock = new Date().toTimeString().slice(0, 8).replace(/:/g, "-");
    files.push(new File([text], `pasted-${clock}.txt`, { type: "text/plain" }));
  }
  // Of what was copied from a page or a table, the words are meant and not the picture beside them.
  else if (files.length && text) return;
  if (!files.length) return;
  event.preventDefault();
  attach(files);
}

const hasFiles = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files") ?? false;
let left = 0;
addEventListener("dragover", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  clearTimeout(left);
  dragged.value = thread.phase.value !== "missing" && !store.dialog.value;
});
addEventListener("dragleave", () => (left = window.setTimeout(() => (dragged.value = false), 80)));
addEventListener("drop", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  if (dragged.value) attach(event.dataTransfer?.files ?? []);
  dragged.value = false;
});

export function AttachTap() {
  const field = useRef(/** @type {HTMLInputElement | null} */ (null));
  const chosen = () => {
    attach(field.current?.files ?? []);
    if (field.current) field.current.value = "";
  };
  return html`<${Tap} icon="clip" label=${_("Attach files")} onClick=${() => field.current?.click()} />
    <input type="file" multiple hidden ref=${field} onChange=${chosen} aria-label=${_("Files to attach")} />`;
}

/** The files of the draft, above the words. */
export function Chips() {
  const chips = attached();
  if (dragged.value) return html`<p class="drop"><${Icon} name="clip" /> ${_("Drop the files here")}</p>`;
  if (!chips.length) return null;
  const sees = seeing();
  return html`<ul class="chips" aria-label=${_("Attached files")}>${chips.map((chip) => html`<${Chipped} key=${chip.id} chip=${chip} />`)}</ul>
    ${!sees && chips.some((chip) => chip.kind === "image") && html`<p class="chips-note" role="status"><${Icon} name="info" small />
      ${_("{model} is not known to see pictures. It may refuse this message.", { model: store.chosen.value.id })}</p>`}`;
}

/** Whether the chosen model is known to look at pictures. */
function seeing() {
  const { id, provider } = store.chosen.value;
  const known = store.models.value?.find((model) => model.id === id && model.provider === provider);
  return !known || known.can.includes("vision");
}

/** @param {{chip: Chip}} props */
function Chipped({ chip }) {
  const { state, label, kind, fault, note, done } = chip;
  const words = state === "sending" ? `${Math.floor(done * 100)} %` : state === "reading" ? note || _("Reading") : fault || note || bytes(chip.size);
  return html`<li class=${state === "failed" ? "chip bad" : "chip"}>
    ${kind === "image" && state === "ready" ? html`<img src=${addressOf(chip, true)} alt="" width="40" height="40" />`
      : html`<span class="lead"><${Icon} name=${state === "failed" ? "alert" : "file"} /></span>`}
    <span class="cut"><b class="cut">${label}</b><small class=${fault ? "" : "cut"} role=${fault ? "alert" : null}>
      ${state === "reading" && html`<span class="lamp"></span> `}${words}</small></span>
    <${Tap} small icon="close" label=${_("Remove {name}", { name: label })} onClick=${() => remove(chip)} />
    ${state === "sending" && html`<progress max="1" value=${done} aria-label=${_("Sending {name}", { name: label })}></progress>`}
  </li>`;
}

/** The files of a message that was sent. @param {{files: import("./parts.js").Attached[]}} props */
export function Files({ files }) {
  if (!files.length) return null;
  const pictures = files.filter((file) => file.kind === "image");
  const items = pictures.map((file) => ({ src: addressOf(file), label: file.label }));
  return html`<ul class="files" aria-label=${_("Files of this message")}>${files.map((file) => file.kind === "image"
    ? html`<li><button type="button" class="shot" aria-label=${_("Open {name}", { name: file.label })} title=${file.label}
        onClick=${() => (viewed.value = { items, at: pictures.indexOf(file) })}>
        <img src=${addressOf(file, true)} alt=${file.label} loading="lazy" onError=${gone} /></button></li>`
    : html`<li class="chip"><span class="lead"><${Icon} name=${file.kind === "audio" ? "speak" : "file"} /></span>
        <span class="cut"><b class="cut">${file.label}</b>${file.size > 0 && html`<small>${bytes(file.size)}</small>`}</span></li>`)}</ul>`;
}

/** @param {Event} event */
function gone(event) {
  const picture = /** @type {HTMLImageElement} */ (event.currentTarget);
  picture.closest("button")?.setAttribute("disabled", "");
  picture.alt = _("{name} is no longer there", { name: picture.alt });
}

/** Opens the pictures of an answer large. @param {MouseEvent} event */
export function pressedPicture(event) {
  const pressed = /** @type {HTMLElement} */ (event.target).closest(".shot");
  if (!pressed || event.defaultPrevented) return;
  const all = [...(pressed.closest(".prose")?.querySelectorAll(".shot img") ?? [])];
  const items = all.map((img) => ({ src: img.getAttribute("src") ?? "", label: img.getAttribute("alt") || _("Picture") }));
  viewed.value = { items, at: all.indexOf(/** @type {Element} */ (pressed.querySelector("img"))) };
}

const viewer = () => import("./viewer.js");

/** Looks at `viewed`, once there is something. */
export function Viewer() {
  return viewed.value && html`<${Later} from=${viewer} name="Pictures" close=${() => (viewed.value = null)} />`;
}
