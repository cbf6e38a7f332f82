// OpenAI's client for Node makes and edits pictures. PICTURE is a PNG in base64 that the scripted provider gives.
import assert from "node:assert/strict";
import test from "node:test";
import OpenAI, { toFile } from "openai";

const { GATEWAY_URL, GATEWAY_KEY, GATEWAY_MODELS: model, GATEWAY_NARROW_KEY: narrow, PICTURE } = process.env;
const client = new OpenAI({ apiKey: GATEWAY_KEY, baseURL: `${GATEWAY_URL}/v1`, maxRetries: 0, timeout: 20_000 });
const scripted = process.env.GATEWAY_SCRIPTED === "1";
const png = Buffer.from(PICTURE, "base64");
const file = (name) => toFile(png, name, { type: "image/png" });
const isPicture = (data) => assert.equal(Buffer.from(data).subarray(1, 4).toString(), "PNG");

test("makes pictures and gets addresses that open without a key", async () => {
  const made = await client.images.generate({ model, prompt: "A fox", n: 2, size: "256x256" });
  assert.equal(made.data.length, 2);
  assert.ok(made.created > 0);
  for (const { url, b64_json: data } of made.data) {
    assert.equal(data, undefined);
    const answer = await fetch(url);
    assert.equal(answer.status, 200);
    isPicture(await answer.arrayBuffer());
    assert.equal((await fetch(url.split("?")[0])).status, 401);
  }
});

test("makes a picture as base64", async () => {
  const made = await client.images.generate({ model, prompt: "A fox", response_format: "b64_json" });
  isPicture(Buffer.from(made.data[0].b64_json, "base64"));
  assert.equal(made.data[0].url, undefined);
});

test("edits one picture with a mask, and several", async () => {
  const one = { model, image: await file("fox.png"), mask: await file("mask.png"), prompt: "Bluer" };
  isPicture(await (await fetch((await client.images.edit(one)).data[0].url)).arrayBuffer());
  const several = { model, image: [await file("a.png"), await file("b.png")], prompt: "Both" };
  assert.equal((await client.images.edit(several)).data.length, 1);
});

test("sees a picture while it is made", async () => {
  const kinds = [];
  const stream = await client.images.generate({ model, prompt: "A fox", stream: true, partial_images: 1 });
  for await (const event of stream) {
    kinds.push(event.type);
    isPicture(Buffer.from(event.b64_json, "base64"));
  }
  const partial = scripted ? ["image_generation.partial_image"] : [];
  assert.deepEqual(kinds, [...partial, "image_generation.completed"]);
});

test("gets the class of each refusal", async () => {
  const fails = async (promise, type, param) => {
    const error = await promise.then(() => assert.fail("it answered"), (reason) => reason);
    assert.ok(error instanceof type, `${error.constructor.name}: ${error.message}`);
    assert.equal(error.param, param);
  };
  const ask = { model, prompt: "x" };
  await fails(client.images.generate({ ...ask, n: 0 }), OpenAI.UnprocessableEntityError, "n");
  await fails(client.images.generate({ model }), OpenAI.BadRequestError, "prompt");
  await fails(client.images.generate({ ...ask, model: "no-such" }), OpenAI.NotFoundError, "model");
  await fails(client.images.edit({ ...ask, image: await toFile(Buffer.from("text"), "a.png") }), OpenAI.APIError, "image");
  const other = client.withOptions({ apiKey: narrow });
  await fails(other.images.generate(ask), OpenAI.PermissionDeniedError, "model");
});
