// What an answer rests on, below it.

import { marked } from "./cites.js";
import { _ } from "./i18n.js";
import { html } from "./ui.js";

/** @param {{text: string, citations: any[]}} props */
export function Sources({ text, citations }) {
  const { sources } = marked(text, citations);
  if (!sources.length) return null;
  return html`<section class="sources" aria-label=${_("Sources")}><h3>${_("Sources")}</h3>
    <ol>${sources.map(({ number, url, title, host }) => html`<li><span class="cite" aria-hidden="true">${number}</span>
      <a class="cut" href=${url} target="_blank" rel="noopener noreferrer nofollow">${title}</a><small class="mute cut">${host}</small></li>`)}</ol></section>`;
}
