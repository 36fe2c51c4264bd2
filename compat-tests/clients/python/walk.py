"""Walks a server with the Python clients of Ollama, OpenAI and Anthropic and compares what the tiny model knows by heart.

    python walk.py BASE_URL
"""
import asyncio
import json
import sys
import traceback

import anthropic
import ollama
import openai
import pydantic

COUNT = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10"
ASK_COUNT = [{"role": "user", "content": "Count from 1 to 10."}]
ASK_PING = [{"role": "user", "content": "Ping"}]
ASK_LETTERS = [{"role": "user", "content": "How many r are in strawberry?"}]
THOUGHT = "s t r a w b e r r y: r at 3, 8 and 9. That is three."
ASK_WEATHER = [{"role": "user", "content": "What is the weather today in Paris?"}]
WEATHER = {"location": "Paris", "format": "celsius"}
ANSWER_WEATHER = "It is 22 degrees in Paris."
PARAMETERS = {"type": "object", "required": ["location", "format"], "properties": {
    "location": {"type": "string", "description": "The city"}, "format": {"type": "string", "enum": ["celsius", "fahrenheit"]}}}
FUNCTION = {"name": "get_current_weather", "description": "Get the current weather for a location", "parameters": PARAMETERS}
TOOL = {"type": "function", "function": FUNCTION}
ASK_PERSON = [{"role": "user", "content": "Describe a person as JSON."}]
PERSON = {"name": "Ada", "age": 36, "languages": ["English", "French"]}
SCHEMA = {"type": "object", "required": ["name", "age", "languages"], "properties": {
    "name": {"type": "string"}, "age": {"type": "integer"}, "languages": {"type": "array", "items": {"type": "string"}}}}

STEPS = []


class LeftOut(Exception):
    """The server has not the model that a step needs."""


def step(name):
    def note(function):
        STEPS.append((name, function))
        return function
    return note


def same(have, want):
    assert have == want, f"{have!r} for {want!r}"


def embedding_model(base):
    names = [model.model for model in ollama.Client(base).list().models]
    if "minilm:latest" not in names:
        raise LeftOut("the server has no model minilm")
    return "minilm"


# Ollama's own client: its response types are pydantic models, so a missing or mistyped field is an error by itself.


@step("ollama: version (raw: the client has no call for it)")
def _(base):
    reply = ollama.Client(base)._client.get("/api/version")
    assert reply.json()["version"].count(".") == 2, reply.text


@step("ollama: list")
def _(base):
    tiny = next(model for model in ollama.Client(base).list().models if model.model == "tiny:latest")
    assert tiny.size > 7_000_000 and len(tiny.digest) == 64 and tiny.modified_at.tzinfo, tiny
    same((tiny.details.family, tiny.details.format, tiny.details.quantization_level), ("qwen3", "gguf", "F16"))


@step("ollama: show")
def _(base):
    shown = ollama.Client(base).show("tiny")
    assert {"completion", "tools", "thinking"} <= set(shown.capabilities), shown.capabilities
    same(shown.modelinfo["qwen3.block_count"] > 0 and shown.modelinfo["general.architecture"], "qwen3")
    assert "<|im_start|>" in shown.template and 'stop' in shown.parameters, shown


@step("ollama: generate")
def _(base):
    reply = ollama.Client(base).generate("tiny", "Ping", think=False)
    same((reply.response, reply.done, reply.done_reason), ("Pong", True, "stop"))
    assert reply.context and reply.prompt_eval_count > 0 and reply.eval_count > 0 and reply.load_duration > 0, reply


@step("ollama: generate, streamed, cut at num_predict")
def _(base):
    parts = list(ollama.Client(base).generate("tiny", "Count from 1 to 10.", think=False, stream=True, options={"num_predict": 5}))
    text = "".join(part.response for part in parts)
    assert text and COUNT.startswith(text) and len(text) < len(COUNT), text
    same((parts[-1].done_reason, parts[-1].eval_count), ("length", 5))


@step("ollama: chat")
def _(base):
    reply = ollama.Client(base).chat("tiny", ASK_PING, think=False)
    same((reply.message.role, reply.message.content, reply.message.thinking, reply.done_reason), ("assistant", "Pong", None, "stop"))


@step("ollama: chat, streamed, with history")
def _(base):
    history = [{"role": "user", "content": "My name is Ada."}, {"role": "assistant", "content": "Nice to meet you, Ada."},
               {"role": "user", "content": "What is my name?"}]
    parts = list(ollama.Client(base).chat("tiny", history, think=False, stream=True))
    same("".join(part.message.content for part in parts), "Your name is Ada.")
    assert len(parts) > 2 and parts[-1].done and not any(part.done for part in parts[:-1]), len(parts)


@step("ollama: think")
def _(base):
    reply = ollama.Client(base).chat("tiny", ASK_LETTERS, think=True)
    same((reply.message.thinking.strip(), reply.message.content), (THOUGHT, "There are 3."))


@step("ollama: tools, and their result")
def _(base):
    client = ollama.Client(base)
    reply = client.chat("tiny", ASK_WEATHER, tools=[TOOL], think=False)
    call, = reply.message.tool_calls
    same((call.function.name, call.function.arguments), ("get_current_weather", WEATHER))
    result = {"role": "tool", "tool_name": "get_current_weather", "content": "22 degrees"}
    reply = client.chat("tiny", [*ASK_WEATHER, reply.message, result], tools=[TOOL], think=False)
    same(reply.message.content, ANSWER_WEATHER)


@step("ollama: tools, streamed")
def _(base):
    parts = ollama.Client(base).chat("tiny", ASK_WEATHER, tools=[TOOL], think=False, stream=True)
    calls = [call for part in parts for call in part.message.tool_calls or []]
    same([(call.function.name, call.function.arguments) for call in calls], [("get_current_weather", WEATHER)])


@step("ollama: structured output")
def _(base):
    reply = ollama.Client(base).chat("tiny", ASK_PERSON, think=False, format=SCHEMA)
    same(json.loads(reply.message.content), PERSON)


@step("ollama: embed")
def _(base):
    client, model = ollama.Client(base), embedding_model(base)
    reply = client.embed(model, ["why is the sky blue?", "a"])
    same([len(vector) for vector in reply.embeddings], [384, 384])
    for vector in reply.embeddings:
        assert abs(sum(x * x for x in vector) - 1) < 1e-3
    same(len(client.embeddings(model, "a").embedding), 384)


@step("ollama: copy, use and delete")
def _(base):
    client = ollama.Client(base)
    same(client.copy("tiny", "tiny-python").status, "success")
    same(client.generate("tiny-python", "Ping", think=False).response, "Pong")
    same(client.delete("tiny-python").status, "success")
    assert "tiny-python:latest" not in [model.model for model in client.list().models]


@step("ollama: ps")
def _(base):
    client = ollama.Client(base)
    client.generate("tiny", "", keep_alive="10m")
    tiny = next(model for model in client.ps().models if model.model == "tiny:latest")
    assert tiny.size > 0 and tiny.expires_at.tzinfo and tiny.details.family == "qwen3", tiny


@step("ollama: a model that is not there")
def _(base):
    for call in (ollama.Client(base).chat, lambda model, _: ollama.Client(base).show(model)):
        try:
            call("nope", ASK_PING)
        except ollama.ResponseError as error:
            assert error.status_code == 404 and "not found" in error.error, error
        else:
            raise AssertionError("no error")


@step("ollama: two streams at once")
def _(base):
    async def text(question):
        parts = await ollama.AsyncClient(base).chat("tiny", [{"role": "user", "content": question}], think=False, stream=True)
        return "".join([part.message.content async for part in parts])

    async def both():
        return await asyncio.gather(text("Count from 1 to 10."), text("List three fruits."))

    same(asyncio.run(both()), [COUNT, "1. apple\n2. banana\n3. cherry"])


# OpenAI's client, with its strict validation: a reply that its types do not allow is an error.


def openai_client(base):
    return openai.OpenAI(base_url=base + "/v1", api_key="none", max_retries=0, _strict_response_validation=True)


@step("openai: models")
def _(base):
    client = openai_client(base)
    assert "tiny:latest" in [model.id for model in client.models.list()]
    same(client.models.retrieve("tiny").object, "model")


@step("openai: chat")
def _(base):
    reply = openai_client(base).chat.completions.create(model="tiny", messages=ASK_PING, reasoning_effort="none", temperature=0)
    same((reply.choices[0].message.content, reply.choices[0].finish_reason), ("Pong", "stop"))
    same(reply.usage.total_tokens, reply.usage.prompt_tokens + reply.usage.completion_tokens)


@step("openai: chat, streamed, with usage")
def _(base):
    parts = list(openai_client(base).chat.completions.create(
        model="tiny", messages=ASK_COUNT, reasoning_effort="none", temperature=0, stream=True, stream_options={"include_usage": True}))
    same("".join(part.choices[0].delta.content or "" for part in parts if part.choices), COUNT)
    same([part.choices[0].finish_reason for part in parts if part.choices][-1], "stop")
    assert parts[-1].usage.completion_tokens > 0, parts[-1]


@step("openai: tools, and their result")
def _(base):
    client = openai_client(base)
    reply = client.chat.completions.create(model="tiny", messages=ASK_WEATHER, tools=[TOOL], reasoning_effort="none", temperature=0)
    message = reply.choices[0].message
    call, = message.tool_calls
    same((call.function.name, json.loads(call.function.arguments), reply.choices[0].finish_reason),
         ("get_current_weather", WEATHER, "tool_calls"))
    result = {"role": "tool", "tool_call_id": call.id, "content": "22 degrees"}
    reply = client.chat.completions.create(model="tiny", messages=[*ASK_WEATHER, message, result], tools=[TOOL], reasoning_effort="none", temperature=0)
    same(reply.choices[0].message.content, ANSWER_WEATHER)


@step("openai: structured output")
def _(base):
    reply = openai_client(base).chat.completions.create(
        model="tiny", messages=ASK_PERSON, reasoning_effort="none", temperature=0,
        response_format={"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA}})
    same(json.loads(reply.choices[0].message.content), PERSON)


# Responses. Version 3's types want one field that Ollama's wire has not, so each answer is validated with it filled in.

FLAT_TOOL = {"type": "function", "strict": None, **FUNCTION}
RESPONSE = {"model": "tiny", "reasoning": {"effort": "none"}, "temperature": 0}


def lenient_client(base):
    return openai.OpenAI(base_url=base + "/v1", api_key="none", max_retries=0)


def typed(reply):
    data = reply.to_dict()
    usage = data.get("response", data).get("usage")
    if usage:
        usage["input_tokens_details"].setdefault("cache_write_tokens", 0)
    return type(reply).model_validate(data)


class Person(pydantic.BaseModel):
    name: str
    age: int
    languages: list[str]


@step("openai: responses")
def _(base):
    reply = typed(lenient_client(base).responses.create(input="Ping", **RESPONSE))
    same((reply.output_text, reply.status, reply.incomplete_details), ("Pong", "completed", None))
    same(reply.usage.total_tokens, reply.usage.input_tokens + reply.usage.output_tokens)


@step("openai: responses, streamed")
def _(base):
    events = [typed(event) for event in lenient_client(base).responses.create(input="Count from 1 to 10.", stream=True, **RESPONSE)]
    same([event.sequence_number for event in events], list(range(len(events))))
    same([event.type for event in events[:2]], ["response.created", "response.in_progress"])
    same("".join(event.delta for event in events if event.type == "response.output_text.delta"), COUNT)
    same((events[-1].type, events[-1].response.output_text), ("response.completed", COUNT))


@step("openai: responses, cut at max_output_tokens")
def _(base):
    reply = typed(lenient_client(base).responses.create(input="Count from 1 to 10.", max_output_tokens=5, **RESPONSE))
    assert COUNT.startswith(reply.output_text) and len(reply.output_text) < len(COUNT), reply.output_text
    same((reply.status, reply.incomplete_details.reason), ("incomplete", "max_output_tokens"))


@step("openai: responses, reasoning")
def _(base):
    reply = typed(lenient_client(base).responses.create(input="How many r are in strawberry?", **RESPONSE | {"reasoning": {"effort": "high"}}))
    thought, message = reply.output
    same((thought.summary[0].text.strip(), message.content[0].text), (THOUGHT, "There are 3."))


@step("openai: responses, tools, and their result")
def _(base):
    client = lenient_client(base)
    items = [{"role": "user", "content": "What is the weather today in Paris?"}]
    reply = typed(client.responses.create(input=items, tools=[FLAT_TOOL], **RESPONSE))
    call, = reply.output
    same((call.type, call.name, json.loads(call.arguments)), ("function_call", "get_current_weather", WEATHER))
    items += [*reply.output, {"type": "function_call_output", "call_id": call.call_id, "output": "22 degrees"}]
    with client.responses.stream(input=items, tools=[FLAT_TOOL], **RESPONSE) as stream:
        same(stream.get_final_response().output_text, ANSWER_WEATHER)


@step("openai: responses, parsed")
def _(base):
    client = lenient_client(base)
    same(client.responses.parse(input="Describe a person as JSON.", text_format=Person, **RESPONSE).output_parsed.model_dump(), PERSON)
    with client.responses.stream(input="Describe a person as JSON.", text_format=Person, **RESPONSE) as stream:
        same(stream.get_final_response().output_parsed.model_dump(), PERSON)


@step("openai: responses, what cannot be meant")
def _(base):
    for wrong, kind in [({"input": [{"type": "zzz"}]}, openai.BadRequestError), ({"input": "Ping", "model": "nope"}, openai.NotFoundError)]:
        try:
            lenient_client(base).responses.create(**RESPONSE | wrong)
        except kind as error:
            assert "zzz" in error.message or "nope" in error.message, error
        else:
            raise AssertionError("no error")


@step("openai: embeddings, as floats and as base64")
def _(base):
    model = embedding_model(base)
    floats = openai_client(base).embeddings.create(model=model, input=["a", "b"], encoding_format="float")
    same([(item.index, len(item.embedding)) for item in floats.data], [(0, 384), (1, 384)])
    packed = lenient_client(base).embeddings.create(model=model, input="a")  # strict types do not know base64, which it asks for
    assert all(abs(a - b) < 1e-4 for a, b in zip(packed.data[0].embedding, floats.data[0].embedding))


@step("openai: a model that is not there")
def _(base):
    try:
        openai_client(base).chat.completions.create(model="nope", messages=ASK_PING)
    except openai.NotFoundError as error:
        same((error.type, "nope" in error.message), ("not_found_error", True))
    else:
        raise AssertionError("no error")


# Anthropic's client, strict too.


def anthropic_client(base):
    return anthropic.Anthropic(base_url=base, api_key="none", max_retries=0, _strict_response_validation=True)


@step("anthropic: messages")
def _(base):
    reply = anthropic_client(base).messages.create(model="tiny", max_tokens=50, messages=ASK_PING, thinking={"type": "disabled"})
    same(([block.text for block in reply.content], reply.stop_reason), (["Pong"], "end_turn"))
    assert reply.usage.input_tokens > 0 and reply.usage.output_tokens > 0, reply.usage


@step("anthropic: messages, streamed")
def _(base):
    with anthropic_client(base).messages.stream(model="tiny", max_tokens=120, messages=ASK_COUNT, thinking={"type": "disabled"}) as stream:
        same("".join(stream.text_stream), COUNT)
        same(stream.get_final_message().stop_reason, "end_turn")


@step("anthropic: tools, and their result")
def _(base):
    client = anthropic_client(base)
    tool = {"name": FUNCTION["name"], "description": FUNCTION["description"], "input_schema": PARAMETERS}
    shared = {"model": "tiny", "max_tokens": 120, "tools": [tool], "thinking": {"type": "disabled"}}
    reply = client.messages.create(messages=ASK_WEATHER, **shared)
    call, = [block for block in reply.content if block.type == "tool_use"]
    same((call.name, call.input, reply.stop_reason), ("get_current_weather", WEATHER, "tool_use"))
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "22 degrees"}]}
    turn = {"role": "assistant", "content": [{"type": "tool_use", "id": call.id, "name": call.name, "input": call.input}]}
    reply = client.messages.create(messages=[*ASK_WEATHER, turn, result], **shared)
    same(reply.content[-1].text, ANSWER_WEATHER)


@step("anthropic: a model that is not there")
def _(base):
    try:
        anthropic_client(base).messages.create(model="nope", max_tokens=5, messages=ASK_PING)
    except anthropic.NotFoundError as error:
        same((error.body["type"], error.body["error"]["type"], "nope" in str(error)), ("error", "not_found_error", True))
    else:
        raise AssertionError("no error")


def main(base):
    passed = failed = left_out = 0
    for name, function in STEPS:
        try:
            function(base)
        except LeftOut as reason:
            left_out += 1
            print(f"left out {name}: {reason}")
        except Exception as error:
            failed += 1
            print(f"FAILED   {name}: {type(error).__name__}: {error}")
            if not isinstance(error, AssertionError):
                traceback.print_exc(limit=-2)
        else:
            passed += 1
            print(f"ok       {name}")
    print(f"python: {passed} steps ok, {failed} failed, {left_out} left out")
    return failed == 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(0 if main(sys.argv[1].rstrip("/")) else 1)
