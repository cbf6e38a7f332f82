// Chats out of here as files, and in from here and elsewhere.

import { useRef, useState } from "preact/hooks";
import { ROOT, upload } from "./api.js";
import { _, ngettext } from "./i18n.js";
import { openChat } from "./sidebar.js";
import * as store from "./store.js";
import { Dialog, Icon, html } from "./ui.js";

/** @type {Record<string, string>} */
const BECAME = { imported: _("imported"), updated: _("new messages"), unchanged: _("was here"), failed: _("failed") };
/** @type {Record<string, (count: number) => string>} */
const COUNTED = {
  imported: (count) => ngettext("{count} imported", "{count} imported", count),
  updated: (count) => ngettext("{count} new messages", "{count} new messages", count),
  unchanged: (count) => ngettext("{count} was here", "{count} was here", count),
  failed: (count) => ngettext("{count} failed", "{count} failed", count),
};
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
  return html`<${Dialog} label=${_("Import and export")} className="wide" close=${leave}>
    <h2>${_("Import and export")}</h2>
    <h3>${_("Import")}</h3>
    <p class="mute">${_("From ChatGPT, Claude, Open WebUI, g4f or this server: the file you were given there, JSON or ZIP. The same file again doubles nothing.")}</p>
    <label class="drop-file" onDragOver=${(/** @type {Event} */ event) => event.preventDefault()} onDrop=${drop}>
      <${Icon} name="plus" /><span>${state ? (state === "sending" ? _("Sending") : _("Reading the chats")) : _("Choose a file, or drop it here")}</span>
      <input class="vh" type="file" accept=".json,.zip,application/json,application/zip" aria-label=${_("File to import")} disabled=${Boolean(state)}
        onChange=${(/** @type {any} */ event) => send(event.currentTarget.files[0])} /></label>
    ${state && html`<progress aria-label=${_("Import")} max="1" value=${state === "sending" ? part : undefined}></progress>`}
    ${fault && html`<p class="err" role="alert">${fault}</p>`}
    ${report && html`<${Report} report=${report} close=${leave} />`}
    <h3>${_("Export")}</h3>
    <p class="mute">${_("All your chats, the archive and the bin too. JSON has every branch and can be imported again.")}</p>
    <p class="buttons"><a class="btn line" download href=${`${ROOT}/conversations/export`}><${Icon} name="download" small /> ${_("All as JSON")}</a>
      <a class="btn line" download href=${`${ROOT}/conversations/export?format=markdown`}><${Icon} name="download" small /> ${_("All as Markdown")}</a></p>
    <footer><button type="button" class="btn line" data-first onClick=${leave}>${state ? _("Cancel") : _("Close")}</button></footer></${Dialog}>`;
}

/** @param {any} report */
function summary(report) {
  const parts = Object.entries(COUNTED).filter(([name]) => report[name]).map(([name, words]) => words(report[name]));
  return parts.length ? `${parts.join(", ")}.` : _("There was no chat in it.");
}

/** @param {{report: any, close: () => void}} props */
function Report({ report, close }) {
  const open = (/** @type {string} */ id) => (/** @type {Event} */ event) => {
    event.preventDefault();
    close();
    openChat(id);
  };
  return html`<section aria-label=${_("Report")}><p><strong>${summary(report)}</strong></p>
    ${report.warnings.map((/** @type {string} */ words) => html`<p class="err">${words}</p>`)}
    <ul class="rows" tabindex="0" aria-label=${_("Chats in the file")}>${report.conversations.slice(0, SHOWN).map((/** @type {any} */ item) => html`<li>
      <span><span class="cut">${item.id ? html`<a href=${`/chat/${item.id}/`} onClick=${open(item.id)}>${item.title || _("Chat")}</a>` : item.title || _("Chat")}</span>
        ${item.warnings.map((/** @type {string} */ words) => html`<small class="mute">${words}</small>`)}</span>
      <small class=${item.status === "failed" ? "err" : "mute"}>${BECAME[item.status] ?? item.status}${item.messages ? ` · ${ngettext("{count} message", "{count} messages", item.messages)}` : ""}</small></li>`)}</ul>
    ${report.conversations.length > SHOWN && html`<p class="mute">${ngettext("And {count} more.", "And {count} more.", report.conversations.length - SHOWN)}</p>`}</section>`;
}

export const dialogs = { transfer: Transfer };
