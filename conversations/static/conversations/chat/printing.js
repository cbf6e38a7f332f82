// A chat on paper, or as a PDF with real text: the whole branch that is shown, whatever of it is on the screen.

import { textOf } from "./answer.js";
import { ROOT, json, page } from "./api.js";
import { _ } from "./i18n.js";
import * as store from "./store.js";
import { dress } from "./ui.js";
import { time } from "./words.js";

/** @param {string} id @returns {Promise<any[]>} all messages of the branch */
async function branch(id) {
  let part = await json("GET", `${ROOT}/conversations/${id}?limit=100`);
  let all = part.messages;
  while (part.has_more) {
    part = await json("GET", `${ROOT}/conversations/${id}?limit=100&before=${all[0].id}`);
    all = [...part.messages, ...all];
  }
  return all;
}

/** @param {any} chat */
export async function print(chat) {
  dress();
  store.tell(_("Getting the chat ready to print."));
  const [{ Prose }, messages] = await Promise.all([import("./markdown.js"), branch(chat.id)]);
  const sheet = document.createElement("div");
  sheet.id = "sheet";
  sheet.append(element("h1", chat.title || _("Chat")), element("p", `${page.user.name} · ${time(new Date().toISOString())}`, "mute"));
  for (const message of messages) {
    if (message.role !== "user" && message.role !== "assistant") continue;
    const asked = message.role === "user";
    const turn = element("article", "", asked ? "asked" : "");
    turn.append(element("p", `${asked ? page.user.name : message.model || _("Answer")} · ${time(message.created_at)}`, "mute"));
    const said = element("div", asked ? textOf(message.content) : "", asked ? "plain" : "prose");
    if (!asked) new Prose(said).update(textOf(message.content), true);
    turn.append(said);
    sheet.append(turn);
  }
  document.getElementById("sheet")?.remove();
  document.body.append(sheet);
  const title = document.title;
  const root = document.documentElement.dataset;
  const theme = root.theme;
  document.title = chat.title || title;
  store.toast.value = null;
  await settled(sheet);
  // Paper is white, whatever the screen is.
  root.theme = "light";
  addEventListener("afterprint", () => {
    sheet.remove();
    document.title = title;
    if (theme) root.theme = theme;
    else delete root.theme;
  }, { once: true });
  window.print();
}

/** Formulas and colours come a little later than the text. @param {HTMLElement} sheet */
async function settled(sheet) {
  for (let tries = 0; tries < 20; tries += 1) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    if (!sheet.querySelector("[data-tex]:empty") && tries > 1) return;
  }
}

/** @param {string} tag @param {string} text @param {string} [name] */
function element(tag, text, name = "") {
  const made = document.createElement(tag);
  made.className = name;
  made.textContent = text;
  return made;
}
