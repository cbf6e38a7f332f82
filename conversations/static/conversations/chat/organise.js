// What keeps chats in order: their menus, folders and tags, the archive, the bin, and many at once.

import { useState } from "preact/hooks";
import { ROOT, json } from "./api.js";
import { Finder } from "./dialogs.js";
import { _, ngettext } from "./i18n.js";
import { newChat, openChat, remove, rename } from "./sidebar.js";
import * as store from "./store.js";
import * as thread from "./thread.js";
import { Dialog, Icon, Tap, dress, html, menu } from "./ui.js";

const AT_ONCE = 100;
const open = (/** @type {string} */ dialog) => () => (store.dialog.value = dialog);
const isOpen = (/** @type {any} */ chat) => thread.chat.value?.id === chat.id;

/** @param {HTMLElement} anchor @param {any} chat */
export function chatMenu(anchor, chat) {
  show(anchor, isOpen(chat) ? _("Options of this chat") : _("Options of {title}", { title: chat.title || _("New chat") }), chat.deleted_at ? binned(chat) : kept(chat));
}

/** @param {HTMLElement} anchor @param {any} message */
export function answerMenu(anchor, message) {
  const another = () => {
    store.picking.value = { label: _("Answer with another model"), use: (model) => thread.regenerate(message, model) };
    store.dialog.value = "models";
  };
  show(anchor, _("Options of this answer"), [
    { icon: "again", label: _("Answer with another model"), act: another },
    { icon: "compare", label: _("Compare with other models"), act: () => {
      store.picking.value = {
        label: _("Compare with other models"), many: true, least: 1,
        use: (models) => import("./compare.js").then(({ against }) => against(message, models)).catch(store.complain),
      };
      store.dialog.value = "models";
    } },
    ...(message.siblings.length > 1 ? [{
      icon: "compare", label: _("Versions side by side"), act: () => import("./compare.js").then(({ versions }) => versions(message)).catch(store.complain),
    }] : []),
    { icon: "branch", label: _("Branch map"), act: open("branches") },
    { icon: "share", label: _("Share up to here"), act: () => {
      store.organising.value = { upTo: message.id };
      store.dialog.value = "share";
    } },
  ]);
}

/** @param {HTMLElement} anchor @param {string} label @param {any[]} items */
function show(anchor, label, items) {
  menu.value = menu.value?.anchor === anchor ? null : { anchor, label, items };
}

/** @param {any} chat */
const binned = (chat) => [
  { icon: "again", label: _("Restore"), act: () => bulk([chat.id], "restore") },
  { icon: "trash", label: _("Delete for good"), bad: true, act: () => ask({ kind: "purge", ids: [chat.id] }) },
];

/** @param {any} chat */
function kept(chat) {
  const here = (/** @type {() => void} */ act) => async () => {
    if (!isOpen(chat)) await openChat(chat.id);
    act();
  };
  const update = (/** @type {any} */ fields) => () => thread.update(chat.id, fields).catch(store.complain);
  const file = `${ROOT}/conversations/${chat.id}/export`;
  return [
    { icon: "pin", label: chat.pinned ? _("Unpin") : _("Pin"), act: update({ pinned: !chat.pinned }) },
    { icon: "edit", label: _("Rename"), act: () => rename(chat) },
    { icon: "share", label: _("Share"), act: here(open("share")) },
    ...(isOpen(chat) ? [{ icon: "search", label: _("Find"), hint: "Ctrl F", act: open("find") }] : []),
    { icon: "tune", label: _("Instructions and parameters"), act: here(open("settings")) },
    { icon: "branch", label: _("Branch map"), act: here(open("branches")) },
    { icon: "folder", label: _("Move to folder"), act: () => ask({ kind: "folder", ids: [chat.id] }) },
    { icon: "tag", label: _("Tags"), act: () => ask({ kind: "tags", ids: [chat.id], tags: chat.tags }) },
    { icon: "archive", label: chat.archived ? _("Out of the archive") : _("Archive"), act: () => bulk([chat.id], chat.archived ? "unarchive" : "archive") },
    { icon: "download", label: _("Save as Markdown"), href: `${file}?format=markdown`, download: true },
    { icon: "download", label: _("Save as JSON"), href: file, download: true },
    { icon: "download", label: _("Print or PDF"), act: () => import("./printing.js").then(({ print }) => print(chat)).catch(store.complain) },
    { icon: "trash", label: _("Delete"), bad: true, act: () => remove(chat) },
  ];
}

/** What the list shows, and what can be done with all of it. @param {HTMLElement} anchor */
export function listMenu(anchor) {
  const { deleted, archived, folder } = store.filter.value;
  const only = (/** @type {any} */ wanted) => () => store.show(wanted);
  show(anchor, _("Show chats"), [
    { icon: "check", label: _("Select chats"), act: () => select() },
    { icon: "folder", label: _("Folders and tags"), act: () => ask({ kind: "look", ids: [] }) },
    ...(folder ? [{ icon: "edit", label: _("Rename folder"), act: () => ask({ kind: "rename", ids: [] }) }] : []),
    ...(deleted || archived || folder ? [{ icon: "menu", label: _("All chats"), act: only({}) }] : []),
    { icon: "archive", label: _("Archive"), act: only({ archived: "true" }) },
    { icon: "trash", label: _("Bin"), act: only({ deleted: "true", archived: "any" }) },
    ...(deleted ? [{ icon: "trash", label: _("Empty the bin"), bad: true, act: () => ask({ kind: "empty", ids: [] }) }] : []),
    { icon: "share", label: _("Shared links"), act: open("shares") },
    { icon: "download", label: _("Import and export"), act: open("transfer") },
  ]);
}

export function select() {
  dress();
  store.selected.value = new Set();
}

/** What is asked in a dialog: {kind, ids, tags}. @param {any} wanted */
function ask(wanted) {
  store.organising.value = wanted;
  store.dialog.value = "organise";
}

/** @type {Record<string, [(count: number) => string, string]>} what is told, and how to undo it */
const DONE = {
  delete: [(count) => ngettext("The chat is in the bin.", "{count} chats are in the bin.", count), "restore"],
  archive: [(count) => ngettext("The chat is in the archive.", "{count} chats are in the archive.", count), "unarchive"],
  unarchive: [(count) => ngettext("The chat is out of the archive.", "{count} chats are out of the archive.", count), "archive"],
  restore: [(count) => ngettext("The chat is restored.", "{count} chats are restored.", count), ""],
  purge: [(count) => ngettext("The chat is deleted for good.", "{count} chats are deleted for good.", count), ""],
  move: [(count) => ngettext("The chat is in no folder.", "{count} chats are in no folder.", count), ""],
};

/**
 * The same for many; tells what was done, with a way back where there is one.
 * @param {string[]} ids
 * @param {string} action
 * @param {Record<string, any>} [more]
 */
export async function bulk(ids, action, more = {}) {
  try {
    for (let at = 0; at < ids.length; at += AT_ONCE) {
      await json("POST", `${ROOT}/conversations/bulk`, { ids: ids.slice(at, at + AT_ONCE), action, ...more });
    }
  } catch (error) {
    store.complain(error);
    return;
  }
  const [told, back] = DONE[action] ?? [(count) => ngettext("The chat is changed.", "{count} chats are changed.", count), ""];
  const { folder } = more;
  store.tell(folder ? ngettext("The chat is in “{folder}”.", "{count} chats are in “{folder}”.", ids.length, { folder }) : told(ids.length),
    back ? () => bulk(ids, back) : undefined);
  store.selected.value = null;
  const here = ids.includes(thread.chat.value?.id ?? "");
  store.chats.value = store.chats.value.filter((chat) => !ids.includes(chat.id));
  store.refreshList();
  store.refreshNames();
  if (here && ["delete", "purge"].includes(action)) newChat();
  else if (here) thread.open(thread.chat.value.id, { push: false });
}

/** Under the list while chats are selected. */
export function Selection() {
  const ids = [...(store.selected.value ?? [])];
  const { deleted, archived } = store.filter.value;
  const act = (/** @type {string} */ action) => () => bulk(ids, action);
  const none = !ids.length;
  const all = store.chats.value;
  const every = () => (store.selected.value = new Set(ids.length === all.length ? [] : all.map((chat) => chat.id)));
  return html`<div class="many-bar" role="toolbar" aria-label=${_("Selected chats")}>
    <button type="button" class="btn small" onClick=${every}>${ids.length === all.length && ids.length ? _("None") : _("All")}</button>
    <span role="status">${ids.length}</span><span class="push"></span>
    ${deleted
      ? html`<${Tap} icon="again" label=${_("Restore selected")} disabled=${none} onClick=${act("restore")} />
        <${Tap} icon="trash" label=${_("Delete selected for good")} disabled=${none} onClick=${() => ask({ kind: "purge", ids })} />`
      : html`<${Tap} icon="folder" label=${_("Move selected to folder")} disabled=${none} onClick=${() => ask({ kind: "folder", ids })} />
        <${Tap} icon="tag" label=${_("Tag selected")} disabled=${none} onClick=${() => ask({ kind: "tags", ids, tags: [] })} />
        <${Tap} icon="archive" label=${archived ? _("Take selected out of the archive") : _("Archive selected")} disabled=${none}
          onClick=${act(archived ? "unarchive" : "archive")} />
        <${Tap} icon="trash" label=${_("Delete selected")} disabled=${none} onClick=${act("delete")} />`}
    <${Tap} icon="close" label=${_("End selection")} onClick=${() => (store.selected.value = null)} /></div>`;
}

/** @param {{close: () => void}} props */
function Organise({ close }) {
  const { kind } = store.organising.value;
  if (kind === "purge" || kind === "empty") return html`<${Sure} close=${close} />`;
  return kind === "rename" ? html`<${Renaming} close=${close} />` : html`<${Names} close=${close} />`;
}

/** Before what cannot be undone. @param {{close: () => void}} props */
function Sure({ close }) {
  const { kind, ids } = store.organising.value;
  const what = kind === "empty" ? _("Empty the bin?") : ngettext("Delete this chat for good?", "Delete {count} chats for good?", ids.length);
  const go = async () => {
    close();
    if (kind === "purge") return bulk(ids, "purge");
    try {
      const { count } = await json("DELETE", `${ROOT}/conversations/bin`);
      store.tell(ngettext("{count} chat is deleted for good.", "{count} chats are deleted for good.", count));
      store.refreshList();
    } catch (error) {
      store.complain(error);
    }
  };
  return html`<${Dialog} label=${what} close=${close}><h2>${what}</h2><p class="mute">${_("This cannot be undone.")}</p>
    <footer><button type="button" class="btn" data-first onClick=${close}>${_("Keep")}</button>
      <button type="button" class="btn solid" onClick=${go}>${_("Delete")}</button></footer></${Dialog}>`;
}

/** @param {{close: () => void}} props */
function Renaming({ close }) {
  const [name, setName] = useState(store.filter.value.folder);
  const go = async (/** @type {Event} */ event) => {
    event.preventDefault();
    close();
    try {
      await json("PATCH", `${ROOT}/conversations/folders`, { name: store.filter.value.folder, to: name.trim() });
      store.refreshNames();
      store.show(name.trim() ? { folder: name.trim(), archived: "any" } : {});
    } catch (error) {
      store.complain(error);
    }
  };
  return html`<${Dialog} label=${_("Rename folder")} close=${close}><form onSubmit=${go}><h2>${_("Rename folder")}</h2>
    <input class="input" aria-label=${_("Name of the folder")} maxlength="100" data-first value=${name}
      onInput=${(/** @type {any} */ event) => setName(event.currentTarget.value)} />
    <p class="mute">${_("Empty: its chats are in no folder then.")}</p>
    <footer><button type="button" class="btn" onClick=${close}>${_("Cancel")}</button><button type="submit" class="btn solid">${_("Rename")}</button></footer></form></${Dialog}>`;
}

/** Folders to move to, tags to set, or both to look into. @param {{close: () => void}} props */
function Names({ close }) {
  const { kind, ids, tags = [] } = store.organising.value;
  const [words, setWords] = useState("");
  const [taken, setTaken] = useState(/** @type {string[]} */ (tags));
  const typed = words.trim();
  const fits = (/** @type {any} */ item) => item.name.toLowerCase().includes(typed.toLowerCase());
  const folders = store.names.value.folders.filter(fits).map((item) => ({ ...item, icon: "folder" }));
  const known = [...store.names.value.tags, ...taken.filter((tag) => !store.names.value.tags.some((item) => item.name === tag)).map((name) => ({ name, count: 0 }))];
  const labels = known.filter(fits).map((item) => ({ ...item, icon: "tag" }));
  const isNew = typed && ![...(kind === "folder" ? store.names.value.folders : known)].some((item) => item.name === typed);
  const rows = kind === "look" ? [...folders, ...labels]
    : kind === "folder"
      ? [...folders, ...(isNew ? [{ name: typed, icon: "plus", label: _("New folder “{name}”", { name: typed }) }] : []), ...(typed ? [] : [{ name: "", icon: "close", label: _("No folder") }])]
      : [...labels, ...(isNew ? [{ name: typed, icon: "plus", label: _("New tag “{name}”", { name: typed }) }] : [])];
  const use = (/** @type {any} */ item) => {
    if (kind === "tags") {
      setTaken(taken.includes(item.name) ? taken.filter((tag) => tag !== item.name) : [...taken, item.name]);
      setWords("");
      return;
    }
    close();
    if (kind === "folder") bulk(ids, "move", { folder: item.name });
    else store.show(item.icon === "folder" ? { folder: item.name, archived: "any" } : { tag: item.name, archived: "any" });
  };
  const save = async () => {
    close();
    const gone = tags.filter((/** @type {string} */ tag) => !taken.includes(tag));
    const fresh = taken.filter((tag) => !tags.includes(tag));
    if (fresh.length) await bulk(ids, "tag", { tags: fresh });
    if (gone.length) await bulk(ids, "untag", { tags: gone });
  };
  const row = (/** @type {any} */ item) => html`<span class="lead"><${Icon} name=${item.icon} /></span><span class="cut"><b class="cut">${item.label ?? item.name}</b></span>
    <small class="mute">${item.count || ""}</small>
    <span class="tick">${kind === "tags" && taken.includes(item.name) && html`<${Icon} name="check" /><span class="vh">${_("set")}</span>`}</span>`;
  const title = { folder: _("Move to folder"), tags: _("Tags"), look: _("Folders and tags") }[/** @type {"folder"} */ (kind)];
  return html`<${Dialog} label=${title} className="finder" close=${close}>
    <${Finder} label=${kind === "tags" ? _("Find or add a tag") : kind === "folder" ? _("Find or make a folder") : _("Find a folder or tag")}
      placeholder=${kind === "look" ? _("Find a folder or tag") : _("A name")} words=${words} setWords=${setWords} rows=${rows} use=${use} row=${row}
      note=${kind === "tags" ? _("set or remove") : kind === "folder" ? _("move") : _("show")}
      empty=${kind === "look" ? _("No folders and tags yet. A chat’s options have them.") : _("Write a name.")} />
    ${kind === "tags" && html`<footer class="many"><span class="mute">${taken.join(", ")}</span><span class="push"></span>
      <button type="button" class="btn" onClick=${close}>${_("Cancel")}</button><button type="button" class="btn solid" onClick=${save}>${_("Save")}</button></footer>`}
  </${Dialog}>`;
}

export const dialogs = { organise: Organise };
