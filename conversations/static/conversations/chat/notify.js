// Tells of an answer that is done while nobody looks at the page; only where the user has asked for it.

import { _ } from "./i18n.js";
import * as store from "./store.js";

/** On, after the browser was asked, or off. */
export async function toggle() {
  if (store.remembered("notify")) {
    store.remember("notify", "");
    store.tell(_("No more notifications."));
    return;
  }
  if (!("Notification" in window) || (await Notification.requestPermission()) !== "granted") {
    store.tell(_("The browser does not allow notifications here."));
    return;
  }
  store.remember("notify", "on");
  store.tell(_("You’ll be told of answers that end while you look elsewhere."));
}

/** The chat's name is shown, and nothing of what was said. @param {any} chat */
export function tellOf(chat) {
  if (Notification.permission !== "granted") return;
  const note = new Notification(_("An answer is there"), { body: chat.title || _("New chat"), tag: chat.id });
  note.onclick = () => (window.focus(), note.close());
}
