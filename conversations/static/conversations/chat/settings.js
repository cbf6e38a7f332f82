// Instructions and parameters of the chat that is open.

import { useState } from "preact/hooks";
import { _, ngettext } from "./i18n.js";
import * as thread from "./thread.js";
import { Dialog, html } from "./ui.js";
import { BOUNDS, EFFORTS } from "./words.js";

const NUMBERS = [
  ["temperature", _("Temperature"), "0.1", _("Low: sober. High: varied.")],
  ["top_p", _("Top P"), "0.05", _("Only the likeliest words, up to this share.")],
  ["max_tokens", _("Longest answer"), "1", _("In tokens.")],
  ["frequency_penalty", _("Frequency penalty"), "0.1", _("Against saying the same again.")],
  ["presence_penalty", _("Presence penalty"), "0.1", _("Towards new subjects.")],
  ["seed", _("Seed"), "1", _("The same number, about the same answer.")],
];
/** @type {Record<string, string>} */
const EFFORT_NAMES = { none: _("none"), minimal: _("minimal"), low: _("low"), medium: _("medium"), high: _("high") };

/** @param {{close: () => void}} props */
function Settings({ close }) {
  const [text, setText] = useState(thread.chat.value?.system_prompt ?? thread.prompt.value);
  const [values, setValues] = useState(/** @type {Record<string, any>} */ ({ ...(thread.chat.value?.settings ?? thread.settings.value) }));
  const [fault, setFault] = useState("");
  const count = NUMBERS.filter(([name]) => values[name] !== undefined).length + (values.reasoning_effort ? 1 : 0);
  const save = async (/** @type {Event} */ event) => {
    event.preventDefault();
    try {
      await thread.setUp(text.trim(), values);
      close();
    } catch (error) {
      setFault(/** @type {Error} */ (error).message);
    }
  };
  const set = (/** @type {string} */ name, /** @type {any} */ value) => {
    const { [name]: before, ...others } = values;
    setValues(value === "" || Number.isNaN(value) ? others : { ...others, [name]: value });
  };
  return html`<${Dialog} label=${_("Instructions for this chat")} close=${close}><form onSubmit=${save}>
    <h2>${_("Instructions for this chat")}</h2>
    <p class="mute" id="about-instructions">${_("Sent to the model before everything else. They count from the next message on.")}</p>
    <textarea class="input tall" aria-label=${_("Instructions")} aria-describedby="about-instructions" rows="6" maxlength="100000" data-first
      value=${text} onInput=${(/** @type {any} */ event) => setText(event.currentTarget.value)}
      placeholder=${_("For example: answer briefly, and in British English.")}></textarea>
    <details class="fold" open=${count > 0}><summary>${_("Parameters")} <small class="mute">${count ? ngettext("{count} set", "{count} set", count) : _("as the provider has them")}</small></summary>
      <div class="pairs">${NUMBERS.map(([name, label, step, help]) => html`<label><span>${label}<small>${help}</small></span>
        <input class="input" type="number" inputmode="decimal" name=${name} min=${BOUNDS[name][0]} max=${BOUNDS[name][1]} step=${step}
          placeholder="–" value=${values[name] ?? ""} onInput=${(/** @type {any} */ event) => set(name, event.currentTarget.valueAsNumber)} /></label>`)}
        <label><span>${_("Reasoning effort")}<small>${_("For models that think first.")}</small></span>
        <select class="input" name="reasoning_effort" value=${values.reasoning_effort ?? ""} onChange=${(/** @type {any} */ event) => set("reasoning_effort", event.currentTarget.value)}>
          <option value="">–</option>${EFFORTS.map((effort) => html`<option value=${effort}>${EFFORT_NAMES[effort]}</option>`)}</select></label></div>
      <p class="mute">${_("Empty: the provider’s own. What a model does not know is left out or refused by its provider.")}</p></details>
    ${fault && html`<p class="err" role="alert">${fault}</p>`}
    <footer>${count > 0 && html`<button type="button" class="btn" onClick=${() => setValues({})}>${_("Clear parameters")}</button><span class="push"></span>`}
      <button type="button" class="btn" onClick=${close}>${_("Cancel")}</button><button type="submit" class="btn solid">${_("Save")}</button></footer>
  </form></${Dialog}>`;
}

export const dialogs = { settings: Settings };
