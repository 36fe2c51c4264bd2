// Walks a server with the JavaScript clients of Ollama and OpenAI and compares what the tiny model knows by heart.
//
//     node walk.js BASE_URL
import assert from "node:assert/strict";
import { Ollama } from "ollama";
import OpenAI from "openai";

const base = process.argv[2]?.replace(/\/$/, "");
if (!base) throw new Error("usage: node walk.js BASE_URL");

const ollama = new Ollama({ host: base });
const openai = new OpenAI({ baseURL: base + "/v1", apiKey: "none", maxRetries: 0 });

const model = "tiny";
const count = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10";
const ask = (content) => [{ role: "user", content }];
const weather = { location: "Paris", format: "celsius" };
const tool = {
  type: "function",
  function: {
    name: "get_current_weather",
    description: "Get the current weather for a location",
    parameters: {
      type: "object",
      required: ["location", "format"],
      properties: {
        location: { type: "string", description: "The city" },
        format: { type: "string", enum: ["celsius", "fahrenheit"] },
      },
    },
  },
};
const person = { name: "Ada", age: 36, languages: ["English", "French"] };
const schema = {
  type: "object",
  required: ["name", "age", "languages"],
  properties: {
    name: { type: "string" },
    age: { type: "integer" },
    languages: { type: "array", items: { type: "string" } },
  },
};

class LeftOut extends Error {}

async function gather(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return parts;
}

async function names() {
  return (await ollama.list()).models.map((entry) => entry.name);
}

async function embeddingModel() {
  if (!(await names()).includes("minilm:latest")) throw new LeftOut("the server has no model minilm");
  return "minilm";
}

const steps = {
  async "ollama: version"() {
    assert.match((await ollama.version()).version, /^\d+\.\d+\.\d+/);
  },

  async "ollama: list"() {
    const tiny = (await ollama.list()).models.find((entry) => entry.name === "tiny:latest");
    assert.equal(tiny.digest.length, 64);
    assert.equal(tiny.details.family, "qwen3");
    assert.ok(tiny.size > 7_000_000);
  },

  async "ollama: show"() {
    const shown = await ollama.show({ model });
    for (const capability of ["completion", "tools", "thinking"]) assert.ok(shown.capabilities.includes(capability));
    assert.equal(shown.model_info["general.architecture"], "qwen3");
    assert.ok(shown.template.includes("<|im_start|>"));
  },

  async "ollama: generate"() {
    const reply = await ollama.generate({ model, prompt: "Ping", think: false });
    assert.equal(reply.response, "Pong");
    assert.equal(reply.done_reason, "stop");
    assert.ok(reply.context.length > 0 && reply.eval_count > 0);
  },

  async "ollama: chat"() {
    const reply = await ollama.chat({ model, messages: ask("Ping"), think: false });
    assert.equal(reply.message.content, "Pong");
    assert.equal(reply.message.role, "assistant");
  },

  async "ollama: chat, streamed"() {
    const parts = await gather(await ollama.chat({ model, messages: ask("Count from 1 to 10."), think: false, stream: true }));
    assert.equal(parts.map((part) => part.message.content).join(""), count);
    assert.ok(parts.length > 2);
    assert.deepEqual(parts.filter((part) => part.done), [parts.at(-1)]);
  },

  async "ollama: think"() {
    const reply = await ollama.chat({ model, messages: ask("How many r are in strawberry?"), think: true });
    assert.equal(reply.message.thinking.trim(), "s t r a w b e r r y: r at 3, 8 and 9. That is three.");
    assert.equal(reply.message.content, "There are 3.");
  },

  async "ollama: tools, and their result"() {
    const messages = ask("What is the weather today in Paris?");
    const { message } = await ollama.chat({ model, messages, tools: [tool], think: false });
    assert.deepEqual(message.tool_calls.map((call) => call.function.name), ["get_current_weather"]);
    assert.deepEqual(message.tool_calls[0].function.arguments, weather);
    messages.push(message, { role: "tool", tool_name: "get_current_weather", content: "22 degrees" });
    const reply = await ollama.chat({ model, messages, tools: [tool], think: false });
    assert.equal(reply.message.content, "It is 22 degrees in Paris.");
  },

  async "ollama: structured output"() {
    const reply = await ollama.chat({ model, messages: ask("Describe a person as JSON."), think: false, format: schema });
    assert.deepEqual(JSON.parse(reply.message.content), person);
  },

  async "ollama: embed"() {
    const reply = await ollama.embed({ model: await embeddingModel(), input: ["why is the sky blue?", "a"] });
    assert.deepEqual(reply.embeddings.map((vector) => vector.length), [384, 384]);
  },

  async "ollama: copy, use and delete"() {
    await ollama.copy({ source: model, destination: "tiny-js" });
    assert.equal((await ollama.generate({ model: "tiny-js", prompt: "Ping", think: false })).response, "Pong");
    await ollama.delete({ model: "tiny-js" });
    assert.ok(!(await names()).includes("tiny-js:latest"));
  },

  async "ollama: ps"() {
    await ollama.generate({ model, prompt: "", keep_alive: "10m" });
    const tiny = (await ollama.ps()).models.find((entry) => entry.name === "tiny:latest");
    assert.ok(tiny.size > 0 && Date.parse(tiny.expires_at) > Date.now());
  },

  async "ollama: a model that is not there"() {
    const failure = { status_code: 404, message: /not found/ };
    await assert.rejects(ollama.chat({ model: "nope", messages: ask("Ping") }), failure);
    await assert.rejects(ollama.show({ model: "nope" }), failure);
  },

  async "ollama: two streams at once"() {
    const text = async (question) => {
      const stream = await ollama.chat({ model, messages: ask(question), think: false, stream: true });
      return (await gather(stream)).map((part) => part.message.content).join("");
    };
    const both = await Promise.all([text("Count from 1 to 10."), text("List three fruits.")]);
    assert.deepEqual(both, [count, "1. apple\n2. banana\n3. cherry"]);
  },

  async "ollama: a stream that is given up"() {
    const stream = await ollama.chat({ model, messages: ask("Tell me a story."), think: false, stream: true });
    await assert.rejects(async () => {
      for await (const _ of stream) stream.abort();
    }, { name: "AbortError" });
    assert.equal((await ollama.chat({ model, messages: ask("Ping"), think: false })).message.content, "Pong");
  },

  async "openai: models"() {
    const entries = await gather(await openai.models.list());
    assert.ok(entries.some((entry) => entry.id === "tiny:latest"));
    assert.equal((await openai.models.retrieve(model)).object, "model");
  },

  // Under /v1 the temperature is 1 when nobody says, as in Ollama: whoever knows the answer asks for 0.
  async "openai: chat"() {
    const reply = await openai.chat.completions.create({ model, messages: ask("Ping"), reasoning_effort: "none", temperature: 0 });
    assert.equal(reply.choices[0].message.content, "Pong");
    assert.equal(reply.choices[0].finish_reason, "stop");
  },

  async "openai: chat, streamed, with usage"() {
    const parts = await gather(await openai.chat.completions.create({
      model, messages: ask("Count from 1 to 10."), reasoning_effort: "none", temperature: 0, stream: true, stream_options: { include_usage: true },
    }));
    assert.equal(parts.map((part) => part.choices[0]?.delta.content ?? "").join(""), count);
    assert.ok(parts.at(-1).usage.completion_tokens > 0);
  },

  async "openai: tools, and their result"() {
    const messages = ask("What is the weather today in Paris?");
    const first = await openai.chat.completions.create({ model, messages, tools: [tool], reasoning_effort: "none", temperature: 0 });
    const { message, finish_reason } = first.choices[0];
    assert.equal(finish_reason, "tool_calls");
    assert.deepEqual(message.tool_calls.map((call) => JSON.parse(call.function.arguments)), [weather]);
    messages.push(message, { role: "tool", tool_call_id: message.tool_calls[0].id, content: "22 degrees" });
    const reply = await openai.chat.completions.create({ model, messages, tools: [tool], reasoning_effort: "none", temperature: 0 });
    assert.equal(reply.choices[0].message.content, "It is 22 degrees in Paris.");
  },

  async "openai: responses, streamed"() {
    const asked = { model, input: "Count from 1 to 10.", reasoning: { effort: "none" }, temperature: 0 };
    const whole = await openai.responses.create(asked);
    assert.equal(whole.output_text, count);
    const events = await gather(await openai.responses.create({ ...asked, stream: true }));
    assert.deepEqual(events.map((event) => event.sequence_number), events.map((_, index) => index));
    assert.equal(events.filter((event) => event.type === "response.output_text.delta").map((event) => event.delta).join(""), count);
    assert.equal(events.at(-1).type, "response.completed");
    assert.equal((await openai.responses.stream(asked).finalResponse()).output_text, count);
  },

  async "openai: responses, tools, and their result"() {
    const { name, description, parameters } = tool.function;
    const asked = { model, tools: [{ type: "function", name, description, parameters, strict: null }], reasoning: { effort: "none" }, temperature: 0 };
    const input = ask("What is the weather today in Paris?");
    const { output } = await openai.responses.create({ ...asked, input });
    assert.deepEqual(output.map((item) => [item.type, JSON.parse(item.arguments)]), [["function_call", weather]]);
    input.push(...output, { type: "function_call_output", call_id: output[0].call_id, output: "22 degrees" });
    assert.equal((await openai.responses.stream({ ...asked, input }).finalResponse()).output_text, "It is 22 degrees in Paris.");
  },

  async "openai: responses, structured output"() {
    const reply = await openai.responses.parse({
      model, input: "Describe a person as JSON.", reasoning: { effort: "none" }, temperature: 0,
      text: { format: { type: "json_schema", name: "person", schema, strict: true } },
    });
    assert.deepEqual(JSON.parse(reply.output_text), person);
    assert.equal(reply.status, "completed");
  },

  async "openai: embeddings"() {
    const reply = await openai.embeddings.create({ model: await embeddingModel(), input: ["why is the sky blue?", "a"] });
    assert.deepEqual(reply.data.map((item) => item.embedding.length), [384, 384]);
  },

  async "openai: a model that is not there"() {
    const failure = { status: 404, type: "not_found_error", message: /nope/ };
    await assert.rejects(openai.chat.completions.create({ model: "nope", messages: ask("Ping") }), failure);
  },
};

let passed = 0;
let failed = 0;
let leftOut = 0;
for (const [name, step] of Object.entries(steps)) {
  try {
    await step();
    passed += 1;
    console.log(`ok       ${name}`);
  } catch (error) {
    if (error instanceof LeftOut) {
      leftOut += 1;
      console.log(`left out ${name}: ${error.message}`);
    } else {
      failed += 1;
      console.log(`FAILED   ${name}: ${error.message}`);
    }
  }
}
console.log(`js: ${passed} steps ok, ${failed} failed, ${leftOut} left out`);
process.exit(failed === 0 ? 0 : 1);
