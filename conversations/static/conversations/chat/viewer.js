// Pictures, large, one at a time.

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
        ${items.length > 1 && html`<span class="mute" role="status">${at + 1} of ${items.length}</span>`}
        <span class="push"></span>
        ${items.length > 1 && html`<${Tap} icon="left" label="Previous picture" onClick=${() => step(-1)} />
          <${Tap} icon="right" label="Next picture" onClick=${() => step(1)} />`}
        <a class="tap" href=${src} download aria-label=${`Download ${label}`} title="Download"><${Icon} name="download" /></a>
        <${Tap} icon="close" label="Close" data-first="" onClick=${close} /></header>
      <img src=${src} alt=${label} />
    </div></${Dialog}>`;
}
