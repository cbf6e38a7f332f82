// A long chat is on the page in parts: more is fetched before it is reached, and what is far away is an empty box of the
// same height, so that a thousand messages cost what a hundred do.

import { useEffect, useRef, useState } from "preact/hooks";
import { ROOT, json } from "./api.js";
import * as store from "./store.js";
import * as thread from "./thread.js";
import { html } from "./ui.js";

/** With no more messages than this nothing is emptied. */
const MOST_WHOLE = 300;
const NEAR = "2500px 0px";

let fetching = false;

/** @param {string} query @param {(part: any) => void} take */
async function fetched(query, take) {
  const { id } = thread.chat.value ?? {};
  if (!id || fetching) return;
  fetching = true;
  try {
    const part = await json("GET", `${ROOT}/conversations/${id}?${query}`);
    if (thread.chat.value?.id === id) take(part);
  } catch (error) {
    store.complain(error);
  } finally {
    fetching = false;
  }
}

/** @param {any} message */
const keyed = (message) => ({ ...message, key: message.id });

export function earlier() {
  const first = thread.messages.value[0];
  return first && fetched(`before=${first.id}`, (part) => {
    if (thread.messages.value[0] !== first) return;
    const log = /** @type {HTMLElement} */ (document.querySelector(".log"));
    const below = log.scrollHeight - log.scrollTop;
    // Browsers hold the place of what is read, but not at the very top; some never do.
    if (log.scrollTop < 1) log.scrollTop = 1;
    thread.messages.value = [...part.messages.map(keyed), ...thread.messages.value];
    thread.hasEarlier.value = part.has_more;
    if (!CSS.supports("overflow-anchor", "auto")) requestAnimationFrame(() => (log.scrollTop = log.scrollHeight - below));
  });
}

export function later() {
  const last = thread.messages.value.at(-1);
  return last && fetched(`after=${last.id}`, (part) => {
    if (thread.messages.value.at(-1) !== last) return;
    thread.messages.value = [...thread.messages.value, ...part.messages.map(keyed)];
    thread.hasLater.value = part.has_newer;
  });
}

/** To the end of the branch, wherever the page is. */
export function latest() {
  return thread.hasLater.value ? fetched("", thread.show) : undefined;
}

/** Shows a message of this chat, be it on the page or not. @param {string} id */
export async function jump(id) {
  if (!thread.messages.value.some((message) => message.id === id)) await fetched(`around=${id}`, thread.show);
  thread.target.value = { id };
}

/** A button that presses itself before the reader comes to it. @param {{words: string, act: () => any}} props */
export function More({ words, act }) {
  const place = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    const button = /** @type {HTMLElement} */ (place.current);
    const watcher = new IntersectionObserver((seen) => seen.at(-1)?.isIntersecting && act(), {
      root: button.closest(".log"), rootMargin: "3000px 0px",
    });
    watcher.observe(button);
    return () => watcher.disconnect();
  }, [thread.messages.value.length]);
  return html`<p class="earlier"><button type="button" class="btn line" ref=${place} onClick=${act}>${words}</button></p>`;
}

/** @type {WeakMap<Element, (near: boolean, height: number) => void>} */
const told = new WeakMap();
/** @type {IntersectionObserver | null} */
let watcher = null;

/** @param {Element} turn */
function watched(turn) {
  const root = turn.closest(".log");
  if (watcher?.root !== root) {
    watcher?.disconnect();
    watcher = new IntersectionObserver((seen) => {
      for (const { target, isIntersecting, boundingClientRect } of seen) {
        // Who writes in it, or has marked words of it, is near, wherever the page is.
        const used = target.contains(document.activeElement) || target.contains(getSelection()?.anchorNode ?? null);
        told.get(target)?.(isIntersecting || used, boundingClientRect.height);
      }
    }, { root, rootMargin: NEAR });
  }
  return /** @type {IntersectionObserver} */ (watcher);
}

/**
 * A turn, or its place while it is far away in a long chat.
 * @param {{message: any, many: boolean, children: any}} props
 */
export function Place({ message, many, children }) {
  const [height, setHeight] = useState(0);
  const far = many && height > 0;
  useEffect(() => {
    const turn = many && document.getElementById(`m-${message.id}`);
    if (!turn) return undefined;
    told.set(turn, (near, tall) => setHeight((known) => (near ? 0 : known || tall)));
    const by = watched(turn);
    by.observe(turn);
    return () => by.unobserve(turn);
  }, [many, far, message.id]);
  return far ? html`<div class="far" id=${`m-${message.id}`} tabindex="-1" style=${{ blockSize: `${height}px` }}></div>` : children;
}

/** @param {number} count */
export const isMany = (count) => count > MOST_WHOLE;
