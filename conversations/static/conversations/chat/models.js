// The choice of a model, or of several: search, what each can do, favourites, and who has it.

import { useEffect, useState } from "preact/hooks";
import { Finder } from "./dialogs.js";
import { _ } from "./i18n.js";
import * as store from "./store.js";
import { Dialog, Icon, focusBox, html, isWide } from "./ui.js";
import { favoured, matching, modelKey, room, symbol } from "./words.js";

/** @typedef {import("./words.js").Model} Model */
/** @type {Record<string, [string, string]>} */
const ABILITIES = {
  vision: ["eye", _("Sees pictures")], tools: ["tool", _("Calls tools")], image: ["image", _("Draws")], audio: ["quote", _("Hears")],
};
const MOST = 4;
const kept = () => store.remembered("favourites").split("\n").filter(Boolean);

/** @param {{close: () => void}} props */
function Models({ close }) {
  const [words, setWords] = useState("");
  useEffect(() => void store.loadProviders(), []);
  const [favourites, setFavourites] = useState(kept);
  const [wanted, setWanted] = useState(/** @type {string[]} */ ([]));
  const { label, many = false, use: given, least = 2 } = store.picking.value ?? { label: _("Choose a model"), use: null };
  const [taken, setTaken] = useState(/** @type {Model[]} */ (many ? store.picking.value?.taken ?? [] : []));
  const all = store.models.value ?? [];
  const flags = Object.keys(ABILITIES).filter((flag) => all.some((model) => model.can.includes(flag)));
  const shown = matching(all, words).filter((model) => wanted.every((flag) =>
    flag === "star" ? favourites.includes(modelKey(model)) : model.can.includes(flag)));
  const rows = favoured(shown, favourites);
  const isTaken = (/** @type {Model} */ model) => taken.some((other) => modelKey(other) === modelKey(model));
  const leave = () => {
    store.picking.value = null;
    close();
  };
  const done = (/** @type {any} */ choice) => {
    leave();
    (given ?? store.choose)(choice);
    if (isWide()) requestAnimationFrame(focusBox);
  };
  const toggle = (/** @type {Model} */ model) => {
    if (isTaken(model)) setTaken(taken.filter((other) => modelKey(other) !== modelKey(model)));
    else if (taken.length < MOST) setTaken([...taken, model]);
  };
  const star = (/** @type {Model} */ model) => {
    const key = modelKey(model);
    const next = favourites.includes(key) ? favourites.filter((other) => other !== key) : [...favourites, key];
    store.remember("favourites", next.join("\n"));
    store.said.value = next.includes(key) ? _("{model} is a favourite.", { model: model.id }) : _("{model} is no favourite any more.", { model: model.id });
    setFavourites(next);
  };
  const also = (/** @type {KeyboardEvent} */ event, /** @type {Model} */ model) => {
    if (event.altKey && event.code === "KeyS" && model) star(model);
    else if (event.ctrlKey && event.key === "Enter" && many && taken.length >= least) done(taken);
    else return false;
    return true;
  };
  const { id, provider } = store.chosen.value;
  const ticked = (/** @type {Model} */ model) => (many ? isTaken(model) : !given && model.id === id && model.provider === provider);
  const row = (/** @type {Model} */ model) => html`
    <span class="sym" aria-hidden="true">${symbol(model.label === "alias" ? model.id : model.label)}</span>
    <span class="cut"><b class="cut">${model.id}</b><small class="cut">${model.label === "alias" ? _("Chosen by your administrator") : model.label}${model.context ? ` · ${room(model.context)}` : ""}</small></span>
    <span class="can">${model.can.filter((flag) => flag in ABILITIES).map((flag) => html`<span role="img"
      aria-label=${ABILITIES[flag][1]} title=${ABILITIES[flag][1]}><${Icon} name=${ABILITIES[flag][0]} /></span>`)}
      <span class=${favourites.includes(modelKey(model)) ? "star on" : "star"} title=${_("Favourite (Alt S)")} onClick=${(/** @type {Event} */ event) => {
        event.stopPropagation();
        star(model);
      }}><${Icon} name=${favourites.includes(modelKey(model)) ? "starred" : "star"} />${favourites.includes(modelKey(model)) && html`<span class="vh">${_("favourite")}</span>`}</span></span>
    <span class="tick">${ticked(model) && html`<${Icon} name="check" /><span class="vh">${many ? _("chosen") : _("in use")}</span>`}</span>`;
  const press = (/** @type {string} */ flag) => () =>
    setWanted(wanted.includes(flag) ? wanted.filter((other) => other !== flag) : [...wanted, flag]);
  const tools = html`<div class="sieve" role="group" aria-label=${_("Show only")}>
    <${Sieve} on=${wanted.includes("star")} press=${press("star")} icon="star" label=${_("Favourites")} />
    ${flags.map((flag) => html`<${Sieve} on=${wanted.includes(flag)} press=${press(flag)} icon=${ABILITIES[flag][0]} label=${ABILITIES[flag][1]} />`)}</div>`;
  const hints = html`<span><kbd>Alt</kbd> <kbd>S</kbd> ${_("favourite")}</span>`;
  return html`<${Dialog} label=${label} className="finder" close=${leave}>
    <${Finder} label=${_("Find a model")} placeholder=${_("Find a model or provider")} words=${words} setWords=${setWords} rows=${rows}
      use=${many ? toggle : done} row=${row} note=${many ? _("choose or leave out") : _("use")} tools=${tools} hints=${hints} also=${also}
      empty=${words ? _("No model with “{words}”.", { words }) : _("No such model.")} />
    ${many && html`<footer class="many"><span class="mute" role="status">${_("{count} of at most {most}", { count: taken.length, most: MOST })}</span><span class="push"></span>
      <button type="button" class="btn" onClick=${leave}>${_("Cancel")}</button>
      <button type="button" class="btn solid" disabled=${taken.length < least} onClick=${() => done(taken)}>${_("Compare")}</button></footer>`}
  </${Dialog}>`;
}

/** @param {{on: boolean, press: () => void, icon: string, label: string}} props */
function Sieve({ on, press, icon, label }) {
  return html`<button type="button" class="sift" aria-pressed=${on} onClick=${press}><${Icon} name=${icon} small /> ${label}</button>`;
}

export const dialogs = { models: Models };
