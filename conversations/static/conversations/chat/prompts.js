// The library of prompts: the list that a slash opens over the message box, what fills in variables, and the dialog that keeps them.

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { signal } from "@preact/signals";
import { ROOT, json } from "./api.js";
import { _ } from "./i18n.js";
import { filled, matching, variablesOf, wordOf } from "./slash.js";
import * as store from "./store.js";
import * as thread from "./thread.js";
import { Dialog, Icon, Tap, dress, focusBox, html } from "./ui.js";

/** @typedef {import("./slash.js").Prompt} Prompt */

const MINE = `${ROOT}/prompts`;
const prompts = signal(/** @type {Prompt[] | null} */ (null));
const limit = signal(0);
/** The one whose variables are asked for. */
const filling = signal(/** @type {Prompt | null} */ (null));
const styled = signal(false);

async function read() {
  const found = await json("GET", MINE);
  limit.value = found.limit;
  prompts.value = found.data;
}

/** Instead of the word that called it, or below what is written already. @param {string} text */
function insert(text) {
  const box = /** @type {HTMLTextAreaElement | null} */ (document.getElementById("message"));
  const before = box?.value ?? "";
  const called = !before.trim() || wordOf(before) !== undefined;
  thread.returned.value = called ? text : `${before.trimEnd()}\n\n${text}`;
  // The dialog that closes gives the focus back first.
  setTimeout(focusBox);
}

/** @param {Prompt} prompt */
function use(prompt) {
  if (!variablesOf(prompt.text).length) {
    store.dialog.value = "";
    insert(prompt.text);
    return;
  }
  filling.value = prompt;
  store.dialog.value = "fill";
}

/**
 * The list above the message box. The focus stays in the box, which hands its keys to `keys.current` and is told by
 * `tell` which option is the active one; none: nothing is shown.
 * @param {{text: string, keys: {current: any}, tell: (active: string | null) => void, close: () => void}} props
 */
export function Suggestions({ text, keys, tell, close }) {
  const word = wordOf(text);
  const [at, setAt] = useState(0);
  const list = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    Promise.all([read(), dress()]).then(() => (styled.value = true)).catch((error) => (close(), store.complain(error)));
  }, []);
  useEffect(() => setAt(0), [word]);
  const known = prompts.value;
  const found = known && word !== undefined ? matching(known, word) : [];
  const rows = styled.value && known && (found.length || !word) ? [...found, null] : [];
  const here = Math.min(at, Math.max(rows.length - 1, 0));
  const choose = (/** @type {Prompt | null} */ prompt) => {
    close();
    if (prompt) use(prompt);
    else store.dialog.value = "prompts";
  };
  useLayoutEffect(() => {
    tell(rows.length ? `slash-${here}` : null);
    list.current?.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" });
    keys.current = (/** @type {KeyboardEvent} */ event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      const takes = (event.key === "Enter" || event.key === "Tab") && !event.shiftKey;
      // Who types faster than the list comes does not mean to send the word.
      if (!rows.length) return event.key === "Enter" && !known && word !== undefined;
      if (step) setAt((here + step + rows.length) % rows.length);
      else if (takes) choose(rows[here]);
      else if (event.key === "Escape") close();
      else return false;
      return true;
    };
  });
  useEffect(() => () => {
    keys.current = null;
    tell(null);
  }, []);
  if (!rows.length) return null;
  return html`<div class="pop opts slash" role="listbox" id="slash" aria-label=${_("Prompts")} ref=${list} onMouseDown=${(/** @type {Event} */ event) => event.preventDefault()}>
    ${rows.map((prompt, index) => html`<div key=${prompt?.id ?? "all"} class=${index === here ? "opt on" : "opt"} role="option" id=${`slash-${index}`}
      aria-selected=${index === here} onClick=${() => choose(prompt)} onMouseMove=${() => index !== here && setAt(index)}>
      <span class="lead"><${Icon} name=${prompt ? "quote" : "plus"} /></span>
      ${prompt ? html`<span class="cut"><b class="cut">/${prompt.name}</b><small class="cut">${prompt.title || prompt.text}</small></span>`
        : html`<span><b>${known?.length ? _("Edit prompts") : _("Write your first prompt")}</b></span>`}</div>`)}</div>`;
}

/** Asks for what is not said yet. @param {{close: () => void}} props */
function Fill({ close }) {
  const prompt = filling.value;
  const names = prompt ? variablesOf(prompt.text) : [];
  const [values, setValues] = useState(/** @type {Record<string, string>} */ ({}));
  const done = (/** @type {Event} */ event) => {
    event.preventDefault();
    close();
    insert(filled(prompt?.text ?? "", values));
  };
  const keyed = (/** @type {KeyboardEvent} */ event) => event.key === "Enter" && (event.ctrlKey || event.metaKey) && done(event);
  return html`<${Dialog} label=${_("Fill in")} close=${close}>
    <h2>${prompt?.title || `/${prompt?.name}`}</h2>
    <form class="fields" onSubmit=${done} onKeyDown=${keyed}>
      ${names.map((name, index) => html`<label>${name}<textarea class="input tall" rows="2" data-first=${index ? null : true} value=${values[name] ?? ""}
        onInput=${(/** @type {any} */ event) => setValues({ ...values, [name]: event.currentTarget.value })}></textarea></label>`)}
      <footer><button type="button" class="btn" onClick=${close}>${_("Cancel")}</button>
        <button type="submit" class="btn solid" aria-keyshortcuts="Control+Enter">${_("Insert")}</button></footer></form></${Dialog}>`;
}

/** All of them, or the one that is written. @param {{close: () => void}} props */
function Library({ close }) {
  const [editing, setEditing] = useState(/** @type {any} */ (null));
  const [fault, setFault] = useState("");
  const attempt = async (/** @type {() => Promise<any>} */ work) => {
    setFault("");
    try {
      await work();
    } catch (error) {
      setFault(/** @type {Error} */ (error).message);
    }
  };
  useEffect(() => {
    attempt(read);
  }, []);
  const fresh = useRef(/** @type {HTMLElement | null} */ (null));
  useLayoutEffect(() => {
    if (!editing) fresh.current?.focus();
  }, [editing]);
  const save = (/** @type {any} */ { id, name, title, text }) => attempt(async () => {
    await json(id ? "PATCH" : "POST", id ? `${MINE}/${id}` : MINE, { name, title, text });
    await read();
    setEditing(null);
  });
  const remove = (/** @type {Prompt} */ prompt) => attempt(async () => {
    await json("DELETE", `${MINE}/${prompt.id}`);
    await read();
    const { name, title, text } = prompt;
    store.tell(_("Prompt deleted."), () => json("POST", MINE, { name, title, text }).then(read).catch(store.complain));
  });
  const all = prompts.value;
  return html`<${Dialog} label=${_("Prompts")} className="wide" close=${close}>
    <h2>${_("Prompts")}</h2>
    ${editing ? html`<${Editing} key=${editing.id} prompt=${editing} save=${save} fault=${fault} leave=${() => (setFault(""), setEditing(null))} />` : html`
    <p class="mute">${_("Texts that you use again. A slash and the name, at the beginning of a message, call them.")}</p>
    ${fault && html`<p class="err" role="alert">${fault}</p>`}
    ${all?.length === 0 && html`<p class="mute">${_("There are none yet.")}</p>`}
    <ul class="rows">${(all ?? []).map((prompt) => html`<li key=${prompt.id}>
      <button type="button" class="cut" title=${_("Use it")} onClick=${() => use(prompt)}><b>/${prompt.name}</b><small class="mute cut">${prompt.title || prompt.text}</small></button>
      <${Tap} small icon="edit" label=${_("Change: {name}", { name: prompt.name })} onClick=${() => setEditing(prompt)} />
      <${Tap} small icon="trash" label=${_("Delete: {name}", { name: prompt.name })} onClick=${() => remove(prompt)} /></li>`)}</ul>
    <footer><span class="mute">${all && _("{count} of {limit} prompts", { count: all.length, limit: limit.value })}</span><span class="push"></span>
      <button type="button" class="btn" onClick=${close}>${_("Close")}</button>
      <button type="button" class="btn solid" ref=${fresh} onClick=${() => setEditing({ name: "", title: "", text: "" })}>${_("New prompt")}</button></footer>`}</${Dialog}>`;
}

/** @param {{prompt: any, save: (prompt: any) => void, leave: () => void, fault: string}} props */
function Editing({ prompt, save, leave, fault }) {
  const [now, setNow] = useState(prompt);
  const first = useRef(/** @type {HTMLInputElement | null} */ (null));
  useLayoutEffect(() => first.current?.focus(), []);
  const set = (/** @type {string} */ name) => (/** @type {any} */ event) => setNow({ ...now, [name]: event.currentTarget.value });
  const done = (/** @type {Event} */ event) => {
    event.preventDefault();
    save(now);
  };
  // Escape leaves what is written here, not the dialog.
  const keyed = (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "Escape") return;
    event.preventDefault();
    event.stopPropagation();
    leave();
  };
  return html`<form class="fields" onSubmit=${done} onKeyDown=${keyed}>
    <label>${_("Name")}<input class="input" required maxlength="40" pattern="/?[\\p{L}\\p{N}_][\\p{L}\\p{N}_\\-]*" autocapitalize="none" autocomplete="off" spellcheck=${false}
      title=${_("One word of letters, digits, hyphens and underscores")} placeholder="summary" ref=${first} value=${now.name} onInput=${set("name")} /></label>
    <label>${_("Title")}<input class="input" maxlength="200" value=${now.title} onInput=${set("title")} /></label>
    <label>${_("Text")}<textarea class="input tall" rows="6" required maxlength="16000" aria-describedby="prompt-note" value=${now.text} onInput=${set("text")}></textarea></label>
    <p class="mute" id="prompt-note">${_("What stands in double braces, as {example}, is asked for when the prompt is used.", { example: "{{language}}" })}</p>
    ${fault && html`<p class="err" role="alert">${fault}</p>`}
    <footer><button type="button" class="btn" onClick=${leave}>${_("Cancel")}</button><button type="submit" class="btn solid">${_("Save")}</button></footer></form>`;
}

export const dialogs = { prompts: Library, fill: Fill };
