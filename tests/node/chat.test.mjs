// The chat page's logic that needs no browser: events, blocks of Markdown, formulas, figures. `node --test tests/node`.

import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./load.mjs";

const chat = "../../conversations/static/conversations/chat";
const { EventReader } = await load(`${chat}/sse.js`);
const { begun, sentences, take, textOf } = await load(`${chat}/answer.js`);
const { Blocks, hasReferences } = await load(`${chat}/blocks.js`);
const { blockAt, inlineAt } = await load(`${chat}/mathrules.js`);
const words = await load(`${chat}/words.js`);
const slash = await load(`${chat}/slash.js`);
const { Marked } = await load("../../conversations/static/conversations/vendor/marked-18.2.1/marked.js");
const marked = new Marked({ gfm: true });

const STREAM = 'event: content\nid: 1\ndata: {"type": "content", "content": "a"}\n\n: ping\n\nid: 2\ndata: {"type":"end","state":"done"}\n\n';

test("events are read whole, wherever the pieces end", () => {
  for (let size = 1; size < STREAM.length; size += 1) {
    const reader = new EventReader();
    const found = [];
    for (let at = 0; at < STREAM.length; at += size) found.push(...reader.push(STREAM.slice(at, at + size)));
    assert.deepEqual(found.map((event) => [event.id, event.data.type]), [[1, "content"], [2, "end"]]);
  }
});

test("an event that is no JSON is an event without data", () => {
  assert.deepEqual(new EventReader().push("data: {broken\n\n"), [{ id: 0, type: "message", data: null }]);
});

const said = (id, data) => ({ id, type: data.type, data });

test("an answer is what its events tell, each once", () => {
  const answer = begun();
  const events = [
    said(1, { type: "provider", provider: { name: "rack", label: "Rack", model: "alpha" } }),
    said(2, { type: "reasoning", token: "Hm." }),
    said(3, { type: "content", content: "Yes" }),
    said(4, { type: "tool_calls", tool_calls: [{ index: 0, id: "c", function: { name: "look", arguments: '{"a"' } }] }),
    said(5, { type: "tool_calls", tool_calls: [{ index: 0, function: { arguments: ":1}" } }] }),
    said(6, { type: "content", content: "." }),
    said(7, { type: "unheard", of: "this" }),
    said(8, { type: "end", state: "done" }),
  ];
  for (const event of [...events.slice(0, 4), ...events]) take(answer, event);
  assert.equal(answer.text, "Yes.");
  assert.equal(answer.reasoning, "Hm.");
  assert.equal(answer.thinking, false);
  assert.deepEqual(answer.tools, [{ id: "c", name: "look", arguments: '{"a":1}' }]);
  assert.deepEqual([answer.provider, answer.model, answer.state, answer.last], ["Rack", "alpha", "done", 8]);
});

test("a snapshot stands for the events that are gone, and an error loses its class", () => {
  const answer = begun();
  take(answer, said(1, { type: "content", content: "half" }));
  take(answer, said(9, { type: "snapshot", content: "whole", reasoning: "", provider: "", model: "" }));
  take(answer, said(10, { type: "error", error: "Unavailable", message: "Unavailable: No: not now", code: "x" }));
  assert.equal(answer.text, "whole");
  assert.deepEqual(answer.error, { message: "No: not now", code: "x" });
});

test("content may be parts", () => {
  assert.equal(textOf([{ type: "text", text: "a" }, { type: "image_url" }, "b"]), "a\nb");
  assert.equal(textOf(null), "");
});

test("whole sentences are read out, and nothing twice", () => {
  const [first, at] = sentences("One **two**. Three", 0);
  assert.deepEqual([first, at], ["One two.", 13]);
  assert.deepEqual(sentences("One **two**. Three", at), ["", at]);
});

const MARKDOWN = "# Title\n\ntext *with*\nlines\n\n- a\n- b\n\n  more\n\n```js\nlet a;\n\nlet b;\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n1. x\n2. y\n\nend";

test("Markdown that comes in pieces ends as the same blocks as Markdown that is read whole", () => {
  const whole = marked.lexer(MARKDOWN).filter((token) => token.type !== "space").map((token) => token.raw.trim());
  for (const size of [1, 2, 3, 5, 8, 13]) {
    const blocks = new Blocks((text) => marked.lexer(text));
    const done = [];
    let longest = 0;
    for (let at = size; at < MARKDOWN.length + size; at += size) {
      const { restart, done: more, tail } = blocks.advance(MARKDOWN.slice(0, at));
      assert.equal(restart, false);
      done.push(...more);
      longest = Math.max(longest, tail?.raw.length ?? 0);
    }
    done.push(...blocks.advance(MARKDOWN, true).done);
    assert.deepEqual(done.map((token) => token.raw.trim()), whole, `in pieces of ${size}`);
    assert.ok(longest < MARKDOWN.length / 2, "only the end is read again");
  }
});

test("another text starts anew", () => {
  const blocks = new Blocks((text) => marked.lexer(text));
  blocks.advance("one\n\ntwo");
  assert.equal(blocks.advance("other").restart, true);
  assert.equal(hasReferences("[a]: https://example.com"), true);
  assert.equal(hasReferences("see [a] : no"), false);
});

test("dollars are formulas only where they cannot be money", () => {
  assert.equal(inlineAt("$5 and $6"), null);
  assert.equal(inlineAt("$30 a month"), null);
  assert.equal(inlineAt("$ x $"), null);
  assert.equal(inlineAt("$x$5"), null);
  assert.equal(inlineAt("$x^2$ and")?.tex, "x^2");
  assert.equal(inlineAt("\\(a+b\\) c")?.tex, "a+b");
  assert.equal(blockAt("$$\na\n$$\nb")?.tex, "a");
  assert.equal(blockAt("\\[a\\]")?.tex, "a");
});

test("figures are written as people read them", () => {
  assert.deepEqual([null, 0, 50_000, 32_500_000, 2_500_000_000].map(words.cost), ["", "free", "<$0.0001", "$0.0325", "$2.50"]);
  assert.equal(words.tokens({ prompt_tokens: 6318, completion_tokens: 904 }), "6,318 in · 904 out");
  assert.equal(words.tokens(null), "");
  assert.deepEqual([8200, 42_000, 65_000].map(words.seconds), ["8.2 s", "42 s", "1 min 5 s"]);
  assert.deepEqual([0, 8192, 128_000, 1_000_000].map(words.room), ["", "8k", "128k", "1M"]);
  assert.deepEqual(["OpenAI", "x", "", "deep seek"].map(words.symbol), ["Op", "X", "?", "De"]);
});

test("chats stand under headings by age", () => {
  const now = new Date(2026, 10, 22, 12);
  const chatOf = (day, pinned = false) => ({ pinned, updated_at: new Date(2026, 10, day, 23).toISOString() });
  const chats = [chatOf(22), chatOf(21), chatOf(20), chatOf(1), chatOf(3, true)];
  assert.deepEqual(words.grouped(chats, now).map((group) => [group.name, group.chats.length]), [
    ["Pinned", 1], ["Today", 1], ["Yesterday", 1], ["Last 7 days", 1], ["Last 30 days", 1],
  ]);
});

test("a model that several providers have can be had from each", () => {
  const models = [
    { id: "a", owned_by: "One", provider: false, vision: true }, { id: "b", owned_by: "Two", provider: false },
    { id: "One", provider: true },
  ];
  const providers = [{ provider: "one", label: "One", models: ["a", "b"] }, { provider: "two", label: "Two", models: ["b"] }];
  const found = words.choices(models, providers);
  assert.deepEqual(found.map(({ id, provider, label }) => [id, provider, label]), [
    ["a", "", "One"], ["b", "", "2 providers"], ["b", "one", "One"], ["b", "two", "Two"],
  ]);
  assert.deepEqual(words.matching(found, "vis a").map((model) => model.id), ["a"]);
  assert.deepEqual(words.matching(found, "b two").map((model) => model.provider), ["two"]);
});

test("versions end where they end", () => {
  const message = { id: "b", siblings: ["a", "b"] };
  assert.deepEqual([words.sibling(message, -1), words.sibling(message, 1)], ["a", null]);
});

test("of a chat's settings only those that providers know go along", () => {
  const settings = { temperature: 0.3, top_p: 7, max_tokens: 1.5, seed: 4, reasoning_effort: "low", system: "x", frequency_penalty: "1" };
  assert.deepEqual(words.parameters(settings), { temperature: 0.3, seed: 4, reasoning_effort: "low" });
  assert.deepEqual(words.parameters(null), {});
});

test("a chat is in the list that it belongs to", () => {
  const chat = { folder: "Work", tags: ["sql"], archived: false, temporary: false, deleted_at: null };
  assert.equal(words.belongs(chat, {}), true);
  assert.equal(words.belongs({ ...chat, temporary: true }, {}), false);
  assert.equal(words.belongs({ ...chat, archived: true }, {}), false);
  assert.equal(words.belongs({ ...chat, archived: true }, { archived: "true" }), true);
  assert.equal(words.belongs({ ...chat, archived: true }, { folder: "Work", archived: "any" }), true);
  assert.equal(words.belongs(chat, { folder: "Home", archived: "any" }), false);
  assert.equal(words.belongs(chat, { tag: "sql" }), true);
  assert.equal(words.belongs({ ...chat, deleted_at: "2026-01-01" }, { deleted: "true", archived: "any" }), true);
  assert.equal(words.belongs(chat, { deleted: "true", archived: "any" }), false);
});

test("favourites stand first, in their own order", () => {
  const models = [{ id: "a", provider: "" }, { id: "b", provider: "" }, { id: "b", provider: "x" }, { id: "c", provider: "" }];
  assert.deepEqual(words.favoured(models, ["c", "b\tx"]).map(words.modelKey), ["c", "b\tx", "a", "b"]);
});

test("a tree becomes a list that steps in after each fork", () => {
  const nodes = [{ id: "q", parent: null }, { id: "a1", parent: "q" }, { id: "a2", parent: "q" }, { id: "q2", parent: "a1" }];
  const found = words.inOrder(nodes, "a2");
  assert.deepEqual(found.map((node) => [node.id, node.depth, node.shown, node.ends]), [
    ["q", 0, true, false], ["a1", 1, false, false], ["q2", 1, false, true], ["a2", 1, true, true],
  ]);
});

test("a slash word finds prompts, and their variables are filled in once", () => {
  assert.deepEqual(["/", "/Su", "/a-b_2", "/größe", "x", " /x", "/x y", "/a/b"].map(slash.wordOf), ["", "su", "a-b_2", "größe", undefined, undefined, undefined, undefined]);
  const prompts = [{ name: "fix", title: "Sum up" }, { name: "resume", title: "" }, { name: "sum", title: "" }];
  assert.deepEqual(slash.matching(prompts, "sum").map((prompt) => prompt.name), ["sum", "fix", "resume"]);
  const text = "{{ a }} and {{b c}}, {{a}} { {{}} }";
  assert.deepEqual(slash.variablesOf(text), ["a", "b c"]);
  assert.equal(slash.filled(text, { a: "$& {{b c}}" }), "$& {{b c}} and , $& {{b c}} { {{}} }");
});
