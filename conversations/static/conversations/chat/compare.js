// One question, several models, their answers beside each other. Each is a version of the same answer: one is kept as
// the branch, the others stay behind ‹ 2/3 ›.

import { useEffect } from "preact/hooks";
import { signal } from "@preact/signals";
import { begun, take, textOf } from "./answer.js";
import { Failure, ROOT, events, json, request } from "./api.js";
import { _ } from "./i18n.js";
import * as store from "./store.js";
import * as thread from "./thread.js";
import { Markdown } from "./turns.js";
import { Icon, copy, dress, html } from "./ui.js";
import { cost, parameters, symbol, tokens } from "./words.js";

const MOST = 4;

/**
 * @typedef {object} Lane
 * @property {string} chat
 * @property {{id: string, provider: string}} model
 * @property {string} message empty until the server has named it
 * @property {import("@preact/signals").Signal<import("./answer.js").Answer>} answer
 * @property {AbortController} abort
 * @property {any} row what is kept of an answer that is over
 */

/** @param {string} chat @param {{id: string, provider: string}} model @param {string} [message] @returns {Lane} */
const lane = (chat, model, message = "") => ({
  chat, model, message, answer: signal(begun()), abort: new AbortController(), row: null,
});

/**
 * Asks all models the same. The first question makes the message that the others answer, too.
 * @param {string} chat
 * @param {any} what as `thread.ask` has it
 * @param {{id: string, provider: string}[]} models
 * @param {Lane[]} [beside] answers that are there already
 */
export async function run(chat, what, models, beside = []) {
  const fresh = models.map((model) => lane(chat, model));
  store.lanes.value = { chat, lanes: [...beside, ...fresh], parent: what.parent_id };
  for (const one of beside) load(one);
  const [first, ...others] = fresh;
  const started = await begin(first, what);
  thread.sending.value = false;
  if (!started) {
    // Nothing was kept, so there is nothing to compare.
    if (what.messages) {
      store.lanes.value = null;
      throw new Failure(first.answer.value.error?.message ?? "");
    }
  } else if (what.messages) {
    const row = await json("GET", `${ROOT}/conversations/${chat}/messages/${first.message}`);
    store.lanes.value = { chat, lanes: [...beside, ...fresh], parent: row.parent };
  }
  await Promise.all(others.map((one) => begin(one, { parent_id: store.lanes.value?.parent })));
}

/** Whether the server took it. @param {Lane} one @param {any} what */
async function begin(one, what) {
  one.answer.value = begun();
  const { id: model, provider } = one.model;
  const body = {
    ...parameters(thread.chat.value?.settings), conversation_id: one.chat, id: crypto.randomUUID(), model, provider: provider || null, ...what,
  };
  try {
    const response = await request("POST", `${ROOT}/conversation`, body, { signal: one.abort.signal });
    one.message = response.headers.get("x-message-id") ?? "";
    follow(one, response);
    return true;
  } catch (error) {
    const { message = "", code = "" } = /** @type {any} */ (error);
    one.answer.value = { ...begun(), state: "error", error: { message, code } };
    return false;
  }
}

/** Reads an answer to its end, through as many connections as it takes. @param {Lane} one @param {Response | null} response */
async function follow(one, response) {
  const answer = { ...one.answer.value };
  const { signal: left } = one.abort;
  while (!answer.state && !left.aborted) {
    try {
      response ??= await request("GET", `${ROOT}/conversation/${one.chat}/stream?after=${answer.last}&message_id=${one.message}`,
        undefined, { signal: left, headers: { accept: "text/event-stream" } });
      if (response.status === 204) break;
      for await (const event of events(response)) {
        take(answer, event);
        one.answer.value = { ...answer };
      }
    } catch (error) {
      if (left.aborted || (error instanceof Failure && error.status >= 400 && error.status < 500)) break;
    }
    response = null;
    if (!answer.state) await new Promise((resolve) => setTimeout(resolve, 1000));
  }
  if (left.aborted) return;
  one.answer.value = { ...answer, state: answer.state || "done" };
  await load(one);
}

/** What is kept of an answer, or the answer itself as it comes. @param {Lane} one */
async function load(one) {
  try {
    const row = await json("GET", `${ROOT}/conversations/${one.chat}/messages/${one.message}`);
    if (["queued", "streaming"].includes(row.state)) {
      if (!one.answer.value.state) follow(one, null);
      return;
    }
    one.row = row;
    one.answer.value = {
      ...begun(), text: textOf(row.content), reasoning: row.reasoning, usage: row.usage, model: row.model, provider: row.provider,
      error: row.error, state: row.state,
    };
  } catch (error) {
    store.complain(error);
  }
}

/** The versions of an answer beside each other. @param {any} message */
export function versions(message) {
  const chat = thread.chat.value.id;
  const lanes = message.siblings.slice(-MOST).map((/** @type {string} */ id) => lane(chat, { id: "", provider: "" }, id));
  cut(message);
  store.lanes.value = { chat, lanes, parent: message.parent };
  for (const one of lanes) load(one);
}

/** Other models beside an answer that is there. @param {any} message @param {any[]} models */
export function against(message, models) {
  const chat = thread.chat.value.id;
  cut(message);
  run(chat, { parent_id: message.parent }, models, [lane(chat, { id: message.model, provider: "" }, message.id)]).catch(store.complain);
}

/** The branch up to the question. @param {any} message */
function cut(message) {
  const all = thread.messages.value;
  thread.messages.value = all.slice(0, all.findIndex((other) => other.id === message.id));
}

async function keep(/** @type {Lane} */ one) {
  await thread.showVersion(one.message);
  store.lanes.value = null;
  store.said.value = _("The answer is kept as the branch.");
}

export function Lanes() {
  const open = store.lanes.value;
  useEffect(() => {
    dress();
    return () => open?.lanes.forEach((/** @type {Lane} */ one) => one.abort.abort());
  }, []);
  if (!open) return null;
  const close = () => {
    store.lanes.value = null;
    thread.open(open.chat, { push: false });
  };
  return html`<section class="turn last" aria-label=${_("Answers side by side")}><div class="lanes" tabindex="0" role="group" aria-label=${_("Answers")}>
      ${open.lanes.map((/** @type {Lane} */ one, /** @type {number} */ at) => html`<${Column} key=${at} one=${one} parent=${open.parent} />`)}</div>
    <p class="lanes-end"><span class="mute">${_("Keep one to go on. The others stay as versions.")}</span> <button type="button" class="btn small" onClick=${close}>${_("Close")}</button></p></section>`;
}

/** @param {{one: Lane, parent: string}} props */
function Column({ one, parent }) {
  const answer = one.answer.value;
  const name = one.model.id || answer.model || _("Answer");
  const running = !answer.state;
  const stop = () => json("POST", `${ROOT}/conversation/${one.chat}/stop`, { message_id: one.message }).catch(store.complain);
  return html`<article class="lane" aria-label=${name} aria-busy=${running}>
    <header><span class="sym" aria-hidden="true">${symbol(answer.provider || name)}</span><b class="cut">${name}</b>
      ${running && html`<span class="lamp" role="img" aria-label=${_("Answering")}></span>`}<span class="push"></span>
      <small class="mute">${one.row ? [tokens(one.row.usage), cost(one.row.cost)].filter(Boolean).join(" · ") : ""}</small></header>
    ${answer.reasoning && html`<details class="step"><summary><${Icon} name="think" /> ${answer.text ? _("Thought") : _("Thinking")}<${Icon} name="right" small /></summary><div class="plain">${answer.reasoning}</div></details>`}
    <${Markdown} text=${answer.text} over=${!running} />
    ${answer.error && html`<div class="ended bad" role="alert"><${Icon} name="alert" /><p>${answer.error.message}</p>
      <button type="button" class="btn line" onClick=${() => begin(one, { parent_id: parent })}>${_("Try again")}</button></div>`}
    ${answer.state === "stopped" && html`<p class="mute">${_("Stopped.")}</p>`}
    <footer>${running
      ? html`<button type="button" class="btn line" disabled=${!one.message} aria-label=${_("Stop {name}", { name })} onClick=${stop}><${Icon} name="stop" small /> ${_("Stop")}</button>`
      : html`<button type="button" class="btn line" disabled=${!answer.text} aria-label=${_("Keep the answer of {name}", { name })} onClick=${() => keep(one)}><${Icon} name="check" small /> ${_("Keep")}</button>
        <button type="button" class="btn" disabled=${!answer.text} aria-label=${_("Copy the answer of {name}", { name })} onClick=${() => copy(answer.text, _("Answer"))}><${Icon} name="copy" small /> ${_("Copy")}</button>`}</footer>
  </article>`;
}
