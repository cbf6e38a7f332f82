// Vercel's AI SDK against a running gateway, through its OpenAI provider (chat and responses) and its OpenAI-compatible
// one: GATEWAY_URL, GATEWAY_KEY, and GATEWAY_MODELS, names with commas between them.
import assert from "node:assert/strict";
import nodeTest from "node:test";

import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateObject, generateText, stepCountIs, streamObject, streamText, tool } from "ai";
import { z } from "zod";

// GATEWAY_SKIP: of the names of tests that a provider cannot pass.
const skipped = process.env.GATEWAY_SKIP && new RegExp(process.env.GATEWAY_SKIP);
const test = (name, ...rest) => (skipped && skipped.test(name) ? nodeTest.skip(name) : nodeTest(name, ...rest));

const baseURL = `${process.env.GATEWAY_URL}/v1`;
const apiKey = process.env.GATEWAY_KEY;
const names = process.env.GATEWAY_MODELS.split(",");
const scripted = process.env.GATEWAY_SCRIPTED === "1";

const prompt = "What is the weather in Oslo?";
const Person = z.object({ name: z.string(), age: z.number().int() });
const tools = {
  get_weather: tool({
    description: "Current weather of a city",
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => `It rains in ${city}.`,
  }),
};
const forced = { type: "tool", toolName: "get_weather" };
const settings = { maxRetries: 0 };

const dialectsOf = (name) => ({
  openai: createOpenAI({ baseURL, apiKey }).chat(name),
  responses: createOpenAI({ baseURL, apiKey }).responses(name),
  compatible: createOpenAICompatible({
    name: "gateway",
    baseURL,
    apiKey,
    includeUsage: true,
    supportsStructuredOutputs: true,
  })(name),
});
const settingsOf = names.flatMap((name) =>
  Object.entries(dialectsOf(name)).map(([dialect, model]) => [dialect, `${name} by ${dialect}`, model]),
);

for (const [dialect, title, model] of settingsOf) {
  test(`${title}: generates text`, async () => {
    const answer = await generateText({ model, prompt, ...settings });
    assert.ok(answer.text);
    assert.equal(answer.finishReason, "stop");
    assert.equal(answer.usage.totalTokens, answer.usage.inputTokens + answer.usage.outputTokens);
    assert.ok(answer.usage.totalTokens > 0);
  });

  test(`${title}: streams text`, async () => {
    const answer = streamText({ model, prompt, ...settings });
    let text = "";
    for await (const piece of answer.textStream) text += piece;
    assert.ok(text);
    assert.equal(await answer.finishReason, "stop");
    assert.ok((await answer.usage).totalTokens > 0);
  });

  test(`${title}: calls a tool, runs it, and goes on`, async () => {
    const answer = await generateText({
      model,
      prompt,
      tools,
      prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? forced : "none" }),
      stopWhen: stepCountIs(2),
      ...settings,
    });
    assert.equal(answer.steps[0].toolCalls[0].toolName, "get_weather");
    assert.match(answer.steps[0].toolResults[0].output, /^It rains in /);
    assert.ok(answer.text);
  });

  test(`${title}: streams a tool call`, async () => {
    const answer = streamText({ model, prompt, tools, toolChoice: forced, ...settings });
    const parts = [];
    for await (const part of answer.fullStream) parts.push(part);
    const call = parts.find((part) => part.type === "tool-call");
    assert.equal(typeof call.input.city, "string");
    assert.ok(parts.some((part) => part.type === "tool-result"));
    assert.ok(!parts.some((part) => part.type === "error"));
  });

  test(`${title}: generates an object`, async () => {
    const answer = await generateObject({ model, prompt, schema: Person, ...settings });
    assert.equal(typeof answer.object.name, "string");
    assert.ok(Number.isInteger(answer.object.age));
  });

  test(`${title}: streams an object`, async () => {
    const answer = streamObject({ model, prompt, schema: Person, ...settings });
    let last;
    for await (const partial of answer.partialObjectStream) last = partial;
    assert.equal(typeof last.name, "string");
    assert.deepEqual(await answer.object, last);
  });

  test(`${title}: stops a stream that it no longer wants`, async () => {
    const abort = new AbortController();
    const answer = streamText({ model, prompt, abortSignal: abort.signal, ...settings });
    for await (const part of answer.fullStream) {
      if (part.type === "text-delta") abort.abort();
      if (part.type === "abort") break;
    }
    assert.ok(abort.signal.aborted);
  });

  test(`${title}: is told of a failure`, { skip: !scripted }, async () => {
    const wrong = dialectsOf("fails-429")[dialect];
    const error = await generateText({ model: wrong, prompt, ...settings }).then(
      () => assert.fail("it answered"),
      (reason) => reason,
    );
    assert.ok(APICallError.isInstance(error), String(error));
    assert.equal(error.statusCode, 429);
    assert.ok(error.isRetryable);
    assert.equal(error.message, "slow down");
  });
}
