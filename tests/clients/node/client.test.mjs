// The official OpenAI client for Node against a running gateway: GATEWAY_URL, GATEWAY_KEY, and GATEWAY_MODELS, names
// with commas between them, each of which gets all tests. GATEWAY_EMBEDDING names those that have embeddings.
// Models that fail on purpose are named fails-<status>, breaks-midway and slow-down; test_node.py scripts them.
import assert from "node:assert/strict";
import nodeTest from "node:test";

import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

// GATEWAY_SKIP: of the names of tests that a provider cannot pass.
const skipped = process.env.GATEWAY_SKIP && new RegExp(process.env.GATEWAY_SKIP);
const test = (name, ...rest) => (skipped && skipped.test(name) ? nodeTest.skip(name) : nodeTest(name, ...rest));

const baseURL = `${process.env.GATEWAY_URL}/v1`;
const apiKey = process.env.GATEWAY_KEY;
const models = process.env.GATEWAY_MODELS.split(",");
const embedding = (process.env.GATEWAY_EMBEDDING ?? "").split(",").filter(Boolean);
const scripted = process.env.GATEWAY_SCRIPTED === "1";
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });

const messages = [{ role: "user", content: "What is the weather in Oslo?" }];
const weather = {
  type: "function",
  function: {
    name: "get_weather",
    description: "Current weather of a city",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};
const forced = { type: "function", function: { name: "get_weather" } };
const Person = z.object({ name: z.string(), age: z.number().int() });

function isCityCall(calls) {
  assert.equal(calls.length, 1);
  assert.equal(calls[0].function.name, "get_weather");
  assert.equal(typeof JSON.parse(calls[0].function.arguments).city, "string");
}

async function fails(promise, type, status) {
  const error = await promise.then(
    () => assert.fail("it answered"),
    (reason) => reason,
  );
  assert.ok(error instanceof type, `${error.constructor.name}: ${error.message}`);
  assert.equal(error.status, status);
  assert.ok(error.requestID);
  return error;
}

for (const model of models) {
  test(`${model}: lists models and finds one`, async () => {
    const ids = [];
    for await (const item of client.models.list()) ids.push(item.id);
    assert.ok(ids.includes(model));
    assert.equal((await client.models.retrieve(model)).id, model);
  });

  test(`${model}: chats`, async () => {
    const answer = await client.chat.completions.create({ model, messages });
    assert.ok(answer.choices[0].message.content);
    assert.equal(answer.choices[0].finish_reason, "stop");
    assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
  });

  test(`${model}: streams, with usage on the finishing chunk`, async () => {
    const chunks = [];
    for await (const chunk of await client.chat.completions.create({ model, messages, stream: true })) chunks.push(chunk);
    assert.ok(chunks.map((chunk) => chunk.choices[0].delta.content ?? "").join(""));
    const last = chunks.at(-1);
    assert.equal(last.choices[0].finish_reason, "stop");
    assert.ok(last.usage.total_tokens > 0);
  });

  test(`${model}: streams, with usage apart when asked`, async () => {
    const chunks = [];
    const options = { model, messages, stream: true, stream_options: { include_usage: true } };
    for await (const chunk of await client.chat.completions.create(options)) chunks.push(chunk);
    const last = chunks.at(-1);
    assert.deepEqual(last.choices, []);
    assert.ok(last.usage.total_tokens > 0);
    assert.ok(!chunks.slice(0, -1).some((chunk) => chunk.usage));
  });

  test(`${model}: stops a stream that it no longer wants`, async () => {
    const answer = await client.chat.completions.create({ model, messages, stream: true });
    for await (const _ of answer) break;
    assert.ok(answer.controller.signal.aborted);
  });

  test(`${model}: calls a tool, plain and streamed`, async () => {
    const wanted = { model, messages, tools: [weather], tool_choice: forced };
    const plain = await client.chat.completions.create(wanted);
    isCityCall(plain.choices[0].message.tool_calls);
    const streamed = await client.chat.completions.stream(wanted).finalChatCompletion();
    isCityCall(streamed.choices[0].message.tool_calls);
  });

  test(`${model}: gets JSON by schema, parsed`, async () => {
    const answer = await client.chat.completions.parse({
      model,
      messages,
      response_format: zodResponseFormat(Person, "person"),
    });
    assert.equal(typeof answer.choices[0].message.parsed.name, "string");
  });

  test(`${model}: answers by the Responses API, plain and streamed, and goes on`, async () => {
    const input = "What is the weather in Oslo?";
    const first = await client.responses.create({ model, input });
    assert.ok(first.output_text);
    const kinds = [];
    const stream = client.responses.stream({ model, input: "And now?", previous_response_id: first.id });
    for await (const event of stream) kinds.push(event.type);
    const second = await stream.finalResponse();
    assert.ok(second.output_text);
    assert.equal(kinds[0], "response.created");
    assert.equal(kinds.at(-1), "response.completed");
    assert.equal((await client.responses.retrieve(second.id)).previous_response_id, first.id);
    const said = [];
    for await (const item of client.responses.inputItems.list(second.id, { order: "asc", limit: 2 })) said.push(item);
    assert.deepEqual(said.map((item) => item.role), ["user", "assistant", "user"]);
    await client.responses.delete(first.id);
    await fails(client.responses.retrieve(first.id), OpenAI.NotFoundError, 404);
  });

  test(`${model}: calls a tool and parses JSON by the Responses API`, async () => {
    const tools = [{ type: "function", strict: false, ...weather.function }];
    const input = "What is the weather in Oslo?";
    const called = await client.responses.create({ model, input, tools, tool_choice: { type: "function", name: "get_weather" } });
    // What signs a call may stand before it.
    const call = called.output.find((item) => item.type === "function_call");
    assert.equal(typeof JSON.parse(call.arguments).city, "string");
    const parsed = await client.responses.parse({ model, input, text: { format: zodTextFormat(Person, "person") } });
    assert.equal(typeof parsed.output_parsed.name, "string");
  });

  test(`${model}: reads the response's headers`, async () => {
    const { response, request_id: id } = await client.chat.completions.create({ model, messages }).withResponse();
    assert.ok(id);
    assert.equal(response.headers.get("x-request-id"), id);
    assert.ok(Number(response.headers.get("openai-processing-ms")) >= 0);
  });

  test(`${model}: completes a text, plain and streamed`, async () => {
    const plain = await client.completions.create({ model, prompt: "Say it.", max_tokens: 20 });
    assert.equal(plain.object, "text_completion");
    assert.ok(plain.choices[0].text);
    assert.ok(plain.usage.total_tokens > 0);
    let text = "";
    const streamed = await client.completions.create({ model, prompt: "Say it.", max_tokens: 20, stream: true });
    for await (const chunk of streamed) text += chunk.choices[0]?.text ?? "";
    assert.ok(text);
  });

  test(`${model}: embeds texts, or says that it cannot`, { skip: !embedding.length }, async () => {
    const asked = client.embeddings.create({ model, input: ["one", "three"] });
    if (!embedding.includes(model)) return fails(asked, OpenAI.BadRequestError, 400);
    const answer = await asked;
    assert.deepEqual(answer.data.map((item) => item.index), [0, 1]);
    assert.equal(typeof answer.data[1].embedding[0], "number");
    assert.ok(answer.usage.total_tokens > 0);
  });

  test(`${model}: gets the class of each refusal`, async () => {
    const stranger = client.withOptions({ apiKey: "sk-nobody" });
    const refused = await fails(stranger.models.list().then(), OpenAI.AuthenticationError, 401);
    assert.equal(refused.code, "invalid_api_key");
    const unknown = { model: "no-such-model", messages };
    const missing = await fails(client.chat.completions.create(unknown), OpenAI.NotFoundError, 404);
    assert.equal(missing.code, "model_not_found");
    const empty = await fails(client.chat.completions.create({ model, messages: [] }), OpenAI.BadRequestError, 400);
    assert.equal(empty.param, "messages");
    const hot = client.chat.completions.create({ model, messages, temperature: 9 });
    await fails(hot, OpenAI.UnprocessableEntityError, 422);
  });
}

const model = models[0];

test("gets the class of a key's limits", { skip: !process.env.GATEWAY_NARROW_KEY }, async () => {
  const narrow = client.withOptions({ apiKey: process.env.GATEWAY_NARROW_KEY });
  await fails(narrow.chat.completions.create({ model, messages }), OpenAI.PermissionDeniedError, 403);
});

test("gets the class of each failure of a provider", { skip: !scripted }, async () => {
  const ask = (name) => client.chat.completions.create({ model: name, messages });
  await fails(ask("fails-400"), OpenAI.BadRequestError, 400);
  const limited = await fails(ask("fails-429"), OpenAI.RateLimitError, 429);
  assert.equal(limited.headers.get("retry-after"), "1");
  await fails(ask("fails-401"), OpenAI.InternalServerError, 502);
  await fails(ask("fails-500"), OpenAI.InternalServerError, 502);
});

test("retries after a limit, as told", { skip: !scripted }, async () => {
  const patient = client.withOptions({ maxRetries: 1 });
  const answer = await patient.chat.completions.create({ model: "slow-down", messages });
  assert.ok(answer.choices[0].message.content);
});

test("raises when a stream breaks midway", { skip: !scripted }, async () => {
  let text = "";
  await assert.rejects(async () => {
    const answer = await client.chat.completions.create({ model: "breaks-midway", messages, stream: true });
    for await (const chunk of answer) text += chunk.choices[0].delta.content ?? "";
  }, OpenAI.APIError);
  assert.equal(text, "Hel");
});
