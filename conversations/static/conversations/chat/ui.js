// Small parts that the others are made of: icons, a menu, a dialog, the notice at the bottom, what is read out.

import { h } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { signal } from "@preact/signals";
import htm from "htm";
import { page } from "./api.js";
import { _ } from "./i18n.js";
import * as store from "./store.js";

export const html = htm.bind(h);

/** @param {{name: string, small?: boolean}} props */
export function Icon({ name, small }) {
  return html`<svg class=${small ? "i i-s" : "i"} aria-hidden="true"><use href=${`${page.urls.icons}#i-${name}`} /></svg>`;
}

/** A button that is an icon alone, with a name for who does not see it. @param {any} props */
export function Tap({ icon, label, small, keys, ...rest }) {
  return html`<button type="button" class=${small ? "tap s" : "tap"} aria-label=${label} title=${label}
    aria-keyshortcuts=${keys} ...${rest}><${Icon} name=${icon} small=${small} /></button>`;
}

/** The menu that is open: what opened it, and its entries {icon, label, act, bad, href, hint}. */
export const menu = signal(/** @type {{anchor: HTMLElement, label: string, items: any[]} | null} */ (null));

/** @param {Event} event @param {string} label @param {any[]} items */
export function openMenu(event, label, items) {
  const anchor = /** @type {HTMLElement} */ (event.currentTarget);
  menu.value = menu.value?.anchor === anchor ? null : { anchor, label, items };
}

export function Menu() {
  const open = menu.value;
  const place = useRef(/** @type {HTMLElement | null} */ (null));
  useLayoutEffect(() => {
    const box = place.current;
    if (!box || !open) return undefined;
    const at = open.anchor.getBoundingClientRect();
    const { width, height } = box.getBoundingClientRect();
    const below = at.bottom + height + 8 < innerHeight;
    box.style.left = `${Math.max(8, Math.min(at.left, innerWidth - width - 8))}px`;
    box.style.top = `${below ? at.bottom + 4 : Math.max(8, at.top - height - 4)}px`;
    /** @type {HTMLElement | null} */ (box.querySelector("[role=menuitem]"))?.focus();
    const outside = (/** @type {Event} */ event) => {
      const target = /** @type {Node} */ (event.target);
      if (!box.contains(target) && !open.anchor.contains(target)) menu.value = null;
    };
    document.addEventListener("pointerdown", outside);
    return () => document.removeEventListener("pointerdown", outside);
  }, [open]);
  if (!open) return null;
  const leave = () => {
    menu.value = null;
    open.anchor.focus();
  };
  const keyed = (/** @type {KeyboardEvent} */ event) => {
    const entries = [...(place.current?.querySelectorAll("[role=menuitem]") ?? [])];
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const at = entries.indexOf(/** @type {Element} */ (document.activeElement));
    if (event.key === "Escape" || event.key === "Tab") leave();
    else if (step) /** @type {HTMLElement} */ (entries[(at + step + entries.length) % entries.length]).focus();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  return html`<div class="pop menu" role="menu" aria-label=${open.label} ref=${place} onKeyDown=${keyed}>
    ${open.items.map(({ icon, label, act, bad, href, hint, form, download }) => {
      const inside = html`<${Icon} name=${icon} /><span>${label}</span>${hint && html`<span class="push mute">${hint}</span>`}`;
      if (href) return html`<a role="menuitem" tabindex="-1" href=${href} download=${download} onClick=${download && leave}>${inside}</a>`;
      const done = () => {
        leave();
        if (form) /** @type {HTMLFormElement} */ (document.getElementById(form)).requestSubmit();
        else act();
      };
      return html`<button type="button" role="menuitem" tabindex="-1" class=${bad ? "bad" : ""} onClick=${done}>${inside}</button>`;
    })}
  </div>`;
}

/**
 * A dialog that holds the focus, closes with Escape or a press beside it, and gives the focus back.
 * @param {any} props
 */
export function Dialog({ label, className = "", close, children }) {
  const place = useRef(/** @type {HTMLDialogElement | null} */ (null));
  useEffect(() => {
    const before = /** @type {HTMLElement | null} */ (document.activeElement);
    const box = place.current;
    box?.showModal();
    /** @type {HTMLElement | null} */ (box?.querySelector("[data-first]"))?.focus();
    return () => before?.isConnected && before.focus();
  }, []);
  const pressed = (/** @type {MouseEvent} */ event) => event.target === place.current && close();
  return html`<dialog class=${`dlg ${className}`} aria-label=${label} ref=${place} onClose=${close} onMouseDown=${pressed}>
    ${children}
  </dialog>`;
}

/**
 * A part of the page that is fetched when it is first shown.
 * @param {{from: () => Promise<any>, name: string, [prop: string]: any}} props
 */
export function Later({ from, name, ...props }) {
  const [Part, setPart] = useState(/** @type {any} */ (null));
  useEffect(() => {
    from().then((found) => setPart(() => found[name])).catch(store.complain);
  }, [from, name]);
  return Part && html`<${Part} ...${props} />`;
}

export function Toast() {
  const shown = store.toast.value;
  const timer = useRef(0);
  const hold = () => clearTimeout(timer.current);
  const start = () => {
    hold();
    timer.current = window.setTimeout(() => (store.toast.value = null), 6000);
  };
  useEffect(() => {
    if (shown) start();
    return hold;
  }, [shown]);
  const undo = () => {
    store.toast.value = null;
    shown?.undo?.();
  };
  return html`<div class="toasts" role="status">
    ${shown && html`<div class="toast" onMouseEnter=${hold} onMouseLeave=${start} onFocusIn=${hold} onFocusOut=${start}>
      <span class="cut">${shown.text}</span>
      ${shown.undo && html`<button type="button" class="btn" onClick=${undo}>${_("Undo")}</button>`}
    </div>`}
  </div>`;
}

/** What a screen reader is told, beside what is on the page. */
export function Announcer() {
  return html`<div class="vh" role="status" data-said>${store.said.value}</div>`;
}

/** @param {string} text @param {string} what */
export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    store.tell(_("{what} copied.", { what }));
  } catch {
    store.tell(_("The browser did not allow copying."));
  }
}

/** The styles of what is rare, once; nothing of it is shown before they are there. */
export function dress() {
  dressed ??= new Promise((resolve) => {
    const link = document.createElement("link");
    Object.assign(link, { rel: "stylesheet", href: page.urls.rare, onload: resolve, onerror: resolve });
    document.head.append(link);
  });
  return dressed;
}
/** @type {Promise<any> | undefined} */
let dressed;

/** Wide enough for a keyboard to be there. */
export const isWide = () => matchMedia("(min-width: 64rem)").matches;

export function focusBox() {
  document.getElementById("message")?.focus();
}
