"""The servers that are measured: how each is found, started, given the model, and asked, by the same clock for all."""
import dataclasses
import hashlib
import http.client
import json
import os
import random
import shutil
import socket
import subprocess
import time
import urllib.parse

CONTEXT = 2048  # tokens of one sequence
STREAMS = 8  # sequences at once that every server is told to expect
THREADS = len(os.sched_getaffinity(0))  # that every server computes with
MODEL, EMBEDDER, SMALL = "hanzod-bench", "hanzod-bench-embed", "hanzod-bench-small"


@dataclasses.dataclass
class Answer:
    """One answer by the client's clock (seconds), with the server's counts of tokens."""
    started: float
    first: float
    ended: float
    prompt_tokens: int
    tokens: int
    text: str


class Server:
    """What every server has: an address, and its process when we started it."""

    def __init__(self, name, base, process=None):
        self.name, self.base, self.process = name, base, process
        self.address = urllib.parse.urlparse(base)

    def connect(self, timeout=600):
        return http.client.HTTPConnection(self.address.hostname, self.address.port, timeout=timeout)

    def call(self, method, path, body=None, raw=None):
        """Status and body; `raw` is sent as it is, a file too."""
        connection = self.connect()
        headers = {"Content-Type": "application/json"} if raw is None else {"Content-Length": str(os.fstat(raw.fileno()).st_size)}
        connection.request(method, path, json.dumps(body) if raw is None and body is not None else raw, headers)
        reply = connection.getresponse()
        text = reply.read()
        connection.close()
        return reply.status, text

    def stream(self, path, body):
        """The lines of an answer as they come."""
        connection = self.connect()
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        reply = connection.getresponse()
        if reply.status != 200:
            raise RuntimeError(f"{self.name}: {reply.status} {reply.read(300)!r}")
        for line in reply:
            if line.strip():
                yield line
        connection.close()

    def stop(self):
        if self.process:
            self.process.terminate()
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def resident(self):
        """MB of memory of the process and all below it, or None when it is not ours."""
        return resident(self.process.pid) if self.process else None


class OllamaServer(Server):
    """hanzod, Ollama, and whatever else speaks `/api/*`."""
    answers_version = True

    def put(self, model, path, **more):
        """Makes a model of a GGUF file through the API."""
        with open(path, "rb") as file:
            digest = hashlib.sha256()
            while piece := file.read(1 << 20):
                digest.update(piece)
            digest = "sha256:" + digest.hexdigest()
            file.seek(0)
            if self.call("HEAD", f"/api/blobs/{digest}")[0] != 200:
                status, text = self.call("POST", f"/api/blobs/{digest}", raw=file)
                if status not in (200, 201):
                    raise RuntimeError(f"{self.name}: blob: {status} {text!r}")
        status, text = self.call("POST", "/api/create", {"model": model, "files": {"model.gguf": digest}, "stream": False, **more})
        if status != 200:
            raise RuntimeError(f"{self.name}: create: {status} {text!r}")

    def prepare(self, model, embedder):
        self.put(MODEL, model, template="{{ .Prompt }}")
        if embedder:
            self.put(EMBEDDER, embedder)

    def load(self):
        options = {"num_ctx": CONTEXT, "num_thread": THREADS}
        status, text = self.call("POST", "/api/generate", {"model": MODEL, "keep_alive": "1h", "options": options, "stream": False})
        if status != 200:
            raise RuntimeError(f"{self.name}: load: {status} {text!r}")

    def unload(self):
        self.call("POST", "/api/generate", {"model": MODEL, "keep_alive": 0})

    def generate(self, prompt, tokens):
        options = {"num_predict": tokens, "num_ctx": CONTEXT, "num_thread": THREADS, "seed": random.getrandbits(31), "temperature": 1.0}
        body = {"model": MODEL, "prompt": prompt, "raw": True, "stream": True, "keep_alive": "1h", "options": options}
        started, first, last, lines = time.perf_counter(), None, {}, []
        for line in self.stream("/api/generate", body):
            first = first or time.perf_counter()
            lines.append(line)
        ended = time.perf_counter()
        lines = [json.loads(line) for line in lines]
        last = lines[-1] if lines else {}
        text = "".join(line.get("response", "") for line in lines)
        if "error" in last or not last.get("done"):
            raise RuntimeError(f"{self.name}: {last}")
        return Answer(started, first, ended, last.get("prompt_eval_count", 0), last.get("eval_count", 0), text)

    def embed(self, texts):
        status, text = self.call("POST", "/api/embed", {"model": EMBEDDER, "input": texts, "keep_alive": "1h", "options": {"num_thread": THREADS}})
        if status != 200 or len(json.loads(text)["embeddings"]) != len(texts):
            raise RuntimeError(f"{self.name}: embed: {status} {text[:300]!r}")

    def clean_up(self):
        for model in (MODEL, EMBEDDER):
            self.call("DELETE", "/api/delete", {"model": model})


class LlamaServer(Server):
    """llama.cpp's own server, which holds one model from its start to its end; embeddings need a second one."""
    answers_version = False
    program = folder = model = embeds = None

    def prepare(self, model, embedder):
        if self.program and embedder:
            self.embeds = launch_llama_server(self.program, embedder, self.folder, "--embeddings", "--batch-size", "2048",
                                              "--ubatch-size", "2048", "--ctx-size", str(512 * STREAMS))

    def unload(self):
        super().stop()

    def load(self):
        again = launch_llama_server(self.program, self.model, self.folder, "--ctx-size", str(CONTEXT * STREAMS))
        self.base, self.address, self.process = again.base, again.address, again.process

    def stop(self):
        super().stop()
        if self.embeds:
            self.embeds.stop()

    def embed(self, texts):
        status, text = (self.embeds or self).call("POST", "/v1/embeddings", {"input": texts, "model": "any"})
        if status != 200 or len(json.loads(text)["data"]) != len(texts):
            raise RuntimeError(f"{self.name}: embed: {status} {text[:300]!r}")

    def generate(self, prompt, tokens):
        body = {"prompt": prompt, "n_predict": tokens, "stream": True, "cache_prompt": True, "seed": random.getrandbits(31), "temperature": 1.0}
        started, first, last, lines = time.perf_counter(), None, {}, []
        for line in self.stream("/completion", body):
            if line.startswith(b"data:"):
                first = first or time.perf_counter()
                lines.append(line)
        ended = time.perf_counter()
        lines = [json.loads(line[5:]) for line in lines]
        last = lines[-1] if lines else {}
        text = "".join(line.get("content", "") for line in lines)
        if not last.get("stop"):
            raise RuntimeError(f"{self.name}: {last}")
        return Answer(started, first, ended, last.get("tokens_evaluated", 0), last.get("tokens_predicted", 0), text)

    def clean_up(self):
        pass


def resident(pid):
    """MB resident of a process and its children."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as stat:
                    parents[int(entry)] = int(stat.read().rsplit(")", 1)[1].split()[1])
            except OSError:
                pass
    family = {pid}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    total = 0
    for member in family:
        try:
            with open(f"/proc/{member}/status") as status:
                total += sum(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
        except OSError:
            pass
    return total / 1024


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(base, path, process, log, limit=300):
    """Seconds until the server has answered with 200 for the first time."""
    started = time.perf_counter()
    address = urllib.parse.urlparse(base)
    while time.perf_counter() - started < limit:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended: {open(log, errors='replace').read()[-800:]}")
        try:
            connection = http.client.HTTPConnection(address.hostname, address.port, timeout=5)
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return time.perf_counter() - started
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.001)
    raise RuntimeError(f"no answer from {base}{path} in {limit} s")


def start_ollama_like(name, program, folder, default=False):
    """hanzod or Ollama on a free port with a store of its own; returns it and its seconds to the first answer.

    With `default` it decides by itself how many sequences it takes at once."""
    base = f"http://127.0.0.1:{free_port()}"
    settings = {"OLLAMA_MODELS": os.path.join(folder, name), "OLLAMA_HOST": base, "OLLAMA_NUM_PARALLEL": str(STREAMS),
                "OLLAMA_CONTEXT_LENGTH": str(CONTEXT), "OLLAMA_MAX_LOADED_MODELS": "3"}
    if default:
        del settings["OLLAMA_NUM_PARALLEL"]
    if name == "hanzod":
        settings["HANZOD_HOST"] = "off"
    os.makedirs(settings["OLLAMA_MODELS"], exist_ok=True)
    log = os.path.join(folder, name + ".log")
    with open(log, "ab") as out:
        process = subprocess.Popen([program, "serve"], env=os.environ | settings, stdout=out, stderr=out)
    seconds = wait_for(base, "/api/version", process, log)
    return OllamaServer(name, base, process), seconds


def start_llama_server(program, model, folder):
    server = launch_llama_server(program, model, folder, "--ctx-size", str(CONTEXT * STREAMS))
    server.program, server.model, server.folder = program, model, folder
    return server


def launch_llama_server(program, model, folder, *more):
    port = free_port()
    log = os.path.join(folder, f"llama-server-{port}.log")
    command = [program, "--model", model, "--port", str(port), "--parallel", str(STREAMS), "--threads", str(THREADS), *more]
    with open(log, "ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    base = f"http://127.0.0.1:{port}"
    wait_for(base, "/health", process, log)
    return LlamaServer("llama-server", base, process)


def running(name, base):
    """A server that already runs, named with --peer."""
    for kind, path in ((OllamaServer, "/api/version"), (LlamaServer, "/props")):
        server = kind(name, base.rstrip("/"))
        try:
            if server.call("GET", path)[0] == 200:
                return server
        except OSError as error:
            raise SystemExit(f"{name}: {base} does not answer: {error}") from error
    raise SystemExit(f"{name}: {base} speaks neither Ollama's API nor llama-server's")


def version(program):
    """What a program says of itself, in one line."""
    for argument in ("--version", "version"):
        done = subprocess.run([program, argument], capture_output=True, text=True, timeout=30)
        text = (done.stdout + done.stderr).strip()
        if done.returncode == 0 and text:
            return text.splitlines()[-1]
    return "unknown"


def llama_bench(program, model, prompt, tokens):
    """(prompt, generation) tokens a second as llama-bench measures them in its own process."""
    command = [program, "-m", model, "-p", str(prompt), "-n", str(tokens), "-r", "1", "-t", str(THREADS), "-o", "json"]
    rows = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    rate = lambda key: next(row["avg_ts"] for row in rows if row[key] and not row["n_gen" if key == "n_prompt" else "n_prompt"])
    return rate("n_prompt"), rate("n_gen")


def on_path(name):
    return shutil.which(name)
