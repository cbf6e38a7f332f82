// The chat page: puts the parts together, follows the address, and hears the keys that work everywhere.

import { render } from "preact";
import { signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { page } from "./api.js";
import { Viewer } from "./attachments.js";
import { Composer } from "./composer.js";
import { _, ngettext, parts as placed } from "./i18n.js";
import { Sidebar, chatMenu, newChat, nextTheme, openChat, toggleSidebar } from "./sidebar.js";
import * as store from "./store.js";
import * as thread from "./thread.js";
import { Announcer, Icon, Menu, Tap, Toast, dress, focusBox, html, menu } from "./ui.js";
import { cost, tokens } from "./words.js";

function App() {
  const open = store.sidebar.value ? "app" : "app bare";
  return html`
    <a class="skip" href="#message" onClick=${skip}>${_("Go to the message box")}</a>
    <div class=${open}>
      <${Sidebar} />
      <main class="main">
        <${Bar} />
        <div class="middle"><${Banner} /><${Middle} /></div>
        ${thread.phase.value !== "missing" && html`<${Composer} />`}
      </main>
    </div>
    <${Menu} /><${Toast} /><${Announcer} /><${OpenDialog} /><${Viewer} />`;
}

/** @param {Event} event */
function skip(event) {
  event.preventDefault();
  focusBox();
}

function Bar() {
  const chat = thread.chat.value;
  const title = chat?.title || _("New chat");
  document.title = `${title} · g4fsite`;
  const spent = [cost(chat?.totals?.cost), tokens(chat?.totals)].filter(Boolean).join(" · ");
  const options = (/** @type {Event} */ event) => chatMenu(event, chat);
  const passing = chat ? chat.temporary : thread.temporary.value;
  return html`<header class="bar">
    <${Tap} icon="menu" label=${_("Show chats")} aria-controls="side" aria-expanded=${store.drawer.value} onClick=${toggleSidebar} />
    <h1 class="cut">${title}</h1>
    ${spent && html`<span class="sum" title=${_("All answers of this chat, in every version")}>${spent}</span>`}
    ${passing && html`<span class="tagl" title=${_("In no list, and deleted a day after it was last used")}>${_("Temporary")}</span>`}
    <span class="push"></span>
    ${!chat && !thread.messages.value.length && html`<${Tap} icon="temp" label=${_("Temporary chat")} aria-pressed=${thread.temporary.value}
      onClick=${() => (thread.temporary.value = !thread.temporary.value)} />`}
    ${chat && !chat.deleted_at && thread.messages.value.length > 0 && html`<${Tap} icon="share" label=${_("Share this chat")} aria-haspopup="dialog" onClick=${() => (store.dialog.value = "share")} />`}
    <${Tap} icon="write" label=${_("New chat")} keys="Control+Shift+O" onClick=${newChat} />
    ${chat && html`<${Tap} icon="more" label=${_("Options of this chat")} aria-haspopup="menu" onClick=${options} />`}
  </header>`;
}

function Banner() {
  if (store.signedOut.value) {
    const back = `${page.urls.login}?next=${encodeURIComponent(location.pathname)}`;
    return html`<p class="banner" role="alert"><${Icon} name="alert" /><span>${placed(_("You were signed out. {link}; your draft stays."), { link: html`<a href=${back}>${_("Sign in again")}</a>` })}</span></p>`;
  }
  if (store.online.value && thread.chat.value?.deleted_at) {
    return html`<p class="banner" role="status"><${Icon} name="trash" /><span>${_("This chat is in the bin. Its options restore it.")}</span></p>`;
  }
  if (store.online.value) return null;
  return html`<p class="banner" role="status"><${Icon} name="offline" /><span><strong>${_("You’re offline.")}</strong> ${_("You can read and write; what you write stays in the box until you’re back.")}</span></p>`;
}

function Middle() {
  if (thread.phase.value === "missing") {
    return html`<div class="first"><div><h2>${_("This chat is not here.")}</h2><p>${_("It was deleted, or it is somebody else’s.")}</p>
      <p><button type="button" class="btn line" onClick=${newChat}>${_("New chat")}</button></p></div></div>`;
  }
  if (thread.phase.value === "loading") return html`<${Slow} />`;
  const empty = !thread.chat.value && !thread.messages.value.length;
  if (empty) return html`<${First} />`;
  if (!talk.value) loadTalk();
  return talk.value && html`<${talk.value.Log} />`;
}

/** What shows a conversation. Who begins a new chat has it by the time there is something to show. */
const talk = signal(/** @type {any} */ (null));

function loadTalk() {
  import("./turns.js").then((module) => (talk.value = module)).catch(store.complain);
  // What the first answer will be written with.
  import("./markdown.js").catch(() => {});
}

/** Nothing for 300 ms, then that something is on its way. */
function Slow() {
  const [late, setLate] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setLate(true), 300);
    return () => clearTimeout(timer);
  }, []);
  return late && html`<p class="waits alone" role="status"><span class="lamp"></span>${_("Reading the chat")}</p>`;
}

function First() {
  const count = store.models.value?.length;
  if (count === undefined) return html`<div class="first"></div>`;
  if (!count) {
    return html`<div class="first"><div><h2>${_("No model is connected yet.")}</h2>
      <p>${page.urls.admin ? placed(_("{link}: it takes a minute."), { link: html`<a href=${page.urls.provider}>${_("Add a provider")}</a>` }) : _("Your administrator can add one.")}</p></div></div>`;
  }
  const passing = thread.temporary.value && html`<p><strong>${_("Temporary chat.")}</strong> ${_("It is in no list and no search, and is deleted a day after it was last used.")}</p>`;
  const hello = store.chats.value.length ? _("What is it about?") : ngettext("One model is ready.", "{count} models are ready.", count);
  return html`<div class="first"><div><h2>${hello}</h2>
    <p>${_("What you write is kept on this server, and sent only to the provider of the model you pick.")}</p>${passing}</div>
    <ul class="starts">${STARTS.map(([icon, name, words]) => html`<li><button type="button" onClick=${() => start(words)}>
      <${Icon} name=${icon} /><span><b>${name}</b><small>${words}</small></span><${Icon} name="right" small /></button></li>`)}</ul></div>`;
}

const STARTS = [
  ["edit", _("Improve a text"), `${_("Make this clearer and a third shorter, and say what you changed:")}\n\n`],
  ["code", _("Explain some code"), `${_("Explain step by step what this code does and where it can fail:")}\n\n`],
  ["think", _("Weigh a decision"), `${_("List what speaks for and against each option, then say which you would take and why:")}\n\n`],
];

/** @param {string} words */
function start(words) {
  thread.returned.value = words;
  focusBox();
}

const common = () => import("./dialogs.js");
const sharing = () => import("./sharing.js");
const prompts = () => import("./prompts.js");
/** Where dialogs are that are not among the common ones. @type {Record<string, () => Promise<any>>} */
const RARE = {
  find: () => import("./find.js").then((module) => ({ dialogs: { find: module.default } })),
  models: () => import("./models.js"),
  settings: () => import("./settings.js"),
  share: sharing,
  shares: sharing,
  continue: sharing,
  transfer: () => import("./transfer.js"),
  memory: () => import("./memory.js"),
  prompts,
  fill: prompts,
  branches: () => import("./branches.js"),
  organise: () => import("./organise.js"),
};

/** Dialogs are fetched when one is opened. */
function OpenDialog() {
  const name = store.dialog.value;
  const [parts, setParts] = useState(/** @type {any} */ ({}));
  useEffect(() => {
    if (!name || parts[name]) return;
    const styled = name in RARE && name !== "find" ? dress() : null;
    Promise.all([(RARE[name] ?? common)(), styled]).then(([found]) => setParts((/** @type {any} */ known) => ({ ...known, ...found.dialogs }))).catch(store.complain);
  }, [name]);
  const Shown = name && parts[name];
  return Shown ? html`<${Shown} key=${name} close=${() => (store.dialog.value = "")} />` : null;
}

/** Opens what the address names. */
function arrive() {
  const id = page.urls.chat && location.pathname.slice(page.urls.chat.length).replace(/\/$/, "");
  const leaf = location.hash.startsWith("#m-") ? location.hash.slice(3) : "";
  if (new URLSearchParams(location.search).has("continue")) store.dialog.value = "continue";
  if (id) thread.open(id, { push: false, leaf });
  else thread.startNew(false);
}

/** @param {KeyboardEvent} event */
function key(event) {
  const typing = /** @type {HTMLElement} */ (event.target).closest("input, textarea, select, [contenteditable]");
  const control = event.ctrlKey || event.metaKey;
  const letter = event.key.toLowerCase();
  const dialogOpen = Boolean(store.dialog.value || menu.value || document.querySelector("dialog[open]"));
  if (control && !event.shiftKey && letter === "k") store.dialog.value = "search";
  // The browser finds what is on the page; where that is not all of the chat, the server looks.
  else if (control && !event.shiftKey && letter === "f" && thread.chat.value && !dialogOpen) store.dialog.value = "find";
  else if (control && event.shiftKey && letter === "o") newChat();
  else if (control && !event.shiftKey && letter === "b") toggleSidebar();
  else if (event.key === "Escape" && !dialogOpen) escape();
  else if (event.key === "/" && !typing && !control && !dialogOpen) focusBox();
  else if (event.key === "?" && !typing && !dialogOpen) store.dialog.value = "help";
  else return;
  event.preventDefault();
}

function escape() {
  if (store.drawer.value) store.drawer.value = false;
  else if (thread.current()) thread.stop();
}

function look() {
  if (document.hidden) return;
  store.refreshList().then(thread.catchUp);
}

addEventListener("popstate", arrive);
addEventListener("input", () => talk.value || !navigator.onLine || loadTalk());
addEventListener("keydown", key);
addEventListener("online", () => ((store.online.value = true), look()));
addEventListener("offline", () => (store.online.value = false));
document.addEventListener("visibilitychange", look);

const root = /** @type {HTMLElement} */ (document.getElementById("app"));
root.replaceChildren();
render(html`<${App} />`, root);
arrive();
// Without a server the worker shows a page that says so. Where it cannot be had, all else works.
const workers = navigator.serviceWorker;
const install = () => workers?.register(page.urls.worker).catch(() => {});
document.getElementById("sign-out")?.addEventListener("submit", () => workers?.controller?.postMessage("forget"));
// News are heard once the page has what it shows first.
const hear = () => import("./live.js").then((live) => live.start(look)).catch(store.complain);
Promise.all([store.refreshList(), store.loadModels()]).then(() => setTimeout(() => (hear(), install()), 1000));

export { nextTheme, openChat };
