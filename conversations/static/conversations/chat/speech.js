// Reads an answer aloud: by a provider that speaks, else by the browser's own voice.

import { effect } from "@preact/signals";
import { ROOT, page } from "./api.js";
import { _ } from "./i18n.js";
import { pieces, speakable } from "./spoken.js";
import * as store from "./store.js";
import * as thread from "./thread.js";

// Short, so that the first one is soon there; addresses have to hold them.
const MOST = 500;
/** What ends what is read now. */
let silence = () => {};

/** Reads a message, or falls silent where it is the one that is read. @param {string} id @param {string} text */
export async function toggle(id, text) {
  const same = store.speaking.value === id;
  stop();
  if (same) return;
  const words = pieces(speakable(text), MOST);
  if (!words.length) return;
  store.speaking.value = id;
  try {
    if (page.can.speak) await byServer(words);
    else await byBrowser(words);
  } catch (error) {
    if (store.speaking.value === id) store.complain(error);
  } finally {
    if (store.speaking.value === id) stop();
  }
}

export function stop() {
  silence();
  silence = () => {};
  store.speaking.value = "";
}

// Who opens another chat does not want to hear this one on.
let heard = thread.chat.value?.id;
effect(() => {
  const id = thread.chat.value?.id;
  if (id !== heard) stop();
  heard = id;
});

/** @param {string} text */
function player(text) {
  const { provider, model } = page.can.speak;
  const query = new URLSearchParams({ text, model });
  const made = new Audio(`${ROOT}/synthesize/${encodeURIComponent(provider)}?${query}`);
  made.preload = "auto";
  return made;
}

/** One piece after the other; the next is fetched while one is heard. @param {string[]} words */
async function byServer(words) {
  let over = false;
  let sounding = player(words[0]);
  silence = () => {
    over = true;
    sounding.dispatchEvent(new Event("ended"));
    sounding.pause();
  };
  for (let at = 0; at < words.length && !over; at += 1) {
    const ended = new Promise((resolve, reject) => {
      sounding.onended = resolve;
      sounding.onerror = () => reject(new Error(_("The answer could not be read aloud.")));
    });
    const following = sounding.play().then(() => (at + 1 < words.length && !over ? player(words[at + 1]) : null));
    try {
      await Promise.all([ended, following]);
    } catch (error) {
      if (over) return;
      if (at || !globalThis.speechSynthesis?.getVoices().length) {
        throw new Error(_("The answer could not be read aloud."), { cause: error });
      }
      return byBrowser(words);
    }
    const next = await following;
    if (next) sounding = next;
  }
}

/** @param {string[]} words */
async function byBrowser(words) {
  const voice = globalThis.speechSynthesis;
  voice.cancel();
  silence = () => voice.cancel();
  await Promise.all(words.map((text) => new Promise((resolve, reject) => {
    const said = new SpeechSynthesisUtterance(text);
    said.onend = resolve;
    said.onerror = ({ error }) => (error === "canceled" || error === "interrupted" ? resolve(undefined)
      : reject(new Error(_("This browser could not read the answer aloud."))));
    voice.speak(said);
  })));
}
