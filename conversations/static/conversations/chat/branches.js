// The map of a chat: all its branches at once, each message with how it begins.

import { useEffect, useState } from "preact/hooks";
import { ROOT, json } from "./api.js";
import { _, ngettext } from "./i18n.js";
import { inOrder } from "./words.js";
import * as thread from "./thread.js";
import { Dialog, html } from "./ui.js";

/** @type {Record<string, string>} */
const STATES = {
  queued: _("queued"), streaming: _("streaming"), stopped: _("stopped"), interrupted: _("interrupted"), error: _("error"),
};

/** @param {{close: () => void}} props */
function Branches({ close }) {
  const [nodes, setNodes] = useState(/** @type {any[] | null} */ (null));
  const [leaf, setLeaf] = useState("");
  const [fault, setFault] = useState("");
  useEffect(() => {
    json("GET", `${ROOT}/conversations/${thread.chat.value.id}/tree`).then((tree) => {
      setNodes(inOrder(tree.nodes, tree.active_leaf));
      setLeaf(tree.active_leaf);
    }).catch((error) => setFault(error.message));
  }, []);
  const go = async (/** @type {any} */ node) => {
    close();
    if (!node.shown) await thread.showVersion(node.id);
    await thread.open(thread.chat.value.id, { leaf: node.id });
  };
  const keyed = (/** @type {KeyboardEvent} */ event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const all = [...(/** @type {HTMLElement} */ (event.currentTarget).querySelectorAll("button"))];
    all[all.indexOf(/** @type {any} */ (document.activeElement)) + step]?.focus();
    event.preventDefault();
  };
  const branches = nodes?.filter((node) => node.ends).length ?? 0;
  return html`<${Dialog} label=${_("Branch map")} className="wide" close=${close}>
    <h2>${_("Branch map")}</h2>
    <p class="mute">${nodes && ngettext("One branch.", "{count} branches.", branches)} ${_("Choose a message to show its branch.")}</p>
    ${fault && html`<p class="err" role="alert">${fault}</p>`}
    <ul class="map" onKeyDown=${keyed}>${(nodes ?? []).map((node) => html`<li key=${node.id} class=${`in-${Math.min(node.depth, 8)}`}>
      <button type="button" aria-current=${node.shown ? "true" : null} data-first=${node.id === leaf ? true : null} onClick=${() => go(node)}>
        <span class="mute">${node.role === "user" ? _("Question") : node.model || _("Answer")}${["done", ""].includes(node.state) ? "" : `, ${STATES[node.state] ?? node.state}`}</span>
        <span class="cut">${node.preview || "…"}</span></button></li>`)}</ul>
    <footer><button type="button" class="btn line" onClick=${close}>${_("Close")}</button></footer></${Dialog}>`;
}

export const dialogs = { branches: Branches };
