// The list of chats, and who is signed in.

import { useEffect, useRef } from "preact/hooks";
import { signal } from "@preact/signals";
import { page } from "./api.js";
import { _, language } from "./i18n.js";
import * as store from "./store.js";
import * as thread from "./thread.js";
import { Icon, Later, Tap, focusBox, html, isWide, openMenu } from "./ui.js";
import { grouped, shownName, symbol } from "./words.js";

/** The id of the chat whose name is being changed. */
const renaming = signal("");

export function newChat() {
  thread.startNew();
  store.chosen.value = store.chosen.value.id ? store.chosen.value : store.usual();
  store.drawer.value = false;
  if (isWide()) focusBox();
}

/** @param {string} id @param {string} [leaf] */
export function openChat(id, leaf) {
  store.drawer.value = false;
  const opened = thread.open(id, { leaf });
  if (isWide() && !leaf) focusBox();
  return opened;
}

/** Which models answer the next messages side by side. */
export function compareModels() {
  store.drawer.value = false;
  store.picking.value = {
    label: _("Compare models"), many: true, taken: store.comparing.value, use: (models) => (store.comparing.value = models),
  };
  store.dialog.value = "models";
}

export function toggleSidebar() {
  if (!isWide()) {
    store.drawer.value = !store.drawer.value;
    return;
  }
  store.sidebar.value = !store.sidebar.value;
  store.remember("sidebar", store.sidebar.value ? "" : "off");
}

export function Sidebar() {
  const place = useRef(/** @type {HTMLElement | null} */ (null));
  const open = store.drawer.value;
  useEffect(() => {
    if (open) /** @type {HTMLElement | null} */ (place.current?.querySelector("a, button"))?.focus();
  }, [open]);
  const press = (/** @type {MouseEvent} */ event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    newChat();
  };
  return html`
    ${open && html`<div class="scrim" onClick=${() => (store.drawer.value = false)}></div>`}
    <nav class=${`side ${open ? "open" : ""}`} id="side" aria-label=${_("Chats")} ref=${place}>
      <header>
        <a class="wordmark" href="/"><${Icon} name="mark" /> g4fsite</a>
        <${Tap} icon=${open ? "close" : "sidebar"} label=${_("Hide sidebar")} keys="Control+B" onClick=${toggleSidebar} />
      </header>
      <div class="acts">
        <a class="row" href=${page.urls.chat} onClick=${press}><${Icon} name="write" /> ${_("New chat")}</a>
        <button type="button" class="row" aria-keyshortcuts="Control+K" onClick=${() => (store.dialog.value = "search")}>
          <${Icon} name="search" /> ${_("Search")} <span class="kbd push" aria-hidden="true">Ctrl K</span>
        </button>
        <button type="button" class="row" onClick=${compareModels}><${Icon} name="compare" /> ${_("Compare models")}</button>
      </div>
      <${Shown} />
      <div class="list"><${List} /></div>
      ${store.selected.value && html`<${Later} from=${organise} name="Selection" />`}
      <footer><${Me} /></footer>
    </nav>`;
}

const organise = () => import("./organise.js");

/** The menu of a chat, which is fetched with the first one. @param {Event} event @param {any} chat */
export function chatMenu(event, chat) {
  const anchor = /** @type {HTMLElement} */ (event.currentTarget);
  organise().then((parts) => parts.chatMenu(anchor, chat)).catch(store.complain);
}

/** What the list shows: everything, or one folder, tag, the archive or the bin. */
function Shown() {
  const name = shownName(store.filter.value);
  const { folders, tags } = store.names.value;
  const all = (/** @type {Event} */ event) => {
    const anchor = /** @type {HTMLElement} */ (event.currentTarget);
    organise().then((parts) => parts.listMenu(anchor)).catch(store.complain);
  };
  const only = (/** @type {Record<string, string>} */ wanted) => () => store.show({ ...wanted, archived: "any" });
  return html`<div class="shown">
    <div>${name ? html`<${Tap} small icon="left" label=${_("All chats")} onClick=${() => store.show({})} /><b class="cut">${name}</b>` : html`<b class="mute">${_("Chats")}</b>`}
      <span class="push"></span><${Tap} small icon="more" label=${_("Show chats: archive, bin, more")} aria-haspopup="menu" onClick=${all} /></div>
    ${!name && folders.slice(0, 6).map((folder) => html`<button type="button" class="row" key=${folder.name} onClick=${only({ folder: folder.name })}>
      <${Icon} name="folder" /><span class="cut">${folder.name}</span><span class="push mute">${folder.count}</span></button>`)}
    ${!name && tags.length > 0 && html`<div class="tags">${tags.slice(0, 6).map((tag) => html`<button type="button" class="tagl cut" key=${tag.name} onClick=${only({ tag: tag.name })}>${tag.name}</button>`)}</div>`}
  </div>`;
}

/** A chat that may be selected. @param {{chat: any}} props */
function Choice({ chat }) {
  const chosen = store.selected.value ?? new Set();
  const press = () => {
    const next = new Set(chosen);
    if (!next.delete(chat.id)) next.add(chat.id);
    store.selected.value = next;
  };
  return html`<li><label class="row"><input type="checkbox" checked=${chosen.has(chat.id)} onChange=${press} /><span class="cut">${chat.title || _("New chat")}</span></label></li>`;
}

function List() {
  const chats = store.chats.value;
  if (store.listProblem.value && !chats.length) {
    return html`<p class="none" role="alert">${store.listProblem.value}
      <button type="button" class="btn line" onClick=${store.refreshList}>${_("Try again")}</button></p>`;
  }
  if (!chats.length) {
    return store.cursor.value === undefined ? null
      : html`<p class="none">${shownName(store.filter.value) ? _("No chats here.") : _("No chats yet. They will be listed here, newest first.")}</p>`;
  }
  return html`${grouped(chats).map(({ name, chats: found }) => html`
      <section key=${name}><h2>${name}</h2><ul>${found.map((chat) => html`<${Row} key=${chat.id} chat=${chat} />`)}</ul></section>`)}
    ${store.cursor.value && html`<${More} />`}`;
}

/** Asks for more when it comes into view; a button for who does not scroll. */
function More() {
  const place = useRef(null);
  useEffect(() => {
    const watcher = new IntersectionObserver((seen) => seen[0].isIntersecting && store.olderChats());
    if (place.current) watcher.observe(place.current);
    return () => watcher.disconnect();
  }, [store.cursor.value]);
  return html`<button type="button" class="row" ref=${place} onClick=${store.olderChats}>${_("Older chats")}</button>`;
}

/** @param {{chat: any}} props */
function Row({ chat }) {
  if (store.selected.value) return html`<${Choice} chat=${chat} />`;
  if (renaming.value === chat.id) return html`<li><${Rename} chat=${chat} /></li>`;
  const current = thread.chat.value?.id === chat.id;
  const answering = thread.streams.value.has(chat.id) || store.answering.value.has(chat.id);
  const isFresh = thread.fresh.value.has(chat.id);
  const press = (/** @type {MouseEvent} */ event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    openChat(chat.id);
  };
  const title = chat.title || _("New chat");
  const options = (/** @type {Event} */ event) => chatMenu(event, chat);
  return html`<li class="item">
    <a class="row" href=${`${page.urls.chat}${chat.id}/`} aria-current=${current ? "page" : null} onClick=${press}>
      <span class="cut">${title}</span>
      ${answering ? html`<span class="lamp" role="img" aria-label=${_("Answering")}></span>`
        : isFresh && html`<span class="lamp new" role="img" aria-label=${_("New answer")}></span>`}
    </a>
    <button type="button" class="tap s" aria-label=${_("Options of {title}", { title })} aria-haspopup="menu" onClick=${options}>
      <${Icon} name="more" small /></button>
  </li>`;
}

/** @param {{chat: any}} props */
function Rename({ chat }) {
  const field = useRef(/** @type {HTMLInputElement | null} */ (null));
  useEffect(() => field.current?.select(), []);
  const done = async (/** @type {boolean} */ keep) => {
    if (renaming.value !== chat.id) return;
    renaming.value = "";
    const title = field.current?.value.trim() ?? "";
    if (keep && title && title !== chat.title) await thread.update(chat.id, { title }).catch(store.complain);
  };
  const keyed = (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "Enter" && event.key !== "Escape") return;
    event.preventDefault();
    event.stopPropagation();
    done(event.key === "Enter");
  };
  return html`<input class="input" aria-label=${_("Name of the chat")} maxlength="300" ref=${field} value=${chat.title}
    onKeyDown=${keyed} onBlur=${() => done(true)} />`;
}

/** @param {any} chat */
export async function remove(chat) {
  const open = thread.chat.value?.id === chat.id;
  const gone = await store.discard(chat, () => open && openChat(chat.id));
  if (gone && open) newChat();
}

/** @param {any} chat */
export async function rename(chat) {
  if (!store.chats.value.some((other) => other.id === chat.id)) {
    await store.show(chat.archived ? { archived: "true" } : {});
  }
  if (!isWide()) store.drawer.value = true;
  renaming.value = chat.id;
}

const THEMES = ["auto", "light", "dark"];
const theme = signal(document.documentElement.dataset.theme || "auto");

/** The next of system, light and dark. The admin keeps its choice under the same name. */
export function nextTheme() {
  theme.value = THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length];
  document.documentElement.dataset.theme = theme.value;
  try {
    localStorage.setItem("theme", theme.value);
  } catch {
    // For this page only, then.
  }
  store.said.value = _("Appearance: {name}", { name: themeName() });
}

const contrast = signal(document.documentElement.dataset.contrast === "more");

/** More contrast than the theme has, also where the system does not ask for it. */
function toggleContrast() {
  contrast.value = !contrast.value;
  if (contrast.value) document.documentElement.dataset.contrast = "more";
  else delete document.documentElement.dataset.contrast;
  try {
    localStorage.setItem("contrast", contrast.value ? "more" : "");
  } catch {
    // For this page only, then.
  }
}

/** Asked for by a press, as browsers want it. */
const notifying = () => import("./notify.js").then((module) => module.toggle()).catch(store.complain);

const themeName = () => ({ auto: _("System"), light: _("Light"), dark: _("Dark") })[theme.value] ?? _("System");

/** @typedef {{code: string, name: string}} Spoken */

/** The page's language. @returns {Spoken | undefined} */
const spoken = () => page.spoken.find((/** @type {Spoken} */ { code }) => code.toLowerCase() === language.toLowerCase());

/** The page again, in another language. @param {string} code */
function speak(code) {
  const form = /** @type {HTMLFormElement} */ (document.getElementById("language"));
  /** @type {HTMLInputElement} */ (form.elements.namedItem("language")).value = code;
  /** @type {HTMLInputElement} */ (form.elements.namedItem("next")).value = location.pathname;
  form.submit();
}

function Me() {
  const { user, urls } = page;
  const me = useRef(/** @type {HTMLElement | null} */ (null));
  const languageMenu = () => openMenu(/** @type {any} */ ({ currentTarget: me.current }), _("Language"), page.spoken.map((/** @type {Spoken} */ { code, name }) => ({
    icon: code === spoken()?.code ? "check" : "", label: html`<span lang=${code}>${name}</span>`, act: () => speak(code),
  })));
  const options = (/** @type {Event} */ event) => openMenu(event, _("Account"), [
    { icon: "contrast", label: _("Appearance"), hint: themeName(), act: nextTheme },
    { icon: "web", label: _("Language"), hint: spoken()?.name, act: languageMenu },
    { icon: "eye", label: _("High contrast"), hint: contrast.value ? _("On") : _("Off"), act: toggleContrast },
    { icon: "info", label: _("Notify me of answers"), hint: store.remembered("notify") ? _("On") : _("Off"), act: notifying },
    { icon: "memory", label: _("Memory"), act: () => (store.dialog.value = "memory") },
    { icon: "quote", label: _("Prompts"), act: () => (store.dialog.value = "prompts") },
    { icon: "share", label: _("Shared links"), act: () => (store.dialog.value = "shares") },
    { icon: "download", label: _("Import and export"), act: () => (store.dialog.value = "transfer") },
    { icon: "command", label: _("Keyboard shortcuts"), hint: "?", act: () => (store.dialog.value = "help") },
    { icon: "plug", label: _("Connect a client"), href: "/" },
    { icon: "key", label: _("Password"), href: urls.password },
    ...(urls.admin ? [{ icon: "shield", label: _("Admin"), href: urls.admin }] : []),
    { icon: "leave", label: _("Sign out"), form: "sign-out" },
  ]);
  return html`<button type="button" class="me" aria-haspopup="menu" ref=${me} onClick=${options}>
    <span class="face" aria-hidden="true">${symbol(user.name)}</span><b class="cut">${user.name}</b><${Icon} name="down" small />
  </button>`;
}
