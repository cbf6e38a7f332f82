// The chat that is open: its messages, what is asked in it, and answers as they come.
//
// An answer belongs to the server. A stream here only watches one; who leaves a chat goes on watching for a while, and
// who comes back joins again after the last event that was seen.

import { signal } from "@preact/signals";
import { begun, take, textOf } from "./answer.js";
import { Failure, ROOT, events, json, page, reader, request } from "./api.js";
import { _ } from "./i18n.js";
import { filesOf, named, withText } from "./parts.js";
import * as store from "./store.js";
import { parameters } from "./words.js";

const LONGEST_WAIT = 8000;

/** @type {import("@preact/signals").Signal<any | null>} */
export const chat = signal(null);
/** @type {import("@preact/signals").Signal<any[]>} */
export const messages = signal([]);
export const hasEarlier = signal(false);
/** What is loaded of the branch ends before the branch does. */
export const hasLater = signal(false);
/** The message that the page is to show: {id}. */
export const target = signal(/** @type {{id: string} | null} */ (null));
/** "", "loading" or "missing". */
export const phase = signal("");
/** What kept a question from being asked: {message, again}. */
export const problem = signal(/** @type {{message: string, again?: () => void} | null} */ (null));
/** Instructions for a chat that is not there yet. */
export const prompt = signal("");
/** Parameters for a chat that is not there yet. */
export const settings = signal(/** @type {Record<string, any>} */ ({}));
/** Whether a chat that is not there yet is to be kept in no list. */
export const temporary = signal(false);
/** @type {import("@preact/signals").Signal<Map<string, Stream>>} what is being answered, by chat */
export const streams = signal(new Map());
/** Chats with an answer that nobody has looked at. */
export const fresh = signal(new Set());
/** Grows when the reader asked something, so that the page shows the end. */
export const asked = signal(0);
/** A question is on its way. */
export const sending = signal(false);

/**
 * @typedef {object} Stream
 * @property {string} chat
 * @property {string} message
 * @property {import("@preact/signals").Signal<import("./answer.js").Answer>} answer
 * @property {import("@preact/signals").Signal<boolean>} lost the connection is being made again
 * @property {AbortController} abort
 * @property {number} since
 */

/** The stream of the open chat. */
export function current() {
  return chat.value ? streams.value.get(chat.value.id) ?? null : streams.value.get("new") ?? null;
}

/** @param {string} id @param {Stream | null} stream */
function setStream(id, stream) {
  const next = new Map(streams.value);
  if (stream) next.set(id, stream);
  else next.delete(id);
  streams.value = next;
}

/** A new, empty chat; nothing is made on the server until something is asked. */
export function startNew(push = true) {
  store.lanes.value = null;
  chat.value = null;
  messages.value = [];
  hasEarlier.value = false;
  hasLater.value = false;
  phase.value = "";
  problem.value = null;
  prompt.value = "";
  settings.value = {};
  temporary.value = false;
  if (push) history.pushState(null, "", page.urls.chat);
}

/**
 * Opens a chat, at a message of it if one is named.
 * @param {string} id
 * @param {{push?: boolean, leaf?: string}} how
 */
export async function open(id, { push = true, leaf = "" } = {}) {
  if (push) history.pushState(null, "", `${page.urls.chat}${id}/${leaf ? `#m-${leaf}` : ""}`);
  if (store.lanes.value?.chat !== id) store.lanes.value = null;
  if (chat.value?.id !== id) {
    chat.value = store.chats.value.find((other) => other.id === id) ?? { id, title: "" };
    messages.value = [];
    hasLater.value = false;
    problem.value = null;
  }
  phase.value = messages.value.length ? "" : "loading";
  fresh.value = new Set([...fresh.value].filter((other) => other !== id));
  try {
    const whole = await json("GET", `${ROOT}/conversations/${id}${leaf ? `?around=${leaf}` : ""}`);
    if (chat.value?.id !== id) return;
    show(whole);
    if (leaf) target.value = { id: leaf };
    store.chosen.value = whole.model ? { id: whole.model, provider: whole.provider } : store.chosen.value;
  } catch (error) {
    if (chat.value?.id !== id) return;
    if (leaf && error instanceof Failure && error.code === "message_not_found") return open(id, { push: false });
    if (error instanceof Failure && error.status === 404) phase.value = "missing";
    else problem.value = { message: /** @type {Error} */ (error).message, again: () => open(id, { push: false, leaf }) };
    if (error instanceof Failure && error.status === 401) store.signedOut.value = true;
    if (phase.value === "loading") phase.value = "";
  }
}

/** Takes a chat with a part of its branch as the server has it; what was loaded above it stays. @param {any} whole */
export function show(whole) {
  const keys = new Map(messages.value.map((message) => [message.id, message.key]));
  const above = messages.value.slice(0, Math.max(0, messages.value.findIndex((message) => message.id === whole.messages[0]?.id)));
  chat.value = whole;
  if (!above.length) hasEarlier.value = whole.has_more;
  hasLater.value = whole.has_newer;
  const fresh = whole.messages.map((/** @type {any} */ message) => ({ ...message, key: keys.get(message.id) ?? message.id }));
  messages.value = [...above, ...fresh];
  phase.value = "";
  const running = messages.value.find((message) => ["queued", "streaming"].includes(message.state));
  if (running && !streams.value.has(whole.id)) follow(watch(whole.id, running.id, running.created_at), null);
}

/** Looks whether the open chat went on elsewhere. */
export async function catchUp() {
  const open = chat.value;
  if (!open || streams.value.has(open.id) || phase.value || store.lanes.value) return;
  const known = store.chats.value.find((other) => other.id === open.id);
  if (hasLater.value || (known && known.version === open.version)) return;
  try {
    const whole = await json("GET", `${ROOT}/conversations/${open.id}`);
    if (chat.value?.id === open.id && !streams.value.has(open.id)) show(whole);
  } catch {
    // The next look may find it.
  }
}

/** Asks something at the end of the branch. @param {string | any[]} content */
export async function send(content) {
  if (hasLater.value) {
    const whole = await json("GET", `${ROOT}/conversations/${chat.value.id}`).catch(() => null);
    if (whole && chat.value?.id === whole.id) show(whole);
  }
  const last = messages.value.at(-1);
  return say(content, last?.id ?? null, messages.value, true);
}

/** The same place, other words and the same files: a branch of its own. @param {any} message @param {string} text */
export function edit(message, text) {
  const at = messages.value.findIndex((other) => other.id === message.id);
  return say(withText(message.content, text), message.parent, messages.value.slice(0, at), false);
}

/**
 * @param {string | any[]} content
 * @param {string | null} parent
 * @param {any[]} before the messages above it
 * @param {boolean} atEnd nothing may have been said after the parent meanwhile
 */
async function say(content, parent, before, atEnd) {
  const key = crypto.randomUUID();
  const mine = { id: key, key, role: "user", content, parent, siblings: [], created_at: new Date().toISOString() };
  const id = chat.value?.id ?? key;
  problem.value = null;
  messages.value = [...before, mine];
  hasLater.value = false;
  asked.value += 1;
  sending.value = true;
  const again = () => say(content, parent, before, atEnd);
  if (parent !== null) {
    const version = atEnd ? { version: chat.value.version } : {};
    return ask(id, { parent_id: parent, messages: [{ role: "user", content }], ...version }, again);
  }
  try {
    if (!chat.value) chat.value = await made(textOf(content) || named(filesOf(content)));
    const root = await json("POST", `${ROOT}/conversations/${chat.value.id}/messages`, {
      content, parent: null, branch: true, client_id: key,
    });
    mine.id = root.id;
    return await ask(chat.value.id, { parent_id: root.id }, () => ask(chat.value.id, { parent_id: root.id }, again));
  } catch (error) {
    refused(error, again);
  }
}

/** @param {string} text */
async function made(text) {
  const words = text.trim().replace(/\s+/g, " ");
  const whole = await json("POST", `${ROOT}/conversations`, {
    title: words.length > 80 ? `${words.slice(0, 79)}…` : words,
    system_prompt: prompt.value, settings: settings.value, temporary: temporary.value, model: store.chosen.value.id, provider: store.chosen.value.provider,
  });
  history.replaceState(null, "", `${page.urls.chat}${whole.id}/`);
  store.listed(whole);
  return whole;
}

/**
 * Another answer to the same question.
 * @param {any} message the answer that is there
 * @param {{id: string, provider: string}} [model] another one than the chat's, this once
 */
export function regenerate(message, model) {
  const at = messages.value.findIndex((other) => other.id === message.id);
  messages.value = messages.value.slice(0, at);
  hasLater.value = false;
  problem.value = null;
  asked.value += 1;
  const other = model ? { model: model.id, provider: model.provider || null } : {};
  return ask(chat.value.id, { parent_id: message.parent, ...other }, () => open(chat.value.id, { push: false }));
}

/** Goes on with an answer that ended too soon. @param {any} message */
export function proceed(message) {
  asked.value += 1;
  return ask(chat.value.id, { parent_id: message.id, action: "continue" }, () => proceed(message));
}

/** @param {string} id @param {any} what @param {() => void} again */
async function ask(id, what, again) {
  if (store.comparing.value.length > 1 && !what.model && !what.action) {
    try {
      const { run } = await import("./compare.js");
      return await run(id, what, store.comparing.value);
    } catch (error) {
      return refused(error, again);
    }
  }
  const stream = watch(id, "");
  reader().catch(() => {});
  sending.value = false;
  try {
    // The id makes asking again after a lost connection the same question.
    const body = { ...parameters(chat.value?.settings), conversation_id: id, id: crypto.randomUUID(), ...store.wished(), ...what };
    const response = await request("POST", `${ROOT}/conversation`, body, { signal: stream.abort.signal });
    stream.message = response.headers.get("x-message-id") ?? "";
    await follow(stream, response);
  } catch (error) {
    setStream(id, null);
    if (/** @type {any} */ (error).name === "AbortError") return;
    if (chat.value?.id === id) refused(error, again);
  }
}

/** @param {unknown} error @param {() => void} again */
async function refused(error, again) {
  sending.value = false;
  const stale = error instanceof Failure && error.code.startsWith("stale_");
  if (error instanceof Failure && error.status === 401) store.signedOut.value = true;
  if (!stale) {
    problem.value = { message: error instanceof Error ? error.message : String(error), again };
    return;
  }
  const mine = messages.value.at(-1);
  const { id } = chat.value;
  returned.value = mine?.content ?? "";
  await open(id, { push: false });
  if (chat.value?.id !== id || problem.value) return;
  problem.value = { message: _("This chat went on in another tab. Your message is kept below.") };
}

/** A question that comes back into the message box. */
export const returned = signal(/** @type {string | any[]} */ (""));

/** @param {string} id @param {string} message @param {string} [since] @returns {Stream} */
function watch(id, message, since) {
  const began = since ? new Date(since).getTime() : Date.now();
  const stream = {
    chat: id, message, answer: signal(begun()), lost: signal(false), abort: new AbortController(), since: began,
  };
  setStream(id, stream);
  return stream;
}

/**
 * Reads an answer to its end, through as many connections as it takes.
 * @param {Stream} stream
 * @param {Response | null} response null: join it
 */
async function follow(stream, response) {
  const answer = { ...stream.answer.value };
  let wait = 500;
  store.said.value = _("Answering.");
  while (!answer.state && !stream.abort.signal.aborted) {
    try {
      response ??= await rejoined(stream, answer.last);
      if (response.status === 204) break;
      for await (const event of events(response)) {
        take(answer, event);
        painted(stream, answer);
        stream.lost.value = false;
        wait = 500;
      }
    } catch (error) {
      if (stream.abort.signal.aborted) return;
      if (error instanceof Failure && error.status >= 400 && error.status < 500) break;
    }
    response = null;
    if (answer.state) break;
    stream.lost.value = true;
    await pause(wait);
    wait = Math.min(wait * 2, LONGEST_WAIT);
  }
  stream.answer.value = { ...answer };
  await ended(stream, answer);
}

/** @param {Stream} stream @param {number} after */
function rejoined(stream, after) {
  const query = new URLSearchParams({ after: String(after), ...(stream.message ? { message_id: stream.message } : {}) });
  const path = `${ROOT}/conversation/${stream.chat}/stream?${query}`;
  return request("GET", path, undefined, { signal: stream.abort.signal, headers: { accept: "text/event-stream" } });
}

/** Shows what has come once a frame, however often something comes. @param {Stream} stream @param {any} answer */
function painted(stream, answer) {
  if (waiting.has(stream)) return;
  waiting.add(stream);
  const paint = () => {
    waiting.delete(stream);
    if (!answer.state) stream.answer.value = { ...answer };
  };
  if (document.hidden) setTimeout(paint, 250);
  else requestAnimationFrame(paint);
}
const waiting = new WeakSet();

/** Waits, but no longer than until the browser is online again. @param {number} most */
function pause(most) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, most);
    window.addEventListener("online", () => (clearTimeout(timer), resolve(undefined)), { once: true });
  });
}

/** @param {Stream} stream @param {import("./answer.js").Answer} answer */
async function ended(stream, answer) {
  try {
    const whole = await json("GET", `${ROOT}/conversations/${stream.chat}`);
    if (chat.value?.id === stream.chat && hasLater.value) chat.value = { ...chat.value, version: whole.version };
    else if (chat.value?.id === stream.chat) show({ ...whole, messages: timed(whole.messages, stream) });
    else fresh.value = new Set([...fresh.value, stream.chat]);
    store.listed(whole);
    if (document.hidden && store.remembered("notify")) import("./notify.js").then((module) => module.tellOf(whole)).catch(() => {});
  } catch (error) {
    if (chat.value?.id === stream.chat) {
      problem.value = {
        message: _("The answer could not be read again."), again: () => open(stream.chat, { push: false }),
      };
    }
  }
  setStream(stream.chat, null);
  store.said.value = answer.state === "done" ? _("Done.") : answer.state === "stopped" ? _("Stopped.") : "";
}

/** How long an answer took is known to who has seen it come. @param {any[]} all @param {Stream} stream */
function timed(all, stream) {
  const took = Date.now() - stream.since;
  return all.map((message) => (message.id === stream.message ? { ...message, took } : message));
}

export async function stop() {
  const stream = current();
  if (!stream || !chat.value) return;
  try {
    await json("POST", `${ROOT}/conversation/${chat.value.id}/stop`);
  } catch (error) {
    store.complain(error);
  }
}

/** Shows another version of a message, to the newest end of its branch. @param {string} id */
export async function showVersion(id) {
  try {
    show(await store.change(chat.value.id, { active_leaf: id }));
  } catch (error) {
    store.complain(error);
  }
}

/** Sets instructions and parameters. @param {string} text @param {Record<string, any>} values */
export async function setUp(text, values) {
  if (chat.value) {
    await update(chat.value.id, { system_prompt: text, settings: values });
    return;
  }
  prompt.value = text;
  settings.value = values;
}

/** Changes a chat's name, pin or instructions. @param {string} id @param {Record<string, any>} fields */
export async function update(id, fields) {
  const { messages: branch, ...changed } = await store.change(id, fields);
  const open = chat.value;
  if (open?.id !== id) return;
  // A step of more than one: somebody else has changed it, too, and it is read again before anything is asked.
  const version = changed.version === open.version + 1 ? changed.version : open.version;
  chat.value = { ...open, ...changed, version };
}
