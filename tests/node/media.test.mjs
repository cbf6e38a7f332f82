// The chat page's logic of files, sources and speech. `node --test tests/node`.

import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./load.mjs";

const chat = "../../conversations/static/conversations/chat";
const parts = await load(`${chat}/parts.js`);

const FOX = { bucket: "chat-1", name: "fox.png", label: "fox.png", kind: "image", size: 900 };
const NOTES = { bucket: "chat-2", name: "", label: "notes.txt", kind: "file", size: 16 };

test("files and words become a message, and come out of it again", () => {
  assert.equal(parts.contentOf("Hi", []), "Hi");
  const content = parts.contentOf("What?", [FOX, NOTES]);
  assert.deepEqual(content[0], { bucket_id: "chat-1", name: "fox.png", label: "fox.png", kind: "image", size: 900 });
  assert.deepEqual(content[2], { type: "text", text: "What?" });
  assert.deepEqual(parts.filesOf(content), [FOX, NOTES]);
  assert.deepEqual(parts.filesOf(parts.withText(content, "Else?")), [FOX, NOTES]);
  assert.equal(parts.withText(content, "Else?").at(-1).text, "Else?");
  assert.equal(parts.contentOf(" ", [FOX]).length, 1);
  assert.deepEqual(parts.filesOf("words"), []);
});

test("pictures of other servers are not asked for", () => {
  const at = (url) => parts.filesOf([{ type: "image_url", image_url: { url } }]);
  assert.equal(at("https://evil.example/x.png").length, 0);
  assert.equal(at("//evil.example/x.png").length, 0);
  assert.equal(parts.addressOf(at("/media/x.png")[0], true), "/thumbnail/x.png");
  assert.equal(parts.addressOf({ ...FOX, name: "a b?.png" }), "/files/chat-1/media/a%20b%3F.png");
});

test("what cannot go along says why", () => {
  assert.equal(parts.refusal({ name: "a", size: 5 }, 5), "");
  assert.equal(parts.refusal({ name: "a", size: 0 }, 5), "a is empty.");
  assert.equal(parts.refusal({ name: "a", size: 26_214_400 }, 20_000_000), "a has 26 MB; a file may have 20 MB.");
  assert.deepEqual([999, 1000, 9_960, 999_600].map(parts.bytes), ["999 B", "1.0 kB", "10 kB", "1.0 MB"]);
});

const { marked } = await load(`${chat}/cites.js`);

test("marks mean the source that was found, wherever it stands in the list", () => {
  const text = "🦊 Red [2], fast [1].";
  const at = (mark) => ({ start: [...text].join("").indexOf(mark) - 1, end: [...text].join("").indexOf(mark) + 2 });
  const second = { url: "https://www.b.example/x", title: "B", ...at("[2]") };
  const first = { url: "https://a.example/", title: "", ...at("[1]") };
  const found = marked(text, [second, first]);
  assert.equal(found.text, text);
  assert.deepEqual(found.sources.map(({ number, host, title }) => [number, host, title]), [[1, "a.example", "a.example"], [2, "b.example", "B"]]);
});

test("a place that is named without a mark gets one", () => {
  const url = "https://a.example/";
  assert.equal(marked("Foxes are red.", [{ url, title: "A", start: 0, end: 13 }]).text, "Foxes are red[1].");
  assert.equal(marked("[A](https://a.example/)", [{ url, title: "A", start: 0, end: 23 }]).text, "[A](https://a.example/)");
  assert.deepEqual(marked("x", [{ url: "javascript:alert(1)", title: "no", start: null, end: null }]).sources, []);
  assert.equal(marked("x", [{ url, title: "A", start: null, end: null }]).sources[0].number, 1);
});

const { pieces, speakable } = await load(`${chat}/spoken.js`);

test("what is read aloud has neither code nor marks", () => {
  assert.equal(speakable("## Foxes\n\n- **are** [red](https://x.example) [1].\n```py\nx = 1\n```\n| a | b |\n|---|---|\n| 1 | 2 |"), "Foxes\nare red.\na, b\n1, 2");
  assert.equal(speakable("```\nnever closed"), "");
  assert.equal(speakable("a_b stays, *this* does not"), "a_b stays, this does not");
});

test("pieces are whole sentences where they can be", () => {
  assert.deepEqual(pieces("One. Two! Three?", 10), ["One. Two!", "Three?"]);
  assert.deepEqual(pieces("aaaa bbbb cccc", 9), ["aaaa bbbb", "cccc"]);
  assert.equal(pieces("x".repeat(25), 10).join(""), "x".repeat(25));
  assert.deepEqual(pieces("", 10), []);
});
