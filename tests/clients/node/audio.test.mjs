// The official OpenAI client for Node speaks and listens: GATEWAY_URL, GATEWAY_KEY. test_node.py scripts the models
// tts (bytes that come bit by bit), ears (verbose answers), piecewise (events) and fails-500.
import assert from "node:assert/strict";
import test from "node:test";

import OpenAI, { toFile } from "openai";

const client = new OpenAI({
  baseURL: `${process.env.GATEWAY_URL}/v1`,
  apiKey: process.env.GATEWAY_KEY,
  maxRetries: 0,
});
const said = { model: "tts", voice: "alloy", input: "Hello there." };
const sound = Buffer.from(process.env.SOUND, "base64");
const recording = () => toFile(sound, "talk.wav", { type: "audio/wav" });

test("speaks", async () => {
  const answer = await client.audio.speech.create({ ...said, response_format: "mp3", speed: 1.25 });
  assert.equal(answer.headers.get("content-type"), "audio/mpeg");
  const bytes = Buffer.from(await answer.arrayBuffer());
  assert.equal(bytes.subarray(0, 3).toString(), "ID3");
});

test("hears the beginning before the end is there", async () => {
  const answer = await client.audio.speech.create(said);
  let pieces = 0;
  for await (const piece of answer.body) pieces += piece.length > 0 ? 1 : 0;
  assert.ok(pieces > 1);
});

test("leaves in the middle", async () => {
  const leaving = new AbortController();
  const answer = await client.audio.speech.create(said, { signal: leaving.signal });
  await assert.rejects(async () => {
    for await (const piece of answer.body) if (piece.length) leaving.abort();
  });
});

test("transcribes", async () => {
  const found = await client.audio.transcriptions.create({ model: "ears", file: await recording(), language: "en" });
  assert.equal(found.text, "Hello there. A --> B end.");
});

test("transcribes with times", async () => {
  const found = await client.audio.transcriptions.create({
    model: "ears",
    file: await recording(),
    response_format: "verbose_json",
    timestamp_granularities: ["word", "segment"],
  });
  assert.equal(found.segments.length, 2);
  assert.equal(found.words[0].word, "Hello");
  assert.equal(found.duration, 3.5);
});

for (const [form, beginning] of [["text", "Hello"], ["srt", "1\n00:00:00,000 -->"], ["vtt", "WEBVTT\n\n"]]) {
  test(`transcribes as ${form}`, async () => {
    const found = await client.audio.transcriptions.create({
      model: "ears",
      file: await recording(),
      response_format: form,
    });
    assert.ok(found.startsWith(beginning), found);
  });
}

for (const model of ["piecewise", "ears"]) {
  test(`transcribes as events with ${model}`, async () => {
    const stream = await client.audio.transcriptions.create({ model, file: await recording(), stream: true });
    const types = [];
    for await (const event of stream) types.push(event.type);
    assert.equal(types[0], "transcript.text.delta");
    assert.equal(types.at(-1), "transcript.text.done");
  });
}

test("translates", async () => {
  const found = await client.audio.translations.create({ model: "ears", file: await recording() });
  assert.equal(found.text, "Hello there. A --> B end.");
});

test("is told what was wrong", async () => {
  await assert.rejects(client.audio.speech.create({ ...said, speed: 9 }), (error) => {
    assert.equal(error.status, 422);
    assert.equal(error.param, "speed");
    return true;
  });
  await assert.rejects(client.audio.transcriptions.create({ model: "ears", file: await toFile(Buffer.from("<p>"), "a.mp3") }), {
    status: 415,
    param: "file",
  });
  await assert.rejects(client.audio.speech.create({ ...said, model: "fails-500" }), { status: 502 });
});
