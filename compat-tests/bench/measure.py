"""What is measured. Every function gives one sample; bench.py repeats them in turn over the servers."""
import concurrent.futures
import random
import statistics
import time

import servers

# key: (what it is, unit, whether more is better)
METRICS = {
    "prompt": ("prompt of 512 tokens", "tokens/s", True),
    "generate_1": ("generation, 1 stream", "tokens/s", True),
    "generate_4": ("generation, 4 streams", "tokens/s", True),
    "generate_8": ("generation, 8 streams", "tokens/s", True),
    "generate_16": ("generation, 16 streams", "tokens/s", True),
    "first_new": ("first token, new prompt of 512", "ms", False),
    "first_shared": ("first token, prefix seen before", "ms", False),
    "first_cold": ("first token, new prompt of 1500", "ms", False),
    "first_turn": ("first token, second turn after it", "ms", False),
    "embed_1": ("embedding of 1 text, 24 words", "texts/s", True),
    "embed_64": ("64 texts of 24 words", "texts/s", True),
    "embed_256": ("256 texts of 24 words", "texts/s", True),
    "embed_256_short": ("256 texts of 6 words", "texts/s", True),
    "embed_512": ("512 texts of 24 words", "texts/s", True),
    "load": ("load of the model, file in memory", "s", False),
    "resident_loaded": ("memory with the model", "MB", False),
    "start": ("start to first answer", "ms", False),
    "resident_idle": ("memory, idle, no model", "MB", False),
    "version": ("GET /api/version", "ms", False),
    "tags": ("GET /api/tags, 500 models", "ms", False),
}
# What is to hold: (figure, held against, at least so many times as good). The figure itself as `against` another one of ours.
BARS = [
    ("prompt", "llama-server", 1.0),
    ("generate_1", "llama-server", 1.0),
    ("generate_8", "llama-server", 1.0),
    ("generate_8", "ollama", 1.4),
    ("first_turn", "llama-server", 1 / 1.1),
    ("first_turn", "first_cold", 5.0),
    ("embed_256_short", "ollama", 3.0),
    ("embed_256_short", "llama-server", 1.1),
    ("embed_256", "ollama", 1.8),
    ("embed_256", "llama-server", 1.0),
    ("tags", "ollama", 5.0),
    ("resident_loaded", "llama-server", 1 / 1.1),
]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
# Words that embedding models know, so that a text of six words is about eight tokens.
COMMON = """time year people way day man thing woman life child world school state family student group country problem hand part place
case week company system program question work government number night point home water room mother area money story fact month lot
right study book eye job word business issue side kind head house service friend father power hour game line end member law car city
community name president team minute idea body information back parent face others level office door health person art war history""".split()


def words(count):
    """Text that no server has seen: no cache can know it."""
    return " ".join("".join(random.choices(LETTERS, k=random.randint(2, 7))) for _ in range(count))


class Prompts:
    """Random prompts of about so many tokens, once it is known how many words that is for this model."""

    def __init__(self, server):
        probe = server.generate(words(100), 1)
        self.words_per_token = 100 / max(probe.prompt_tokens, 1)

    def of(self, tokens):
        return words(max(1, round(tokens * self.words_per_token)))


def prompt(server, prompts):
    """A new prompt, one token: its rate, and the time to the first token."""
    answer = server.generate(prompts.of(512), 1)
    seconds = answer.first - answer.started
    return {"prompt": answer.prompt_tokens / seconds, "first_new": seconds * 1000}


def shared_prefix(server, prompts):
    """The time to the first token of a second question to a long text."""
    text = prompts.of(480)
    server.generate(text + " " + prompts.of(32), 1)
    answer = server.generate(text + " " + prompts.of(32), 1)
    return {"first_shared": (answer.first - answer.started) * 1000}


def generate(server, prompts, streams, tokens):
    """Tokens a second over all streams, from the first request to the end of the last answer.

    Not from the first token on: a server that answers one client before it has read the prompts of the others would have their
    prompts counted as generation, and one that lets all of them wait would not."""
    with concurrent.futures.ThreadPoolExecutor(streams) as pool:
        answers = list(pool.map(lambda text: server.generate(text, tokens), [prompts.of(16) for _ in range(streams)]))
    seconds = max(answer.ended for answer in answers) - min(answer.started for answer in answers)
    made = sum(answer.tokens for answer in answers)
    return {f"generate_{streams}": made / seconds} if made > 0 and seconds > 0 else {}


def second_turn(server, prompts):
    """The times to the first token of a conversation's first answer, and of the second."""
    told = prompts.of(1470) + " " + prompts.of(30)
    answer = server.generate(told, 32)
    cold = answer.first - answer.started
    answer = server.generate(told + answer.text + " " + prompts.of(30), 1)
    return {"first_cold": cold * 1000, "first_turn": (answer.first - answer.started) * 1000}


def embed(server, key, count, length):
    """New texts of known words, all in one call."""
    texts = [" ".join(random.choices(COMMON, k=length)) for _ in range(count)]
    started = time.perf_counter()
    server.embed(texts)
    return {key: len(texts) / (time.perf_counter() - started)}


def load(server):
    server.unload()
    time.sleep(0.5)
    started = time.perf_counter()
    server.load()
    return {"load": time.perf_counter() - started}


def latency(server, path, calls):
    """The median of calls over one connection, in ms."""
    connection, times = server.connect(), []
    for _ in range(calls):
        started = time.perf_counter()
        connection.request("GET", path)
        reply = connection.getresponse()
        reply.read()
        times.append((time.perf_counter() - started) * 1000)
        if reply.status != 200:
            raise RuntimeError(f"{server.name}: {path}: {reply.status}")
    connection.close()
    return statistics.median(times)


def many_models(server, path, count=500):
    """Gives a server so many names."""
    server.put(servers.SMALL, path)
    for index in range(count - 1):
        status, text = server.call("POST", "/api/copy", {"source": servers.SMALL, "destination": f"{servers.SMALL}-{index}"})
        if status != 200:
            raise RuntimeError(f"{server.name}: copy: {status} {text!r}")
