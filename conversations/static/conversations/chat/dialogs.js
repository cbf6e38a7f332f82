// What opens over the page often: search and commands, and the list of keys; and the finder that choices are made with.

import { useEffect, useRef, useState } from "preact/hooks";
import { ROOT, json } from "./api.js";
import { _ } from "./i18n.js";
import { compareModels, newChat, nextTheme, openChat, toggleSidebar } from "./sidebar.js";
import * as store from "./store.js";
import * as thread from "./thread.js";
import { Dialog, Icon, html } from "./ui.js";
import { time } from "./words.js";

/**
 * A field over a list that the arrow keys walk.
 * @param {any} props
 */
export function Finder({ label, placeholder, words, setWords, rows, use, row, empty, note, tools = null, hints = null, also = null }) {
  const [at, setAt] = useState(0);
  const list = useRef(/** @type {HTMLElement | null} */ (null));
  const here = Math.min(at, Math.max(rows.length - 1, 0));
  useEffect(() => {
    list.current?.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" });
  }, [here, rows]);
  const keyed = (/** @type {KeyboardEvent} */ event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && rows.length) setAt((here + step + rows.length) % rows.length);
    else if (event.key === "Enter" && !event.isComposing && rows[here]) use(rows[here]);
    else if (!also?.(event, rows[here])) return;
    event.preventDefault();
  };
  const typed = (/** @type {any} */ event) => {
    setAt(0);
    setWords(event.currentTarget.value);
  };
  return html`<div class="find"><${Icon} name="search" />
      <input type="text" role="combobox" aria-label=${label} aria-expanded="true" aria-controls="found" data-first
        aria-activedescendant=${rows.length ? `found-${here}` : null} aria-autocomplete="list" autocomplete="off"
        spellcheck=${false} placeholder=${placeholder} value=${words} onInput=${typed} onKeyDown=${keyed} /></div>${tools}
    ${rows.length
      ? html`<div class="opts" role="listbox" id="found" aria-label=${label} ref=${list}>
          ${rows.map((/** @type {any} */ item, /** @type {number} */ index) => html`<div class=${index === here ? "opt on" : "opt"}
            role="option" id=${`found-${index}`} aria-selected=${index === here} onClick=${() => use(item)}
            onMouseMove=${() => index !== here && setAt(index)}>${row(item)}</div>`)}</div>`
      : html`<div class="opts" role="listbox" id="found" aria-label=${label}></div><p class="none" role="status">${empty}</p>`}
    <div class="foot" aria-hidden="true"><span><kbd>↑</kbd><kbd>↓</kbd> ${_("choose")}</span><span><kbd>Enter</kbd> ${note}</span><span><kbd>Esc</kbd> ${_("close")}</span>${hints}</div>`;
}

const COMMANDS = [
  { icon: "write", name: _("New chat"), keys: "Ctrl Shift O", act: newChat },
  { icon: "tune", name: _("Choose a model"), act: () => (store.dialog.value = "models") },
  { icon: "tune", name: _("Instructions for this chat"), act: () => (store.dialog.value = "settings") },
  { icon: "compare", name: _("Compare models"), act: compareModels },
  { icon: "branch", name: _("Branch map"), act: () => (store.dialog.value = thread.chat.value ? "branches" : "") },
  { icon: "share", name: _("Share this chat"), act: () => (store.dialog.value = thread.chat.value ? "share" : "shares") },
  { icon: "share", name: _("Shared links"), act: () => (store.dialog.value = "shares") },
  { icon: "download", name: _("Import and export"), act: () => (store.dialog.value = "transfer") },
  { icon: "memory", name: _("Memory"), act: () => (store.dialog.value = "memory") },
  { icon: "quote", name: _("Prompts"), act: () => (store.dialog.value = "prompts") },
  { icon: "archive", name: _("Show the archive"), act: () => store.show({ archived: "true" }) },
  { icon: "trash", name: _("Show the bin"), act: () => store.show({ deleted: "true", archived: "any" }) },
  { icon: "temp", name: _("New temporary chat"), act: () => (newChat(), (thread.temporary.value = true)) },
  { icon: "contrast", name: _("Change appearance"), act: nextTheme },
  { icon: "sidebar", name: _("Show or hide the sidebar"), keys: "Ctrl B", act: toggleSidebar },
  { icon: "command", name: _("Keyboard shortcuts"), keys: "?", act: () => (store.dialog.value = "help") },
];

/** @param {{close: () => void}} props */
function Search({ close }) {
  const [words, setWords] = useState("");
  const [hits, setHits] = useState(/** @type {any[]} */ ([]));
  const [state, setState] = useState("");
  useEffect(() => {
    if (!words.trim()) {
      setHits([]);
      return undefined;
    }
    let current = true;
    setState(_("Searching"));
    const timer = setTimeout(async () => {
      try {
        const found = await json("GET", `${ROOT}/conversations?archived=any&limit=20&q=${encodeURIComponent(words.trim())}`);
        if (current) setHits(found.data);
        if (current) setState("");
      } catch (error) {
        if (current) setState(/** @type {Error} */ (error).message);
      }
    }, 150);
    return () => {
      current = false;
      clearTimeout(timer);
    };
  }, [words]);
  const wanted = words.trim().toLowerCase();
  const commands = COMMANDS.filter((command) => command.name.toLowerCase().includes(wanted));
  const chats = wanted ? hits : store.chats.value.slice(0, 6);
  const use = (/** @type {any} */ item) => {
    close();
    if (item.act) item.act();
    else openChat(item.id, item.hits?.[0]?.message);
  };
  const row = (/** @type {any} */ item) => item.act
    ? html`<span class="lead"><${Icon} name=${item.icon} /></span><span><b>${item.name}</b></span><span></span>
        <span class="kbd">${item.keys ?? ""}</span>`
    : html`<span class="lead"><${Icon} name="right" /></span><span class="cut"><b class="cut">${item.title || _("New chat")}</b>
        ${item.hits?.[0] && html`<small class="cut">${item.hits[0].snippet.map((/** @type {any} */ piece) => (piece.match ? html`<mark>${piece.text}</mark>` : piece.text))}</small>`}</span>
        <span></span><small class="mute">${time(item.updated_at)}</small>`;
  return html`<${Dialog} label=${_("Search")} className="finder" close=${close}>
    <${Finder} label=${_("Search chats and commands")} placeholder=${_("Search chats and commands")} words=${words} setWords=${setWords}
      rows=${[...chats, ...commands]} use=${use} row=${row} note=${_("open")} empty=${state || _("No messages with “{words}”.", { words: words.trim() })} /></${Dialog}>`;
}

const KEYS = [
  [_("Send"), "Enter"], [_("New line"), "Shift Enter"], [_("Stop the answer, or close"), "Esc"], [_("Search chats and commands"), "Ctrl K"],
  [_("Find in this chat"), "Ctrl F"],
  [_("New chat"), "Ctrl Shift O"], [_("Message box"), "/"], [_("Prompts, at the beginning of a message"), "/"], [_("Show or hide the sidebar"), "Ctrl B"], [_("Favourite, in the choice of a model"), "Alt S"], [_("This list"), "?"],
];

/** @param {{close: () => void}} props */
function Help({ close }) {
  return html`<${Dialog} label=${_("Keyboard shortcuts")} close=${close}>
    <h2>${_("Keyboard shortcuts")}</h2>
    <dl class="keys">${KEYS.map(([name, keys]) => html`<div><dt>${name}</dt><dd>${keys.split(" ").map((one) => html`<kbd class="kbd">${one}</kbd> `)}</dd></div>`)}</dl>
    <p class="mute">${_("On a Mac, Cmd works like Ctrl. Single keys work outside text fields.")}</p>
    <footer><button type="button" class="btn line" data-first onClick=${close}>${_("Close")}</button></footer></${Dialog}>`;
}

/** @type {Record<string, any>} */
export const dialogs = { search: Search, help: Help };
