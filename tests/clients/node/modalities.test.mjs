// OpenAI's client for Node draws, edits, speaks, transcribes and translates over providers of any dialect. DRAWS, SPEAKS
// and HEARS are models, none where a provider has no such thing; SOUND_TYPE and SOUND_HEAD are of what is spoken;
// HEARD and TRANSLATED are what the scripted provider gives, and empty where the recording is what was spoken (LOCAL).
import assert from "node:assert/strict";
import test from "node:test";
import OpenAI, { toFile } from "openai";

const { GATEWAY_URL, GATEWAY_KEY, DRAWS, SPEAKS, HEARS, PICTURE, SOUND, SOUND_TYPE, SOUND_HEAD } = process.env;
const client = new OpenAI({ apiKey: GATEWAY_KEY, baseURL: `${GATEWAY_URL}/v1`, maxRetries: 0, timeout: 60_000 });
const local = process.env.LOCAL === "1";
const sentence = "Please open the window and close the door.";
const isPicture = (data) => assert.equal(Buffer.from(data).subarray(1, 4).toString(), "PNG");
const words = (text) => text.toLowerCase().match(/[a-z]+/g) ?? [];

async function spoken() {
  const answer = await client.audio.speech.create({
    model: SPEAKS, voice: "alloy", input: sentence, response_format: SOUND_TYPE === "audio/mpeg" ? "mp3" : "wav",
  });
  return { type: answer.headers.get("content-type"), data: Buffer.from(await answer.arrayBuffer()) };
}

async function recording() {
  return toFile(local ? (await spoken()).data : Buffer.from(SOUND, "base64"), "talk.wav", { type: "audio/wav" });
}

function check(text, expected) {
  if (!local) return assert.equal(text.trim(), expected);
  const heard = new Set(words(text));
  const share = words(sentence).filter((word) => heard.has(word)).length / words(sentence).length;
  assert.ok(share >= 0.7, text);
}

test("draws", { skip: !DRAWS }, async () => {
  const made = await client.images.generate({ model: DRAWS, prompt: "A fox", n: 2, size: "1024x1024" });
  assert.equal(made.data.length, 2);
  for (const { url } of made.data) isPicture(await (await fetch(url)).arrayBuffer());
  const whole = await client.images.generate({ model: DRAWS, prompt: "A fox", response_format: "b64_json" });
  isPicture(Buffer.from(whole.data[0].b64_json, "base64"));
});

test("draws once under a key", { skip: !DRAWS }, async () => {
  const ask = () => client.images.generate(
    { model: DRAWS, prompt: "A hare" }, { headers: { "idempotency-key": "node-1" } },
  ).withResponse();
  const [first, second] = [await ask(), await ask()];
  assert.equal(first.response.headers.get("idempotent-replayed"), null);
  assert.equal(second.response.headers.get("idempotent-replayed"), "true");
  assert.equal(first.data.data[0].url.split("?")[0], second.data.data[0].url.split("?")[0]);
});

test("edits", { skip: !DRAWS }, async () => {
  const image = await toFile(Buffer.from(PICTURE, "base64"), "fox.png", { type: "image/png" });
  const made = await client.images.edit({ model: DRAWS, image, prompt: "Bluer" });
  isPicture(await (await fetch(made.data[0].url)).arrayBuffer());
});

test("speaks", { skip: !SPEAKS }, async () => {
  const { type, data } = await spoken();
  assert.equal(type, SOUND_TYPE);
  assert.equal(data.subarray(0, SOUND_HEAD.length).toString("latin1"), SOUND_HEAD);
});

test("transcribes", { skip: !HEARS }, async () => {
  const plain = await client.audio.transcriptions.create({ model: HEARS, file: await recording(), language: "en" });
  check(plain.text, process.env.HEARD);
  const text = await client.audio.transcriptions.create({ model: HEARS, file: await recording(), response_format: "text" });
  check(text, process.env.HEARD);
});

test("translates", { skip: !HEARS }, async () => {
  const plain = await client.audio.translations.create({ model: HEARS, file: await recording() });
  check(plain.text, process.env.TRANSLATED);
});

test("is told that nothing can be translated", { skip: !local }, async () => {
  const ask = { model: HEARS, file: await recording(), language: "de" };
  for (const asked of [client.audio.translations, client.audio.transcriptions]) {
    await assert.rejects(asked.create(ask), { status: 400, code: "unsupported_parameter", param: "language" });
  }
});
