// The conversation: what was said, what is being said, and what can be done with it.

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { signal } from "@preact/signals";
import { sentences, textOf } from "./answer.js";
import { page } from "./api.js";
import { Files, pressedPicture } from "./attachments.js";
import { _, parts } from "./i18n.js";
import { filesOf } from "./parts.js";
import * as store from "./store.js";
import * as thread from "./thread.js";
import { Icon, Later, Tap, copy, html } from "./ui.js";
import { More, Place, earlier, isMany, later, latest } from "./windows.js";
import { cost, pretty, seconds, sibling, symbol, time, tokens } from "./words.js";

/** Whether the page follows the end of an answer: until the reader looks elsewhere. */
const pinned = signal(true);

const compare = () => import("./compare.js");

export function Log() {
  const place = useRef(/** @type {HTMLElement | null} */ (null));
  const messages = thread.messages.value;
  const stream = thread.current();
  const many = isMany(messages.length);
  const id = thread.chat.value?.id ?? "";
  useEffect(() => {
    pinned.value = true;
    toEnd(place.current);
  }, [thread.asked.value]);
  const isHere = messages.length > 0;
  const target = thread.target.value;
  useEffect(() => {
    pinned.value = !target;
    if (isHere && !target) toEnd(place.current);
  }, [id, isHere]);
  useEffect(() => {
    if (!isHere || !target) return;
    pinned.value = false;
    goTo(target.id);
    thread.target.value = null;
  }, [isHere, target]);
  useEffect(() => watchReader(/** @type {HTMLElement} */ (place.current)), []);
  return html`<section class="log" aria-label=${_("Conversation")} tabindex="0" ref=${place}>
    ${thread.hasEarlier.value && html`<${More} key="earlier" words=${_("Earlier messages")} act=${earlier} />`}
    ${messages.map((message, at) => html`<${Place} key=${message.key} message=${message} many=${many}>
      <${Turn} message=${message} last=${at === messages.length - 1} /></${Place}>`)}
    ${thread.hasLater.value && html`<${More} key="later" words=${_("Later messages")} act=${later} />`}
    ${stream && !thread.hasLater.value && !messages.some((message) => message.id === stream.message) && html`<${Live} key=${stream.message || "live"} stream=${stream} />`}
    ${store.lanes.value?.chat === id && html`<${Later} from=${compare} name="Lanes" />`}
    <${Problem} />
  </section>
  ${!pinned.value && html`<button type="button" class="btn jump" onClick=${async () => {
    await latest();
    pinned.value = true;
    requestAnimationFrame(() => toEnd(place.current));
  }}><${Icon} name="latest" small /> ${_("Latest")}</button>`}`;
}

/** Shows a message in the middle, again once what is beside it has its height, and says that it is the one. @param {string} id */
function goTo(id) {
  const show = () => {
    const turn = document.getElementById(`m-${id}`);
    turn?.scrollIntoView({ block: "center" });
    if (!turn || turn.className === "far") return;
    for (const other of document.querySelectorAll(".turn[data-found]")) other.removeAttribute("data-found");
    turn.dataset.found = "";
    turn.focus({ preventScroll: true });
  };
  show();
  requestAnimationFrame(() => requestAnimationFrame(show));
}

/** @param {HTMLElement | null} log */
function toEnd(log) {
  if (log) log.scrollTop = log.scrollHeight;
}

/** The page follows until the reader scrolls up, selects or turns pages, and again from the end on. @param {HTMLElement} log */
function watchReader(log) {
  const away = () => {
    if (log.scrollHeight > log.clientHeight + 40) pinned.value = false;
  };
  const near = () => log.scrollHeight - log.scrollTop - log.clientHeight < 24;
  log.addEventListener("wheel", (event) => event.deltaY < 0 && away(), { passive: true });
  log.addEventListener("touchmove", () => !near() && away(), { passive: true });
  log.addEventListener("keydown", (event) => ["PageUp", "ArrowUp", "Home"].includes(event.key) && away());
  let before = 0;
  log.addEventListener("scroll", () => {
    const top = log.scrollTop;
    // Somebody moved the scroll bar, or was led elsewhere. Turns that get their real height move the place a little.
    if (top < before - 2 && log.scrollHeight - top - log.clientHeight > 150) away();
    before = top;
    log.toggleAttribute("data-scrolled", log.scrollTop > 4);
    if (near() && !thread.hasLater.value) pinned.value = true;
  }, { passive: true });
  const grown = new ResizeObserver(() => pinned.value && !reads(log) && toEnd(log));
  const watch = new MutationObserver(() => {
    for (const turn of log.children) grown.observe(turn);
    if (pinned.value && !reads(log)) toEnd(log);
  });
  watch.observe(log, { childList: true, subtree: true, characterData: true });
  return () => (grown.disconnect(), watch.disconnect());
}

/** Somebody who selects text does not want it to move. @param {HTMLElement} log */
function reads(log) {
  const selection = getSelection();
  return Boolean(selection && !selection.isCollapsed && log.contains(selection.anchorNode));
}

/** @param {{message: any, last: boolean}} props */
function Turn({ message, last }) {
  const stream = thread.current();
  if (message.role === "user") return html`<${Question} message=${message} />`;
  if (stream && stream.message === message.id) return html`<${Live} stream=${stream} />`;
  if (message.role === "assistant") return html`<${Answer} message=${message} last=${last} />`;
  const text = textOf(message.content);
  return html`<article class="turn" id=${`m-${message.id}`} tabindex="-1" aria-label=${message.role === "tool" ? _("tool") : message.role === "system" ? _("system") : message.role}>
    <details class="step"><summary><${Icon} name=${message.role === "tool" ? "tool" : "tune"} />
      ${message.role === "tool" ? _("Result of a tool") : _("Instructions")}<${Icon} name="right" small /></summary>
      <div class="plain">${text}</div></details>
  </article>`;
}

/** @param {{message: any}} props */
function Question({ message }) {
  const [editing, setEditing] = useState(false);
  const text = textOf(message.content);
  const files = filesOf(message.content, message.attachments);
  const said = time(message.created_at);
  const busy = Boolean(thread.current()) || thread.sending.value;
  return html`<article class="turn ask" id=${`m-${message.id}`} tabindex="-1" aria-label=${`${page.user.name}, ${said}`}>
    <div class="noted"><span class="who cut">${page.user.name}</span><span>${said}</span></div>
    <${Files} files=${files} />
    ${editing ? html`<${Edit} text=${text} close=${() => setEditing(false)} save=${(/** @type {string} */ words) => {
      setEditing(false);
      thread.edit(message, words);
    }} />` : html`${text && html`<div class="said" dir="auto">${text}</div>`}
    <div class="acts-row">
      <${Versions} message=${message} label=${_("Versions of this question")} />
      ${text && html`<${Tap} small icon="copy" label=${_("Copy question")} onClick=${() => copy(text, _("Question"))} />`}
      <${Tap} small icon="edit" label=${_("Edit question")} disabled=${busy} onClick=${() => setEditing(true)} />
    </div>`}
  </article>`;
}

/** @param {{text: string, close: () => void, save: (text: string) => void}} props */
function Edit({ text, close, save }) {
  const field = useRef(/** @type {HTMLTextAreaElement | null} */ (null));
  useLayoutEffect(() => {
    field.current?.focus();
    field.current?.setSelectionRange(text.length, text.length);
  }, []);
  const done = () => {
    const words = field.current?.value ?? "";
    if (words.trim()) save(words);
  };
  const keyed = (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Escape") close();
    else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) done();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  return html`<div class="said editing">
    <textarea class="input" aria-label=${_("Question")} ref=${field} onKeyDown=${keyed} dir="auto">${text}</textarea>
    <footer><small class="mute">${_("The old version stays.")}</small><span class="push"></span>
      <button type="button" class="btn" onClick=${close}>${_("Cancel")}</button>
      <button type="button" class="btn solid" onClick=${done}>${_("Ask")}</button></footer>
  </div>`;
}

/** Other versions of a message, where there are some. @param {{message: any, label: string}} props */
function Versions({ message, label }) {
  const all = message.siblings ?? [];
  if (all.length < 2) return null;
  const at = all.indexOf(message.id) + 1;
  const step = (/** @type {number} */ by) => {
    const id = sibling(message, by);
    return { disabled: !id || Boolean(thread.current()), onClick: () => id && thread.showVersion(id) };
  };
  return html`<span class="sib" role="group" aria-label=${label}>
    <${Tap} small icon="left" label=${_("Previous version")} ...${step(-1)} />
    <span>${at}/${all.length}</span>
    <${Tap} small icon="right" label=${_("Next version")} ...${step(1)} />
  </span>`;
}

/** @param {{message: any, last: boolean}} props */
function Answer({ message, last }) {
  const text = textOf(message.content);
  const said = time(message.created_at);
  // Where nobody answered there is no model to name but the one that was asked.
  const name = message.model || (last && thread.chat.value?.model) || _("Answer");
  const busy = Boolean(thread.current()) || thread.sending.value;
  const again = () => thread.regenerate(message);
  return html`<article class=${`turn ${last ? "last" : ""}`} id=${`m-${message.id}`} tabindex="-1" aria-label=${`${name}, ${said}`}>
    <${Note} provider=${message.provider} model=${name}>
      <span>${said}${message.took ? ` · ${seconds(message.took)}` : ""}</span>
      <span class="tok">${tokens(message.usage)}</span><span>${cost(message.cost)}</span>
    </${Note}>
    <${Steps} reasoning=${message.reasoning} tools=${message.tool_calls.map((/** @type {any} */ call) => call.function ?? call)} />
    <${Markdown} text=${text} over=${true} cites=${message.citations} />
    ${message.citations?.length > 0 && html`<${Later} from=${sources} name="Sources" text=${text} citations=${message.citations} />`}
    <${Ending} message=${message} text=${text} busy=${busy} again=${again} />
    <div class="acts-row">
      <${Versions} message=${message} label=${_("Versions of this answer")} />
      ${text && html`<${Tap} small icon="copy" label=${_("Copy answer")} onClick=${() => copy(text, _("Answer"))} />`}
      ${text && speaks && html`<${Speak} id=${message.id} text=${text} />`}
      <${Tap} small icon="again" label=${_("Answer again")} disabled=${busy} onClick=${again} />
      <${Tap} small icon="more" label=${_("Options of this answer")} aria-haspopup="menu" disabled=${busy} onClick=${(/** @type {Event} */ event) => {
        const anchor = /** @type {HTMLElement} */ (event.currentTarget);
        import("./organise.js").then(({ answerMenu }) => answerMenu(anchor, message)).catch(store.complain);
      }} />
    </div>
  </article>`;
}

/** @param {any} props */
function Note({ provider, model, children }) {
  return html`<div class="noted"><span class="sym" aria-hidden="true">${symbol(provider || model)}</span>
    <span class="who cut" title=${provider ? _("{model} at {provider}", { model, provider }) : model}>${model}</span>${children}</div>`;
}

/** The end of an answer that is not finished always says so. @param {any} props */
function Ending({ message, text, busy, again }) {
  const { state, error, finish_reason: reason } = message;
  const go = () => thread.proceed(message);
  const proceed = text && html`<button type="button" class="btn line" disabled=${busy} onClick=${go}>${_("Continue")}</button>`;
  const retry = html`<button type="button" class="btn line" disabled=${busy} onClick=${again}>${_("Try again")}</button>`;
  const other = html`<button type="button" class="btn" onClick=${() => (store.dialog.value = "models")}>${_("Other model")}</button>`;
  if (state === "error") {
    return html`<div class="ended bad" role="alert"><${Icon} name="alert" />
      <p><strong>${_("The answer failed.")}</strong> ${error?.message ?? ""}</p>${retry}${other}</div>`;
  }
  if (state === "interrupted") {
    return html`<div class="ended"><${Icon} name="info" /><p><strong>${_("Interrupted.")}</strong> ${text
      ? _("The server stopped. The text above is saved.") : _("The server stopped. Nothing was said yet.")}</p>${proceed}${!text && retry}</div>`;
  }
  if (state === "stopped") {
    return html`<div class="ended"><${Icon} name="stop" /><p><strong>${_("Stopped.")}</strong></p>${text ? proceed : retry}</div>`;
  }
  if (reason === "length") {
    return html`<div class="ended"><${Icon} name="info" /><p><strong>${_("Cut off.")}</strong> ${_("The answer reached its longest.")}</p>${proceed}</div>`;
  }
  if (!text && !message.tool_calls.length && state === "done") {
    return html`<div class="ended"><${Icon} name="info" /><p>${_("The model said nothing.")}</p>${retry}</div>`;
  }
  return null;
}

/** What a model thought and which tools it called, folded. @param {any} props */
function Steps({ reasoning, tools, thinking = false, open = false }) {
  if (!reasoning && !tools.length) return null;
  return html`<div class="steps">
    ${reasoning && html`<${Reasoning} text=${reasoning} thinking=${thinking} open=${open} />`}
    ${tools.map((/** @type {any} */ call) => html`<details class="step"><summary><${Icon} name="tool" /> ${parts(_("Called {tool}"), { tool: html`<code class="cut">${call.name}</code>` })}
      <${Icon} name="right" small /></summary><div class="plain"><code>${pretty(call.arguments)}</code></div></details>`)}
  </div>`;
}

/** Open while there is nothing else to read; it folds itself once, and never against the reader. @param {any} props */
function Reasoning({ text, thinking, open }) {
  const [chosen, choose] = useState(/** @type {boolean | null} */ (null));
  const isOpen = chosen ?? open;
  const press = (/** @type {Event} */ event) => {
    event.preventDefault();
    choose(!isOpen);
  };
  return html`<details class="step" open=${isOpen}><summary onClick=${press}>
    ${thinking ? html`<span class="lamp"></span> ${_("Thinking")}` : html`<${Icon} name="think" /> ${_("Thought")}`}
    <${Icon} name="right" small /></summary><div class="plain">${text}</div></details>`;
}

/** An answer that is coming. @param {{stream: import("./thread.js").Stream}} props */
function Live({ stream }) {
  const answer = stream.answer.value;
  const model = answer.model || store.chosen.value.id || _("Answer");
  const waits = !answer.text && !answer.reasoning && !answer.tools.length;
  useReading(answer.text);
  return html`<article class="turn live last" id=${`m-${stream.message}`} tabindex="-1" aria-label=${_("{model}, answering", { model })} aria-busy="true">
    <${Note} provider=${answer.provider} model=${model}><${Clock} since=${stream.since} /></${Note}>
    <${Steps} reasoning=${answer.reasoning} tools=${answer.tools} thinking=${answer.thinking} open=${!answer.text} />
    ${waits && html`<p class="waits"><span class="lamp"></span>${answer.status || (answer.passedOver.length ? _("Asking another provider") : _("Waiting for the first words"))}</p>`}
    <${Markdown} text=${answer.text} over=${false} />
    ${stream.lost.value && html`<p class="waits"><span class="lamp"></span>${_("Connecting again. The answer goes on by itself on the server.")}</p>`}
  </article>`;
}

/** Seconds since the question. @param {{since: number}} props */
function Clock({ since }) {
  const [, tick] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => tick((count) => count + 1), 1000);
    return () => clearInterval(timer);
  }, []);
  return html`<span aria-hidden="true">${_("{count} s", { count: Math.max(0, Math.floor((Date.now() - since) / 1000)) })}</span>`;
}

/** Tells a screen reader whole sentences, at most every two seconds. @param {string} text */
function useReading(text) {
  const at = useRef({ place: 0, next: 0 });
  useEffect(() => {
    const now = Date.now();
    if (now < at.current.next) return;
    const [words, place] = sentences(text, at.current.place);
    if (!words) return;
    at.current = { place, next: now + 2000 };
    store.said.value = words;
  }, [text]);
}

const speaks = Boolean(page.can.speak || globalThis.speechSynthesis);

/** @param {{id: string, text: string}} props */
function Speak({ id, text }) {
  const on = store.speaking.value === id;
  const press = () => import("./speech.js").then(({ toggle }) => toggle(id, text)).catch(store.complain);
  return html`<${Tap} small icon=${on ? "stop" : "speak"} label=${on ? _("Stop reading aloud") : _("Read aloud")} onClick=${press} />`;
}

const markdown = () => import("./markdown.js");
const sources = () => import("./sources.js");

/** @param {{text: string, over: boolean, cites?: any[]}} props */
export function Markdown({ text, over, cites }) {
  const place = useRef(/** @type {HTMLElement | null} */ (null));
  const prose = useRef(/** @type {any} */ (null));
  const now = useRef({ text, over, cites });
  now.current = { text, over, cites };
  useLayoutEffect(() => {
    if (prose.current) prose.current.update(text, over, cites);
    else if (text) {
      markdown().then(({ Prose }) => {
        if (!place.current) return;
        prose.current ??= new Prose(place.current);
        prose.current.update(now.current.text, now.current.over, now.current.cites);
      });
    }
  }, [text, over]);
  return html`<div class="prose" dir="auto" ref=${place} onClick=${copied}></div>`;
}

/** @param {MouseEvent} event */
function copied(event) {
  pressedPicture(event);
  const button = /** @type {HTMLElement} */ (event.target).closest("[data-copy]");
  if (button) copy(button.closest(".code")?.querySelector("pre")?.textContent?.trimEnd() ?? "", _("Code"));
}

function Problem() {
  const found = thread.problem.value;
  if (!found) return null;
  return html`<div class="turn"><div class="ended bad" role="alert"><${Icon} name="alert" /><p>${found.message}</p>
    ${found.again && html`<button type="button" class="btn line" onClick=${() => {
      thread.problem.value = null;
      found.again?.();
    }}>${_("Try again")}</button>`}</div></div>`;
}
