// Pictures, large, one at a time.

import { _ } from "./i18n.js";
import { Dialog, Icon, Tap, html } from "./ui.js";
import { viewed } from "./attachments.js";

/** @param {{close: () => void}} props */
export function Pictures({ close }) {
  const { items, at } = /** @type {NonNullable<typeof viewed.value>} */ (viewed.value);
  const { src, label } = items[at];
  const step = (/** @type {number} */ by) => (viewed.value = { items, at: (at + by + items.length) % items.length });
  const keyed = (/** @type {KeyboardEvent} */ event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || items.length < 2) return;
    event.preventDefault();
    step(by);
  };
  return html`<${Dialog} label=${label} className="viewer" close=${close}>
    <div onKeyDown=${keyed}>
      <header><b class="cut">${label}</b>
        ${items.length > 1 && html`<span class="mute" role="status">${_("{part} of {all}", { part: at + 1, all: items.length })}</span>`}
        <span class="push"></span>
        ${items.length > 1 && html`<${Tap} icon="left" label=${_("Previous picture")} onClick=${() => step(-1)} />
          <${Tap} icon="right" label=${_("Next picture")} onClick=${() => step(1)} />`}
        <a class="tap" href=${src} download aria-label=${_("Download {name}", { name: label })} title=${_("Download")}><${Icon} name="download" /></a>
        <${Tap} icon="close" label=${_("Close")} data-first="" onClick=${close} /></header>
      <img src=${src} alt=${label} />
    </div></${Dialog}>`;
}
