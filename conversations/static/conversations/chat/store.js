// What all parts of the page share: the list of chats, the catalogue of models, what is open, and small notices.

import { signal } from "@preact/signals";
import { Failure, ROOT, json, page } from "./api.js";
import { _ } from "./i18n.js";
import { belongs, choices } from "./words.js";

const PAGE = 40;

/** @type {import("@preact/signals").Signal<any[]>} */
export const chats = signal([]);
/** Where the list goes on; null at its end, undefined before it was read. */
export const cursor = signal(/** @type {string | null | undefined} */ (undefined));
export const listProblem = signal("");
/** What the list shows, as the API's filters: nothing, {folder}, {tag}, {archived} or {deleted}. */
export const filter = signal(/** @type {Record<string, string>} */ ({}));
/** Folders and tags in use. */
export const names = signal(/** @type {{folders: {name: string, count: number}[], tags: {name: string, count: number}[]}} */ (page.names ?? { folders: [], tags: [] }));
/** The ids of selected chats; null: nothing is being selected. */
export const selected = signal(/** @type {Set<string> | null} */ (null));
/** What is asked in the dialog of folders and tags: {kind, ids, tags}. */
export const organising = signal(/** @type {any} */ (null));
/** Chats in which the server is answering somebody, here or elsewhere. @type {import("@preact/signals").Signal<Set<string>>} */
export const answering = signal(new Set());
/** @type {import("@preact/signals").Signal<import("./words.js").Model[] | null>} */
export const models = signal(null);
/** The model for the next message: {id, provider}. */
export const chosen = signal({ id: "", provider: "" });
/** What the next question is asked for beside an answer in words. */
export const wishes = signal({ search: Boolean(page.can.search) && remembered("search") === "on", draw: false });
export const online = signal(navigator.onLine);
export const signedOut = signal(false);
/** @type {import("@preact/signals").Signal<{text: string, undo?: () => void} | null>} */
export const toast = signal(null);
/** What a screen reader says next. */
export const said = signal("");
/** The dialog that is open: "", "models", "search", "help" or "settings". */
export const dialog = signal("");
/** What the choice of a model is for, if not for the next message. */
export const picking = signal(/** @type {{label: string, many?: boolean, least?: number, taken?: any[], use: (choice: any) => void} | null} */ (null));
/** The models that answer the next message side by side; fewer than two: the one that is chosen does. */
export const comparing = signal(/** @type {{id: string, provider: string}[]} */ ([]));
/** Answers that stand side by side: {chat, lanes, parent}. */
export const lanes = signal(/** @type {any} */ (null));
export const drawer = signal(false);
export const sidebar = signal(remembered("sidebar") !== "off");

/** What this user's browser remembers; another user of it has a memory of their own. @param {string} name */
export function remembered(name) {
  try {
    return localStorage.getItem(`g4fsite.${page.user.id}.${name}`) ?? "";
  } catch {
    return "";
  }
}

/** @param {string} name @param {string} value empty: forget it */
export function remember(name, value) {
  try {
    const key = `g4fsite.${page.user.id}.${name}`;
    if (value) localStorage.setItem(key, value);
    else localStorage.removeItem(key);
  } catch {
    // Storage may be full or forbidden; nothing here is worth an error.
  }
}

/** The message that is read aloud. */
export const speaking = signal("");

/** One of them at a time. @param {"search" | "draw"} name */
export function wish(name) {
  const on = !wishes.value[name];
  wishes.value = { search: false, draw: false, [name]: on };
  remember("search", wishes.value.search ? "on" : "");
}

/** The wishes as fields of a question. A model that does not draw is not the one that is asked to. */
export function wished() {
  const { id, provider } = chosen.value;
  const known = models.value?.find((model) => model.id === id);
  const whom = { model: id || null, provider: provider || null };
  if (wishes.value.draw) return { ...(known?.can.includes("image") ? whom : {}), modalities: ["image"] };
  return { ...whom, ...(wishes.value.search ? { web_search: true } : {}) };
}

/** Shows what happened for a while. @param {string} text @param {() => void} [undo] */
export function tell(text, undo) {
  toast.value = { text, undo };
}

/** A failure of something small: a line, no more. @param {unknown} error */
export function complain(error) {
  if (error instanceof Failure && error.status === 401) signedOut.value = true;
  else tell(error instanceof Error ? error.message : String(error));
}

/** @param {Record<string, string>} more */
const listing = (more) => json("GET", `${ROOT}/conversations?${new URLSearchParams({ limit: String(PAGE), ...filter.value, ...more })}`);

/** Shows other chats in the list. @param {Record<string, string>} wanted */
export function show(wanted) {
  filter.value = wanted;
  selected.value = null;
  chats.value = [];
  cursor.value = undefined;
  return refreshList();
}

/** Folders and tags, after they changed. */
export async function refreshNames() {
  try {
    const [folders, tags] = await Promise.all(["folders", "tags"].map((name) => json("GET", `${ROOT}/conversations/${name}`)));
    names.value = { folders: folders.data, tags: tags.data };
  } catch {
    // They are read again after the next change.
  }
}

/** The newest chats and the pinned ones, again from the start. */
export async function refreshList() {
  const wanted = filter.value;
  try {
    const newest = await listing({});
    // Pinned ones may be older than the first page, if there is a second.
    const pinned = newest.has_more ? await listing({ pinned: "true", limit: "100" }) : { data: [] };
    if (filter.value !== wanted) return;
    const first = cursor.value === undefined;
    const fresh = merged(pinned.data, newest.data);
    // What was loaded further down stays, so that the list does not shrink under the reader.
    chats.value = first ? fresh : merged(fresh, chats.value.filter((chat) => isOlder(chat, newest)));
    if (first || !newest.has_more) cursor.value = newest.next_cursor;
    listProblem.value = "";
  } catch (error) {
    if (error instanceof Failure && error.status === 401) signedOut.value = true;
    listProblem.value = /** @type {Error} */ (error).message;
  }
}

/** @param {any} chat @param {{data: any[], has_more: boolean}} newest */
function isOlder(chat, newest) {
  const last = newest.data.at(-1);
  return newest.has_more && last && chat.updated_at < last.updated_at;
}

export async function olderChats() {
  if (!cursor.value) return;
  try {
    const wanted = filter.value;
    const next = await listing({ cursor: cursor.value });
    if (filter.value !== wanted) return;
    chats.value = merged(chats.value, next.data);
    cursor.value = next.next_cursor;
  } catch (error) {
    complain(error);
  }
}

/** Each chat once, newest first; the first list wins. @param {any[]} first @param {any[]} second */
function merged(first, second) {
  const known = new Set(first.map((chat) => chat.id));
  const all = [...first, ...second.filter((chat) => !known.has(chat.id))];
  return all.sort((a, b) => (a.updated_at < b.updated_at ? 1 : a.updated_at > b.updated_at ? -1 : 0));
}

/** Puts one chat where it belongs in the list, if it does. @param {any} chat */
export function listed(chat) {
  if (belongs(chat, filter.value)) chats.value = merged([chat], chats.value);
  else chats.value = chats.value.filter((other) => other.id !== chat.id);
}

/** @param {string} id @param {Record<string, any>} fields */
export async function change(id, fields) {
  const changed = await json("PATCH", `${ROOT}/conversations/${id}`, fields);
  listed(changed);
  return changed;
}

/** To the bin, with a way back. @param {any} chat @param {() => void} [restored] */
export async function discard(chat, restored) {
  try {
    await json("DELETE", `${ROOT}/conversations/${chat.id}`);
  } catch (error) {
    complain(error);
    return false;
  }
  chats.value = chats.value.filter((other) => other.id !== chat.id);
  tell(_("“{title}” is in the bin.", { title: chat.title || _("Chat") }), async () => {
    try {
      listed(await json("POST", `${ROOT}/conversations/${chat.id}/restore`));
      restored?.();
    } catch (error) {
      complain(error);
    }
  });
  return true;
}

/** @type {any[]} what /v1/models said */
let catalogue = [];

export async function loadModels() {
  try {
    catalogue = (await json("GET", "/v1/models")).data;
    models.value = choices(catalogue, []);
    const [id, provider = ""] = remembered("model").split("\n");
    const found = models.value.find((model) => model.id === id);
    chosen.value = chosen.value.id ? chosen.value : found ? { id, provider } : usual();
  } catch (error) {
    models.value ??= [];
    complain(error);
  }
}

/** Who has each model: for those who choose. */
export async function loadProviders() {
  try {
    const providers = await json("GET", "/v1/providers");
    models.value = choices(catalogue, providers.data ?? providers);
  } catch (error) {
    complain(error);
  }
}

/** The model for who has chosen none: the operator's default, else the first that chats. */
export function usual() {
  const all = models.value ?? [];
  const found = all.find((model) => model.id === "default") ?? all[0];
  return { id: found?.id ?? "", provider: "" };
}

/** @param {{id: string, provider: string}} model */
export function choose(model) {
  comparing.value = [];
  chosen.value = { id: model.id, provider: model.provider };
  remember("model", `${model.id}\n${model.provider}`);
}
