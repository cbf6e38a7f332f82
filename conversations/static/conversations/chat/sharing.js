// Shared chats: what a link shows, how long it lasts, all links of one's own, and a shared chat to go on in.

import { useEffect, useState } from "preact/hooks";
import { textOf } from "./answer.js";
import { ROOT, json, page } from "./api.js";
import { _, ngettext } from "./i18n.js";
import { openChat } from "./sidebar.js";
import * as store from "./store.js";
import * as thread from "./thread.js";
import { Dialog, Icon, Tap, copy, html } from "./ui.js";
import { time } from "./words.js";

const DAY = 86_400;
const LASTS = [["", _("Until I end it")], [String(DAY), _("For a day")], [String(7 * DAY), _("For a week")], [String(30 * DAY), _("For 30 days")]];

/** What the server says, or a line about why it did not. @returns {[any, string, (work: () => Promise<any>) => Promise<void>, boolean]} */
function useServer() {
  const [found, setFound] = useState(/** @type {any} */ (undefined));
  const [fault, setFault] = useState("");
  const [busy, setBusy] = useState(false);
  const run = async (/** @type {() => Promise<any>} */ work) => {
    setBusy(true);
    setFault("");
    try {
      setFound(await work());
    } catch (error) {
      setFault(/** @type {Error} */ (error).message);
    }
    setBusy(false);
  };
  return [found, fault, run, busy];
}

const mine = async () => (await json("GET", `${ROOT}/chat`)).items;

/** @param {any} share */
const isOver = (share) => Boolean(share.expires_at) && new Date(share.expires_at) < new Date();

/** @param {any} share */
function lasting(share) {
  if (!share.expires_at) return _("Works until you end it");
  return isOver(share) ? _("Ended {time}", { time: time(share.expires_at) }) : _("Works until {time}", { time: time(share.expires_at) });
}

/** @param {{close: () => void}} props */
function Share({ close }) {
  const chat = thread.chat.value;
  const [share, fault, run, busy] = useServer();
  const [system, setSystem] = useState(false);
  const [lasts, setLasts] = useState("");
  useEffect(() => {
    run(async () => (await mine()).find((/** @type {any} */ item) => item.conversation_id === chat.id) ?? null);
  }, []);
  const [upTo] = useState(store.organising.value?.upTo ?? thread.messages.value.at(-1)?.id);
  useEffect(() => {
    store.organising.value = null;
  }, []);
  const body = () => ({ conversation_id: chat.id, message_id: upTo, share_system: system });
  const make = () => run(() => json("POST", `${ROOT}/chat`, { ...body(), expires_in: lasts ? Number(lasts) : null }));
  const renew = () => run(async () => {
    const made = await json("POST", `${ROOT}/chat/${share.share_id}`, body());
    store.tell(_("The link shows the chat as it is now."));
    return made;
  });
  const last = (/** @type {string} */ value) => run(() =>
    json("PATCH", `${ROOT}/chat/${share.share_id}`, { expires_in: value ? Number(value) : null }));
  const revoke = () => run(async () => {
    await json("DELETE", `${ROOT}/chat/${share.share_id}`);
    store.tell(_("The link is ended. Nobody reads the chat there any more."));
    return null;
  });
  return html`<${Dialog} label=${_("Share this chat")} className="wide" close=${close}>
    <h2>${_("Share this chat")}</h2>
    <p class="mute">${_("Whoever has the link reads a copy of this branch as it is now. Your name, costs and later messages are not in it.")}</p>
    <${Preview} chat=${chat} system=${system} upTo=${upTo} />
    ${chat.system_prompt && html`<label class="tick-row"><input type="checkbox" checked=${system}
      onChange=${(/** @type {any} */ event) => setSystem(event.currentTarget.checked)} /> ${_("Show the instructions, too")}</label>`}
    ${share && html`<${Link} share=${share} />
      <p class="mute">${_("{state}. Copied {time}.", { state: lasting(share), time: time(new Date(share.updated).toISOString()) })}</p>`}
    ${fault && html`<p class="err" role="alert">${fault}</p>`}
    <footer>${share === null && html`<select class="input" aria-label=${_("How long the link works")} value=${lasts}
        onChange=${(/** @type {any} */ event) => setLasts(event.currentTarget.value)}>${options("")}</select><span class="push"></span>
        <button type="button" class="btn" onClick=${close}>${_("Cancel")}</button>
        <button type="button" class="btn solid" disabled=${busy} onClick=${make}>${_("Make a link")}</button>`}
      ${share && html`<select class="input" aria-label=${_("How long the link works")} value="keep" onChange=${(/** @type {any} */ event) => last(event.currentTarget.value)}>
          ${options("keep")}</select><span class="push"></span>
        <button type="button" class="btn bad" disabled=${busy} onClick=${revoke}>${_("End link")}</button>
        <button type="button" class="btn line" disabled=${busy} onClick=${renew}>${_("Update copy")}</button>
        <button type="button" class="btn solid" onClick=${close}>${_("Done")}</button>`}
      ${share === undefined && html`<button type="button" class="btn" onClick=${close}>${_("Cancel")}</button>`}</footer>
  </${Dialog}>`;
}

/** @param {string} now */
const options = (now) => html`${now === "keep" && html`<option value="keep" disabled>${_("Change how long")}</option>`}
  ${LASTS.map(([seconds, label]) => html`<option value=${seconds}>${label}</option>`)}`;

/** @param {{share: any}} props */
function Link({ share }) {
  return html`<div class="joined"><input class="input" readonly aria-label=${_("Link")} data-first value=${share.url}
      onFocus=${(/** @type {any} */ event) => event.currentTarget.select()} />
    <button type="button" class="btn line" onClick=${() => copy(share.url, _("Link"))}><${Icon} name="copy" small /> ${_("Copy link")}</button>
    <a class="btn line" href=${share.url} target="_blank" rel="noopener">${_("Open")}</a></div>`;
}

/** @param {{chat: any, system: boolean, upTo: string}} props */
function Preview({ chat, system, upTo }) {
  const all = thread.messages.value;
  const shown = all.slice(0, all.findIndex((message) => message.id === upTo) + 1).filter((message) => ["user", "assistant"].includes(message.role));
  return html`<section class="excerpt" aria-label=${_("What readers see")} tabindex="0">
    <b>${chat.title || _("A shared chat")}</b>
    ${system && html`<p class="mute clamp">${chat.system_prompt}</p>`}
    ${thread.hasEarlier.value && html`<p class="mute">${_("Earlier messages of this branch are shared as well.")}</p>`}
    ${shown.map((message) => html`<p class="clamp"><span class="mute">${message.role === "user" ? _("Question") : message.model || _("Answer")}</span> ${textOf(message.content)}</p>`)}
  </section>`;
}

/** All links of one's own. @param {{close: () => void}} props */
function Shares({ close }) {
  const [shares, fault, run, busy] = useServer();
  useEffect(() => {
    run(mine);
  }, []);
  const revoke = (/** @type {string} */ id) => run(async () => {
    await json("DELETE", `${ROOT}/chat/${id}`);
    return mine();
  });
  return html`<${Dialog} label=${_("Shared links")} className="wide" close=${close}>
    <h2>${_("Shared links")}</h2>
    ${shares?.length === 0 && html`<p class="mute">${_("You share nothing. A chat’s options have “Share”.")}</p>`}
    <ul class="rows">${(shares ?? []).map((/** @type {any} */ share) => html`<li key=${share.share_id}>
      <span class="cut"><a href=${share.url} target="_blank" rel="noopener">${share.title || _("A shared chat")}</a><small class="mute">${lasting(share)}</small></span>
      <${Tap} small icon="copy" label=${_("Copy link of {title}", { title: share.title })} onClick=${() => copy(share.url, _("Link"))} />
      <${Tap} small icon="trash" label=${_("End link of {title}", { title: share.title })} disabled=${busy} onClick=${() => revoke(share.share_id)} /></li>`)}</ul>
    ${fault && html`<p class="err" role="alert">${fault}</p>`}
    <footer><button type="button" class="btn line" data-first onClick=${close}>${_("Close")}</button></footer></${Dialog}>`;
}

/** Asks first: an address alone must not put anything into somebody's list. @param {{close: () => void}} props */
function Continue({ close }) {
  const [share, fault, run, busy] = useServer();
  const id = new URLSearchParams(location.search).get("continue") ?? "";
  const leave = () => {
    history.replaceState(null, "", page.urls.chat);
    close();
  };
  useEffect(() => {
    run(() => json("GET", `${ROOT}/chat/${encodeURIComponent(id)}`));
  }, []);
  const go = () => share && run(async () => {
    const made = await json("POST", `${ROOT}/chat/${encodeURIComponent(id)}/continue`);
    leave();
    store.refreshList();
    openChat(made.conversation_id);
    return share;
  });
  return html`<${Dialog} label=${_("Continue a shared chat")} close=${leave}>
    <h2>${_("Continue a shared chat")}</h2>
    ${share && html`<p>${ngettext("“{title}” with {count} message becomes a chat of your own.", "“{title}” with {count} messages becomes a chat of your own.", share.items.length, { title: share.title || _("A shared chat") })} ${_("Who shared it does not see what you write.")}</p>`}
    ${fault && html`<p class="err" role="alert">${fault}</p>`}
    <footer><button type="button" class="btn" onClick=${leave}>${_("Cancel")}</button>
      <button type="button" class="btn solid" data-first disabled=${Boolean(fault || (busy && share))} onClick=${go}>${_("Continue")}</button></footer></${Dialog}>`;
}

export const dialogs = { share: Share, shares: Shares, continue: Continue };
