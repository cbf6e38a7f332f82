// Chats out of here as files, and in from here and elsewhere.

import { useRef, useState } from "preact/hooks";
import { ROOT, upload } from "./api.js";
import { openChat } from "./sidebar.js";
import * as store from "./store.js";
import { Dialog, Icon, html } from "./ui.js";

/** @type {Record<string, string>} */
const BECAME = { imported: "imported", updated: "new messages", unchanged: "was here", failed: "failed" };
const SHOWN = 200;

/** @param {{close: () => void}} props */
function Transfer({ close }) {
  const [part, setPart] = useState(0);
  const [state, setState] = useState("");
  const [fault, setFault] = useState("");
  const [report, setReport] = useState(/** @type {any} */ (null));
  const way = useRef(/** @type {AbortController | null} */ (null));
  const leave = () => {
    way.current?.abort();
    close();
  };
  const send = async (/** @type {File | undefined} */ file) => {
    if (!file || state) return;
    way.current = new AbortController();
    setFault("");
    setReport(null);
    setState("sending");
    const form = new FormData();
    form.append("file", file);
    try {
      const told = await upload(`${ROOT}/conversations/import`, form, (done) => {
        setPart(done);
        if (done === 1) setState("reading");
      }, way.current.signal);
      setReport(told);
      store.said.value = summary(told);
      store.refreshList();
    } catch (error) {
      if (/** @type {any} */ (error).name !== "AbortError") setFault(/** @type {Error} */ (error).message);
    }
    setState("");
    setPart(0);
  };
  const drop = (/** @type {DragEvent} */ event) => {
    event.preventDefault();
    send(event.dataTransfer?.files[0]);
  };
  return html`<${Dialog} label="Import and export" className="wide" close=${leave}>
    <h2>Import and export</h2>
    <h3>Import</h3>
    <p class="mute">From ChatGPT, Claude, Open WebUI, g4f or this server: the file you were given there, JSON or ZIP. The same file again doubles nothing.</p>
    <label class="drop-file" onDragOver=${(/** @type {Event} */ event) => event.preventDefault()} onDrop=${drop}>
      <${Icon} name="plus" /><span>${state ? (state === "sending" ? "Sending" : "Reading the chats") : "Choose a file, or drop it here"}</span>
      <input class="vh" type="file" accept=".json,.zip,application/json,application/zip" aria-label="File to import" disabled=${Boolean(state)}
        onChange=${(/** @type {any} */ event) => send(event.currentTarget.files[0])} /></label>
    ${state && html`<progress aria-label="Import" max="1" value=${state === "sending" ? part : undefined}></progress>`}
    ${fault && html`<p class="err" role="alert">${fault}</p>`}
    ${report && html`<${Report} report=${report} close=${leave} />`}
    <h3>Export</h3>
    <p class="mute">All your chats, the archive and the bin too. JSON has every branch and can be imported again.</p>
    <p class="buttons"><a class="btn line" download href=${`${ROOT}/conversations/export`}><${Icon} name="download" small /> All as JSON</a>
      <a class="btn line" download href=${`${ROOT}/conversations/export?format=markdown`}><${Icon} name="download" small /> All as Markdown</a></p>
    <footer><button type="button" class="btn line" data-first onClick=${leave}>${state ? "Cancel" : "Close"}</button></footer></${Dialog}>`;
}

/** @param {any} report */
function summary(report) {
  const parts = Object.entries(BECAME).filter(([name]) => report[name]).map(([name, words]) => `${report[name]} ${words}`);
  return parts.length ? `${parts.join(", ")}.` : "There was no chat in it.";
}

/** @param {{report: any, close: () => void}} props */
function Report({ report, close }) {
  const open = (/** @type {string} */ id) => (/** @type {Event} */ event) => {
    event.preventDefault();
    close();
    openChat(id);
  };
  return html`<section aria-label="Report"><p><strong>${summary(report)}</strong></p>
    ${report.warnings.map((/** @type {string} */ words) => html`<p class="err">${words}</p>`)}
    <ul class="rows" tabindex="0" aria-label="Chats in the file">${report.conversations.slice(0, SHOWN).map((/** @type {any} */ item) => html`<li>
      <span><span class="cut">${item.id ? html`<a href=${`/chat/${item.id}/`} onClick=${open(item.id)}>${item.title || "Chat"}</a>` : item.title || "Chat"}</span>
        ${item.warnings.map((/** @type {string} */ words) => html`<small class="mute">${words}</small>`)}</span>
      <small class=${item.status === "failed" ? "err" : "mute"}>${BECAME[item.status] ?? item.status}${item.messages ? ` · ${item.messages} messages` : ""}</small></li>`)}</ul>
    ${report.conversations.length > SHOWN && html`<p class="mute">And ${report.conversations.length - SHOWN} more.</p>`}</section>`;
}

export const dialogs = { transfer: Transfer };
