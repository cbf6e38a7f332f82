// The chat page's words in the reader's language. `node --test tests/node`.

import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./load.mjs";

const chat = "../../conversations/static/conversations/chat";

/** A module of a page in a language, with the words that the server put into the page. */
async function spoken(module, lang, catalogue) {
  globalThis.document = {
    documentElement: { lang },
    getElementById: (id) => (id === "words" ? { textContent: JSON.stringify(catalogue) } : null),
  };
  try {
    return await load(`${chat}/${module}.js`, lang);
  } finally {
    delete globalThis.document;
  }
}

const GERMAN = {
  Cancel: "Abbrechen",
  "Options of {title}": "Optionen von {title}",
  "{model} at {provider}": "{provider}: {model}",
  "Called {tool}": "{tool} aufgerufen",
  "{count} chat": ["{count} Chat", "{count} Chats"],
  "{count} chat of {name}": ["{count} Chat von {name}", "{count} Chats von {name}"],
  Today: "Heute",
};
const CHINESE = { Cancel: "取消", "{count} chat": ["{count} 个聊天"], Today: "今天" };

test("English stands in the code, with its names filled in", async () => {
  const { _, ngettext, region } = await load(`${chat}/i18n.js`);
  assert.equal(_("Options of {title}", { title: "{count} $& fish" }), "Options of {count} $& fish");
  assert.equal(_("{unknown} of {count}", { count: 0 }), "{unknown} of 0");
  assert.deepEqual([0, 1, 2, 1234].map((count) => ngettext("{count} chat", "{count} chats", count)), ["0 chats", "1 chat", "2 chats", "1,234 chats"]);
  assert.equal(region, "en-GB");
});

test("German has a form for one and a form for the others, and its own order of words", async () => {
  const { _, ngettext, parts } = await spoken("i18n", "de", GERMAN);
  assert.equal(_("Cancel"), "Abbrechen");
  assert.equal(_("{model} at {provider}", { model: "alpha", provider: "Rack" }), "Rack: alpha");
  assert.deepEqual([0, 1, 2, 1234].map((count) => ngettext("{count} chat", "{count} chats", count)), ["0 Chats", "1 Chat", "2 Chats", "1.234 Chats"]);
  assert.equal(ngettext("{count} chat of {name}", "{count} chats of {name}", 2, { name: "Ada" }), "2 Chats von Ada");
  const code = { tag: "code" };
  assert.deepEqual(parts(_("Called {tool}"), { tool: code }), ["", code, " aufgerufen"]);
});

test("what a catalogue has not is English, in one form or the other", async () => {
  const { _, ngettext } = await spoken("i18n", "de", GERMAN);
  assert.equal(_("Close"), "Close");
  // The forms of one text are no translation of another that reads the same.
  assert.equal(_("{count} chat", { count: 1 }), "1 chat");
  assert.deepEqual([1, 2].map((count) => ngettext("{count} file", "{count} files", count)), ["1 file", "2 files"]);
});

test("Chinese has one form", async () => {
  const { _, ngettext } = await spoken("i18n", "zh-Hans", CHINESE);
  assert.equal(_("Cancel"), "取消");
  assert.deepEqual([0, 1, 2].map((count) => ngettext("{count} chat", "{count} chats", count)), ["0 个聊天", "1 个聊天", "2 个聊天"]);
  // What is not translated follows the rule of English.
  assert.deepEqual([1, 2].map((count) => ngettext("{count} file", "{count} files", count)), ["1 file", "2 files"]);
});

test("other modules speak the page's language, too", async () => {
  const now = new Date("2026-11-14T12:00:00");
  const chats = [{ pinned: false, updated_at: "2026-11-14T10:00:00" }, { pinned: false, updated_at: "2026-03-01T10:00:00" }];
  const names = async (lang, catalogue) => (await spoken("words", lang, catalogue)).grouped(chats, now).map(({ name }) => name);
  assert.deepEqual(await names("de", GERMAN), ["Heute", "März 2026"]);
  assert.deepEqual(await names("zh-Hans", CHINESE), ["今天", "2026年3月"]);
});
