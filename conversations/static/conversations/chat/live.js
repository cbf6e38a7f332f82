// News from the server over one websocket: what changed in the list, and answers that begin in another tab or on another
// device. Where there is no socket, because something on the way refuses it, the page looks by itself from time to time.

import * as store from "./store.js";
import * as thread from "./thread.js";

// The server says something each 15 seconds, if only that it is there.
const SILENCE = 45_000;
const LOOK = 10_000;
const LONGEST_WAIT = 60_000;
const RESTARTING = 1012;

/** @type {WebSocket | null} */
let socket = null;
let wait = 1000;
let heard = 0;
let known = false;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let again;
let look = () => {};

/** @param {() => void} looking reads the list, and the open chat if it went on */
export function start(looking) {
  look = looking;
  connect();
  setInterval(() => {
    if (socket?.readyState === WebSocket.OPEN) {
      if (Date.now() - heard > SILENCE) socket.close();
    } else if (navigator.onLine) look();
  }, LOOK);
  addEventListener("online", () => connect());
  // A page with an open socket is not kept for who goes back to it.
  addEventListener("pagehide", () => socket?.close());
  addEventListener("pageshow", (event) => event.persisted && connect());
}

function connect() {
  clearTimeout(again);
  if (socket && socket.readyState <= WebSocket.OPEN) return;
  const opened = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws/`);
  socket = opened;
  heard = Date.now();
  opened.onmessage = ({ data }) => {
    heard = Date.now();
    const item = JSON.parse(data);
    TOLD[item.type]?.(item);
  };
  opened.onclose = ({ code }) => {
    if (socket !== opened) return;
    socket = null;
    // Not all at once: everybody else comes back, too.
    const after = code === RESTARTING ? 1000 : wait;
    wait = Math.min(wait * 2, LONGEST_WAIT);
    again = setTimeout(connect, after * (0.5 + Math.random()));
    if (store.answering.value.size) store.answering.value = new Set();
    if (known) look();
  };
}

/** @type {Record<string, (item: any) => void>} */
const TOLD = {
  hello() {
    wait = 1000;
    // What was told meanwhile was not heard.
    look();
    known = true;
  },
  resync: () => look(),
  conversation({ conversation }) {
    store.listed(conversation);
    const open = thread.chat.value;
    if (open?.id !== conversation.id || thread.sending.value || open.version >= conversation.version) return;
    const { title, pinned } = conversation;
    thread.chat.value = { ...open, title, pinned };
    thread.catchUp();
  },
  conversation_gone({ conversation_id: id }) {
    if (store.filter.value.deleted) look();
    else store.chats.value = store.chats.value.filter((chat) => chat.id !== id);
  },
  answering({ conversation_id: id }) {
    mark(id, true);
  },
  answered({ conversation_id: id }) {
    mark(id, false);
    if (thread.chat.value?.id !== id && !thread.streams.value.has(id) && store.chats.value.some((chat) => chat.id === id)) {
      thread.fresh.value = new Set([...thread.fresh.value, id]);
    }
  },
};

/** @param {string} id @param {boolean} is */
function mark(id, is) {
  const next = new Set(store.answering.value);
  if (is) next.add(id);
  else next.delete(id);
  store.answering.value = next;
}
