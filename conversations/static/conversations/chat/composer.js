// The message box. What stands in it is kept per chat until it is sent.

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { signal, useSignalEffect } from "@preact/signals";
import { AttachTap, Chips, dragged, isWaiting, pasted, ready, restore, taken } from "./attachments.js";
import { textOf } from "./answer.js";
import { page } from "./api.js";
import { _, ngettext, parts } from "./i18n.js";
import { contentOf, filesOf } from "./parts.js";
import * as store from "./store.js";
import * as thread from "./thread.js";
import { Icon, Later, Tap, html, isWide } from "./ui.js";
import { symbol } from "./words.js";

const text = signal("");
const voice = () => import("./voice.js");
const library = () => import("./prompts.js");
/** Browsers give a microphone to pages that came over https or from this machine. */
const hears = Boolean(page.can.hear && navigator.mediaDevices && globalThis.MediaRecorder);

const draftOf = () => `draft.${thread.chat.value?.id ?? "new"}`;

export function Composer() {
  const field = useRef(/** @type {HTMLTextAreaElement | null} */ (null));
  const place = thread.chat.value?.id ?? "new";
  useLayoutEffect(() => {
    text.value = store.remembered(draftOf());
  }, [place]);
  useEffect(() => {
    if (isWide()) field.current?.focus();
  }, []);
  useSignalEffect(() => {
    if (!thread.returned.value) return;
    write(textOf(thread.returned.value));
    const files = filesOf(thread.returned.value);
    if (files.length) restore(files);
    thread.returned.value = "";
  });
  useLayoutEffect(() => {
    const box = field.current;
    if (!box || CSS.supports("field-sizing", "content")) return;
    box.style.height = "auto";
    box.style.height = `${box.scrollHeight}px`;
  });
  const [dictating, setDictating] = useState(false);
  const heard = (/** @type {string} */ words) => write(text.value ? `${text.value.replace(/\s$/, "")} ${words}` : words);
  // A slash at the beginning opens the prompts; Escape shuts them until it is gone.
  const [slash, setSlash] = useState("");
  const [active, tellActive] = useState(/** @type {string | null} */ (null));
  const keys = useRef(/** @type {((event: KeyboardEvent) => boolean) | null} */ (null));
  const typed = (/** @type {any} */ event) => {
    write(event.currentTarget.value);
    setSlash((now) => (text.value[0] !== "/" ? "" : now || "open"));
  };
  const running = thread.current();
  const offline = !store.online.value;
  const busy = Boolean(running) || thread.sending.value || Boolean(store.lanes.value);
  const cannot = busy || offline || isWaiting() || !(text.value.trim() || ready().length) || store.models.value?.length === 0;
  const go = () => {
    if (cannot) return;
    const said = contentOf(text.value, taken());
    write("");
    thread.send(said);
  };
  const keyed = (/** @type {KeyboardEvent} */ event) => {
    // While an input method composes, Enter chooses a word.
    if (event.isComposing || event.keyCode === 229) return;
    if (keys.current?.(event)) {
      event.preventDefault();
      event.stopPropagation();
      return;
    }
    if (event.key !== "Enter" || event.shiftKey) return;
    if (matchMedia("(pointer: coarse) and (hover: none)").matches) return;
    event.preventDefault();
    go();
  };
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    go();
  };
  return html`<form class="dock" aria-label=${_("Message")} onSubmit=${submit}>
    <div class=${dragged.value ? "box over" : "box"}>
      <${Chips} />
      <label class="vh" for="message">${_("Message")}</label>
      <textarea id="message" rows="1" ref=${field} value=${text.value} enterkeyhint="send" dir="auto"
        placeholder=${store.wishes.value.draw ? _("Describe a picture") : thread.messages.value.length ? _("Write the next message") : _("Ask something")}
        role=${active && "combobox"} aria-expanded=${active && "true"} aria-controls=${active && "slash"} aria-autocomplete=${active && "list"} aria-activedescendant=${active}
        onInput=${typed} onBlur=${() => setSlash("")} onKeyDown=${keyed} onPaste=${pasted}></textarea>
      ${slash === "open" && html`<${Later} from=${library} name="Suggestions" text=${text.value} keys=${keys} tell=${tellActive} close=${() => setSlash("shut")} />`}
      ${dictating ? html`<${Later} from=${voice} name="Dictation" insert=${heard} close=${() => setDictating(false)} />` : html`<div class="tools">
        <${AttachTap} />
        ${page.can.search && html`<${Tap} icon="web" label=${_("Search the web")} aria-pressed=${store.wishes.value.search} onClick=${() => store.wish("search")} />`}
        ${page.can.draw && html`<${Tap} icon="image" label=${_("Make a picture")} aria-pressed=${store.wishes.value.draw} onClick=${() => store.wish("draw")} />`}
        <${Tap} icon="tune" label=${_("Instructions for this chat")} aria-haspopup="dialog"
          aria-pressed=${Boolean(thread.chat.value?.system_prompt ?? thread.prompt.value)}
          onClick=${() => (store.dialog.value = "settings")} />
        <span class="push"></span>
        ${hears && html`<${Tap} icon="mic" label=${_("Dictate")} disabled=${offline} onClick=${() => setDictating(true)} />`}
        <${Pick} />
        ${running
          ? html`<button type="button" class="go" key="stop" aria-label=${_("Stop")} title=${_("Stop")} aria-keyshortcuts="Escape"
              onClick=${thread.stop}><${Icon} name="stop" /></button>`
          : html`<button type="submit" class="go" key="send" aria-label=${_("Send")} title=${_("Send")} disabled=${cannot}>
              <${Icon} name="send" /></button>`}
      </div>`}
    </div>
    <p class="under"><span class="wide">${offline ? _("You’re offline. What you write stays here.")
      : parts(_("{enter} to send, {both} for a new line"), { enter: html`<kbd>Enter</kbd>`, both: html`<kbd>Shift</kbd> <kbd>Enter</kbd>` })}</span>
      <span>${_("Models make mistakes. Check what matters.")}</span></p>
  </form>`;
}

/** @param {string} value */
function write(value) {
  text.value = value;
  store.remember(draftOf(), value);
}

/** Which model answers next. */
function Pick() {
  const { id, provider } = store.chosen.value;
  const several = store.comparing.value.length;
  const known = store.models.value?.find((model) => model.id === id && model.provider === provider);
  const label = known?.label || provider;
  return html`<button type="button" class="pick" aria-haspopup="dialog" disabled=${!store.models.value?.length}
    title=${_("Choose a model")} onClick=${() => (store.dialog.value = "models")}>
    ${several ? html`<span class="sym" aria-hidden="true">${several}</span>` : id && html`<span class="sym" aria-hidden="true">${symbol(label && label !== "alias" ? label : id)}</span>`}
    <span class="cut"><span class="vh">${_("Model:")} </span>${several ? ngettext("{count} model", "{count} models", several) : id || (store.models.value ? _("No model") : "…")}</span>
    <${Icon} name="down" small />
  </button>`;
}
