// What is remembered of the user: to see, add, change, delete and search, and whether chats use it.

import { useEffect, useState } from "preact/hooks";
import { ROOT, json } from "./api.js";
import { _ } from "./i18n.js";
import * as store from "./store.js";
import { Dialog, Icon, Tap, html } from "./ui.js";
import { time } from "./words.js";

const MINE = `${ROOT}/memory/me`;

/** @param {{close: () => void}} props */
function Memory({ close }) {
  const [settings, setSettings] = useState(/** @type {any} */ (null));
  const [items, setItems] = useState(/** @type {any[] | null} */ (null));
  const [more, setMore] = useState(0);
  const [words, setWords] = useState("");
  const [adding, setAdding] = useState("");
  const [editing, setEditing] = useState("");
  const [sure, setSure] = useState(false);
  const [fault, setFault] = useState("");
  const attempt = async (/** @type {() => Promise<void>} */ work) => {
    setFault("");
    try {
      await work();
    } catch (error) {
      setFault(/** @type {Error} */ (error).message);
    }
  };
  const read = (page = 1) => attempt(async () => {
    const query = new URLSearchParams({ page: String(page), page_size: "50", ...(words.trim() ? { search: words.trim() } : {}) });
    const found = await json("GET", `${MINE}?${query}`);
    setItems((before) => (page > 1 ? [...(before ?? []), ...found.items] : found.items));
    setMore(found.more ? page + 1 : 0);
  });
  const look = () => attempt(async () => setSettings(await json("GET", `${MINE}/settings`)));
  useEffect(() => {
    look();
  }, []);
  useEffect(() => {
    const timer = setTimeout(read, words ? 200 : 0);
    return () => clearTimeout(timer);
  }, [words]);
  const use = (/** @type {boolean} */ on) => attempt(async () =>
    setSettings(await json("PATCH", `${MINE}/settings`, { used_in_chats: on })));
  const add = (/** @type {Event} */ event) => {
    event.preventDefault();
    const memory = adding.trim();
    if (!memory) return;
    attempt(async () => {
      const { count } = await json("POST", MINE, { items: [{ memory }] });
      if (!count) store.tell(_("That was remembered already."));
      setAdding("");
      await read();
      await look();
    });
  };
  const change = (/** @type {any} */ item, /** @type {string} */ memory) => {
    setEditing("");
    if (!memory || memory === item.memory) return;
    attempt(async () => {
      const changed = await json("PATCH", `${MINE}/${item.id}`, { memory });
      setItems((before) => (before ?? []).map((other) => (other.id === item.id ? changed : other)));
    });
  };
  const forget = (/** @type {any} */ item) => attempt(async () => {
    await json("DELETE", `${MINE}/${item.id}`);
    setItems((before) => (before ?? []).filter((other) => other.id !== item.id));
    await look();
  });
  const forgetAll = () => attempt(async () => {
    await json("DELETE", MINE);
    setSure(false);
    await read();
    await look();
  });
  return html`<${Dialog} label=${_("Memory")} className="wide" close=${close}>
    <h2>${_("Memory")}</h2>
    <label class="tick-row"><input type="checkbox" role="switch" data-first disabled=${!settings} checked=${settings?.used_in_chats ?? false}
      onChange=${(/** @type {any} */ event) => use(event.currentTarget.checked)} />
      <span>${_("Use it in chats")}<small class="mute">${_("What fits a question is sent to the model with it.")}</small></span></label>
    <form class="joined" onSubmit=${add}><input class="input" aria-label=${_("Something to remember")} maxlength="4000" placeholder=${_("I write British English.")}
        value=${adding} onInput=${(/** @type {any} */ event) => setAdding(event.currentTarget.value)} />
      <button type="submit" class="btn line" disabled=${!adding.trim()}>${_("Remember")}</button></form>
    <div class="find inner"><${Icon} name="search" /><input type="search" aria-label=${_("Search memory")} placeholder=${_("Search memory")} value=${words}
      onInput=${(/** @type {any} */ event) => setWords(event.currentTarget.value)} /></div>
    ${fault && html`<p class="err" role="alert">${fault}</p>`}
    ${items?.length === 0 && html`<p class="mute">${words ? _("Nothing with “{words}”.", { words }) : _("Nothing is remembered of you.")}</p>`}
    <ul class="rows">${(items ?? []).map((item) => html`<li key=${item.id}>${editing === item.id
      ? html`<${Editing} item=${item} done=${change} />`
      : html`<span class="wraps">${item.memory}<small class="mute">${time(item.updated_at)}</small></span>
        <${Tap} small icon="edit" label=${_("Change: {text}", { text: item.memory.slice(0, 60) })} onClick=${() => setEditing(item.id)} />
        <${Tap} small icon="trash" label=${_("Forget: {text}", { text: item.memory.slice(0, 60) })} onClick=${() => forget(item)} />`}</li>`)}</ul>
    ${more > 0 && html`<button type="button" class="btn line" onClick=${() => read(more)}>${_("More")}</button>`}
    <footer>${sure
      ? html`<span>${_("Forget all {count} for good?", { count: settings?.count })}</span><span class="push"></span>
        <button type="button" class="btn" onClick=${() => setSure(false)}>${_("Keep")}</button><button type="button" class="btn bad" onClick=${forgetAll}>${_("Forget")}</button>`
      : html`${settings?.count > 0 && html`<button type="button" class="btn" onClick=${() => setSure(true)}>${_("Forget everything")}</button>`}
        <span class="push mute">${settings && _("{part} of {all}", { part: settings.count, all: settings.limit })}</span>
        <button type="button" class="btn line" onClick=${close}>${_("Close")}</button>`}</footer></${Dialog}>`;
}

/** @param {{item: any, done: (item: any, words: string) => void}} props */
function Editing({ item, done }) {
  const [words, setWords] = useState(item.memory);
  const keyed = (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Escape") done(item, "");
    else if (event.key === "Enter" && !event.isComposing) done(item, words.trim());
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  return html`<input class="input" aria-label=${_("What is remembered")} maxlength="4000" value=${words} ref=${(/** @type {any} */ field) => field?.focus()}
      onInput=${(/** @type {any} */ event) => setWords(event.currentTarget.value)} onKeyDown=${keyed} />
    <button type="button" class="btn line" onClick=${() => done(item, words.trim())}>${_("Save")}</button>`;
}

export const dialogs = { memory: Memory };
