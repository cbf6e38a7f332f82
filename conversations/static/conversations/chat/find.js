// Looking for words in the chat that is open. The server looks: what is not on the page cannot be found there.

import { useEffect, useState } from "preact/hooks";
import { ROOT, json } from "./api.js";
import { Finder } from "./dialogs.js";
import { _ } from "./i18n.js";
import * as thread from "./thread.js";
import { Dialog, Icon, html } from "./ui.js";
import { jump } from "./windows.js";
import { time } from "./words.js";

/** @param {{close: () => void}} props */
export default function Find({ close }) {
  const [words, setWords] = useState("");
  const [hits, setHits] = useState(/** @type {any[]} */ ([]));
  const [state, setState] = useState("");
  useEffect(() => {
    const wanted = words.trim();
    if (!wanted) {
      setHits([]);
      return undefined;
    }
    let current = true;
    setState(_("Searching"));
    const timer = setTimeout(async () => {
      try {
        const found = await json("GET", `${ROOT}/conversations/${thread.chat.value.id}/find?q=${encodeURIComponent(wanted)}`);
        if (current) setHits(found.data);
        if (current) setState("");
      } catch (error) {
        if (current) setState(/** @type {Error} */ (error).message);
      }
    }, 120);
    return () => {
      current = false;
      clearTimeout(timer);
    };
  }, [words]);
  const use = (/** @type {any} */ hit) => {
    close();
    jump(hit.message);
  };
  const row = (/** @type {any} */ hit) => html`<span class="lead"><${Icon} name=${hit.role === "user" ? "edit" : "right"} /></span>
    <span class="cut"><small class="cut">${hit.snippet.map((/** @type {any} */ piece) => (piece.match ? html`<mark>${piece.text}</mark>` : piece.text))}</small></span>
    <span></span><small class="mute">${time(hit.created_at)}</small>`;
  const empty = state || (words.trim() ? _("Nothing here with “{words}”.", { words: words.trim() }) : _("Words of this chat, as they stand there."));
  return html`<${Dialog} label=${_("Find in this chat")} className="finder" close=${close}>
    <${Finder} label=${_("Find in this chat")} placeholder=${_("Find in this chat")} words=${words} setWords=${setWords} rows=${hits}
      use=${use} row=${row} note=${_("show")} empty=${empty} /></${Dialog}>`;
}
