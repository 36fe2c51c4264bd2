"""Holds hanzod to the official client of the Hugging Face hub: what the one fetched the other finds in the cache.

    python walk.py HANZOD [NAME ...]

The client walks the hub of hub.py alone first, so that hanzod meets only what the client takes for a hub.
"""
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

import content
from hub import TOKEN, Hub, etag

FICLONE = 0x40049409
HERE = Path(__file__).resolve().parent
STEPS = []
# What hanzod takes of the repository of safetensors.
TAKEN = ["config.json", "generation_config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
         "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json"]


def step(function):
    STEPS.append(function)
    return function


def same(have, want):
    assert have == want, f"{have!r} for {want!r}"


def has(text, *wanted):
    for want in wanted:
        assert want in text, f"no {want!r} in {text!r}"


def sha256(body):
    return hashlib.sha256(body).hexdigest()


def hashes(files, names=None):
    return {name: sha256(files[name]) for name in names or files}


class Bench:
    """The hub with its repositories; caches and stores in folders by name."""

    def __init__(self, hanzod, hub, folder):
        self.hanzod, self.hub, self.folder = hanzod, hub, Path(folder)
        self.weights, self.gguf = content.safetensors(), content.gguf()
        old = {**self.weights, "config.json": self.weights["config.json"] + b"\n"}
        self.old = hub.add("Org/Weights", old, ["v1", "refs/pr/1"])
        self.commit = hub.add("Org/Weights", self.weights)
        parts = content.split_gguf(self.gguf)
        self.quants = {"README.md": b"# GGUF\n", "tiny-Q4_K_M.gguf": self.gguf, "tiny-Q8_0.gguf": content.gguf("tiny-q8_0.gguf"),
                       **{f"split/tiny-Q4_0-{number:05}-of-00002.gguf": part for number, part in enumerate(parts, 1)}}
        hub.add("Org/Tiny-GGUF", self.quants)
        hub.add("Org/Gated", self.weights, gated=True)
        hub.add("Org/Private", self.weights, private=True)
        for name in ["Weights-4bit", "Weights-8bit", "Other-4bit"]:
            hub.add(f"mlx-community/{name}", self.weights)

    def cache(self, name):
        return self.folder / "caches" / name

    def store(self, name):
        return self.folder / "stores" / name

    def environment(self, cache, more):
        kept = {name: os.environ[name] for name in ["PATH", "LD_LIBRARY_PATH"] if name in os.environ}
        more = {name: str(value) for name, value in more.items() if value is not None}
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        return {**kept, "HOME": str(home), "HF_ENDPOINT": self.hub.url, "HF_HUB_CACHE": str(self.cache(cache)),
                "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", **more}

    def python(self, cache, *arguments, **more):
        """One call of the official client; gives what it says, error or not."""
        done = subprocess.run([sys.executable, HERE / "client.py", *arguments], env=self.environment(cache, more),
                              capture_output=True, text=True, timeout=120)
        assert done.stdout, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def pull(self, cache, store, *arguments, source="huggingface", **more):
        """`hanzod pull` in a process of its own. Gives its last line of progress, or its error."""
        by = ["--source", source] if source else []
        return self.command(cache, store, "pull", "--json", *by, *arguments, **more)

    def command(self, cache, store, *arguments, **more):
        # No server listens at this address, so the command does the work itself.
        more = {"OLLAMA_MODELS": self.store(store), "HANZOD_HOST": "127.0.0.1:9", "OLLAMA_HOST": "off", **more}
        done = subprocess.run([self.hanzod, *arguments], env=self.environment(cache, more),
                              capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            return done.stderr.strip()
        return json.loads(done.stdout.splitlines()[-1])["status"] if arguments[0] == "pull" else done.stdout

    def held(self, store, name="Org/Weights", tag="latest", host="registry.ollama.ai"):
        """The files of a model in hanzod's store, hashed anew."""
        store = self.store(store)
        manifest = json.loads((store / "manifests" / host / name / tag).read_text())
        told = {}
        for layer in manifest["layers"]:
            body = (store / "blobs" / layer["digest"].replace(":", "-")).read_bytes()
            same(sha256(body), layer["digest"].removeprefix("sha256:"))
            told[layer.get("name", "")] = sha256(body)
        return told

    def asked(self):
        """Requests for the content of files since the last look."""
        return [path for method, host, path in self.hub.taken() if method == "GET" and (host == "store" or "/resolve/" in path)]


# First the client alone: what it takes for a hub is one.


@step
def the_client_reads_the_hub(bench):
    api = huggingface_hub.HfApi(endpoint=bench.hub.url, token=False)
    tree = {file.path: file for file in api.list_repo_tree("Org/Weights", recursive=True)
            if isinstance(file, huggingface_hub.hf_api.RepoFile)}
    same(set(tree), set(bench.weights))
    for path, body in bench.weights.items():
        told = tree[path].lfs.sha256 if tree[path].lfs else tree[path].blob_id
        same((tree[path].size, told), (len(body), etag(body)))
    same([model.id for model in api.list_models(author="mlx-community", search="weights")],
         ["mlx-community/Weights-4bit", "mlx-community/Weights-8bit"])
    for revision, commit in [("main", bench.commit), ("v1", bench.old), ("refs/pr/1", bench.old), (bench.old, bench.old)]:
        same(api.model_info("Org/Weights", revision=revision).sha, commit)
    for call, error in [
        (lambda: api.model_info("Org/None"), RepositoryNotFoundError),
        (lambda: api.model_info("Org/Private"), RepositoryNotFoundError),
        (lambda: api.model_info("Org/Weights", revision="v2"), RevisionNotFoundError),
        (lambda: api.hf_hub_download("Org/Weights", "x.json", cache_dir=bench.cache("errors")), EntryNotFoundError),
        (lambda: api.hf_hub_download("Org/Gated", "config.json", cache_dir=bench.cache("errors")), GatedRepoError),
    ]:
        try:
            call()
        except error:
            continue
        raise AssertionError(f"no {error.__name__}")
    api = huggingface_hub.HfApi(endpoint=bench.hub.url, token=TOKEN)
    same(api.model_info("Org/Private").id, "Org/Private")
    path = api.hf_hub_download("Org/Gated", "tokenizer.json", cache_dir=bench.cache("errors"))
    assert Path(path).read_bytes() == bench.weights["tokenizer.json"]


@step
def the_client_downloads_and_reads_offline(bench):
    same(bench.python("python", "snapshot", "Org/Weights", "main"), hashes(bench.weights))
    same(bench.python("python", "files", "Org/Weights", "v1", "config.json").keys(), {"config.json"})
    bench.hub.taken()
    same(bench.python("python", "snapshot", "Org/Weights", "main", HF_HUB_OFFLINE=1), hashes(bench.weights))
    same(bench.hub.taken(), [])


# Then what the one fetched, read by the other.


@step
def hanzod_reads_what_the_client_fetched_offline(bench):
    bench.hub.taken()
    same(bench.pull("python", "offline", "Org/Weights", HF_HUB_OFFLINE=1), "success")
    same(bench.hub.taken(), [])
    same(bench.held("offline"), hashes(bench.weights, TAKEN))
    same(bench.pull("python", "offline", f"Org/Weights@{bench.commit}", HF_HUB_OFFLINE=1), "success")
    error = bench.pull("python", "offline", "Org/Weights@v1", HF_HUB_OFFLINE=1)
    has(error, "HF_HUB_OFFLINE is set")
    same(bench.hub.taken(), [])


@step
def hanzod_fetches_nothing_that_the_client_has(bench):
    bench.hub.taken()
    same(bench.pull("python", "online", "Org/Weights"), "success")
    same(bench.asked(), [])
    same(bench.held("online"), hashes(bench.weights, TAKEN))
    same(bench.python("python", "snapshot", "Org/Weights", "main", HF_HUB_OFFLINE=1), hashes(bench.weights))


@step
def the_client_reads_what_hanzod_fetched_offline(bench):
    same(bench.pull("hanzod", "one", "Org/Weights"), "success")
    same(bench.pull("hanzod", "one", "Org/Weights@v1", "--name", "old"), "success")
    same(bench.pull("hanzod", "one", "Org/Weights@refs/pr/1", "--name", "old"), "success")
    bench.hub.taken()
    taken = hashes(bench.weights, TAKEN)
    for revision in ["main", bench.commit]:
        same(bench.python("hanzod", "snapshot", "Org/Weights", revision, HF_HUB_OFFLINE=1), taken)
        same(bench.python("hanzod", "files", "Org/Weights", revision, *TAKEN, HF_HUB_OFFLINE=1), taken)
    old = {**taken, "config.json": sha256(bench.weights["config.json"] + b"\n")}
    for revision in ["v1", "refs/pr/1", bench.old]:
        same(bench.python("hanzod", "snapshot", "Org/Weights", revision, HF_HUB_OFFLINE=1), old)
    same(bench.hub.taken(), [])
    told = bench.python("hanzod", "scan")
    files = {name: [len(bench.weights[name]), etag(bench.weights[name])] for name in TAKEN}
    config = bench.weights["config.json"] + b"\n"
    same(told["warnings"], [])
    same(told["revisions"], {
        f"Org/Weights@{bench.commit}": {"refs": ["main"], "files": files},
        f"Org/Weights@{bench.old}": {"refs": ["refs/pr/1", "v1"], "files": {**files, "config.json": [len(config), etag(config)]}},
    })


@step
def both_leave_the_same_cache(bench):
    for who in ["python", "hanzod"]:
        shutil.rmtree(bench.cache("same-" + who), ignore_errors=True)
    same(bench.pull("same-hanzod", "same", "Org/Weights"), "success")
    bench.python("same-python", "files", "Org/Weights", "main", *TAKEN)
    same(bench.python("same-hanzod", "scan"), bench.python("same-python", "scan"))

    def tree(cache):
        paths = [path for path in bench.cache(cache).rglob("*") if not path.is_dir() and ".locks" not in path.parts]
        return {str(path.relative_to(bench.cache(cache))): os.readlink(path) if path.is_symlink() else sha256(path.read_bytes())
                for path in paths if path.name != "CACHEDIR.TAG"}
    same(tree("same-hanzod"), tree("same-python"))


@step
def the_client_fetches_nothing_that_hanzod_has(bench):
    bench.hub.taken()
    same(bench.python("hanzod", "files", "Org/Weights", "main", *TAKEN), hashes(bench.weights, TAKEN))
    same(bench.asked(), [])
    same(bench.python("hanzod", "snapshot", "Org/Weights", "main"), hashes(bench.weights))
    same(sorted(path.split("/resolve/")[1].split("/", 1)[1] for path in bench.asked()), ["README.md", "sub/notes.txt"])


def shares_blocks(folder):
    """Whether two files of this file system can have the same blocks."""
    with tempfile.TemporaryFile(dir=folder) as one, tempfile.TemporaryFile(dir=folder) as other:
        one.write(bytes(1 << 16))
        one.flush()
        try:
            fcntl.ioctl(other, FICLONE, one.fileno())
        except OSError:
            return False
        return True


@step
def the_disk_holds_it_once(bench):
    # Of shared blocks nothing can be seen from here; links show.
    if not shares_blocks(bench.folder):
        for cache, store in [("hanzod", "one"), ("python", "offline")]:
            for name in TAKEN:
                blob = bench.cache(cache) / "models--Org--Weights" / "blobs" / etag(bench.weights[name])
                assert blob.samefile(bench.store(store) / "blobs" / ("sha256-" + sha256(bench.weights[name]))), (cache, name)
    bench.command("hanzod", "one", "rm", "Org/Weights", "old")
    same([path.name for path in (bench.store("one") / "blobs").iterdir()], [])
    same(bench.python("hanzod", "files", "Org/Weights", "main", *TAKEN, HF_HUB_OFFLINE=1), hashes(bench.weights, TAKEN))


@step
def a_corrupt_file_of_the_cache_is_fetched_anew(bench):
    repository = bench.cache("hanzod") / "models--Org--Weights"
    for name in ["config.json", "tokenizer.json"]:
        blob = repository / "blobs" / etag(bench.weights[name])
        blob.unlink()
        blob.write_bytes(b"x" * len(bench.weights[name]))
    has(bench.pull("hanzod", "healed", "Org/Weights", HF_HUB_OFFLINE=1), "`config.json` is not, or not whole", "HF_HUB_OFFLINE is set")
    bench.hub.taken()
    same(bench.pull("hanzod", "healed", "Org/Weights"), "success")
    fetched = {path.rsplit("/", 1)[1] for path in bench.asked()}
    same(fetched, {"config.json", "tokenizer.json", etag(bench.weights["tokenizer.json"])})
    same(bench.held("healed"), hashes(bench.weights, TAKEN))
    same(bench.python("hanzod", "files", "Org/Weights", "main", *TAKEN, HF_HUB_OFFLINE=1), hashes(bench.weights, TAKEN))


@step
def a_file_that_is_missing_offline_is_named(bench):
    shutil.copytree(bench.cache("python"), bench.cache("partial"), symlinks=True)
    (bench.cache("partial") / "models--Org--Weights" / "blobs" / etag(bench.weights[TAKEN[3]])).unlink()
    bench.hub.taken()
    has(bench.pull("partial", "partial", "Org/Weights", HF_HUB_OFFLINE=1), TAKEN[3], "HF_HUB_OFFLINE is set")
    has(bench.pull("partial", "partial", "Org/None", HF_HUB_OFFLINE=1), "revision `main` is not in its cache", "HF_HUB_OFFLINE is set")
    same(bench.hub.taken(), [])
    same(bench.python("partial", "snapshot", "Org/Weights", "main", HF_HUB_OFFLINE=1)["error"], "IncompleteSnapshotError")
    same(bench.pull("partial", "partial", "Org/Weights"), "success")
    same(bench.python("partial", "snapshot", "Org/Weights", "main", HF_HUB_OFFLINE=1), hashes(bench.weights))


@step
def without_a_hub_the_cache_will_do(bench):
    same(bench.pull("python", "nowhere", "Org/Weights", HF_ENDPOINT="http://127.0.0.1:9"), "success")
    same(bench.held("nowhere"), hashes(bench.weights, TAKEN))
    has(bench.pull("python", "nowhere", "Org/None", HF_ENDPOINT="http://127.0.0.1:9"), "connection refused")


@step
def quantisations_and_parts(bench):
    pull = lambda name, **more: bench.pull("hanzod", "gguf", name, **more)  # noqa: E731
    same(pull("hf.co/Org/Tiny-GGUF:Q8_0", source=None), "success")
    same(bench.held("gguf", "Org/Tiny-GGUF", "Q8_0", "hf.co"), {"": sha256(bench.quants["tiny-Q8_0.gguf"])})
    same(pull("Org/Tiny-GGUF"), "success")
    same(bench.held("gguf", "Org/Tiny-GGUF"), {"": sha256(bench.gguf)})
    same(pull("Org/Tiny-GGUF:q4_0"), "success")
    manifest = json.loads((bench.store("gguf") / "manifests/registry.ollama.ai/Org/Tiny-GGUF/q4_0").read_text())
    parts = [sha256(body) for path, body in bench.quants.items() if "split/" in path]
    same([layer["digest"].removeprefix("sha256:") for layer in manifest["layers"]], parts)
    has(pull("Org/Tiny-GGUF:Q2_K"), "none is Q2_K; there are tiny-Q4_0, tiny-Q4_K_M, tiny-Q8_0")
    names = [name for name in bench.quants if name.endswith(".gguf")]
    same(bench.python("hanzod", "files", "Org/Tiny-GGUF", "main", *names, HF_HUB_OFFLINE=1), hashes(bench.quants, names))
    for name in ["hf.co/Org/Tiny-GGUF:tiny-Q4_K_M.gguf", "hf.co/Org/Tiny-GGUF@main:q8_0"]:
        same(bench.pull("hanzod", "gguf-offline", name, source=None, HF_HUB_OFFLINE=1), "success")


@step
def addresses(bench):
    page = f"{bench.hub.url}/Org/Tiny-GGUF/resolve/main/split/tiny-Q4_0-00002-of-00002.gguf?download=true"
    same(bench.pull("address", "address", page, source=None), "success")
    manifest = json.loads((bench.store("address") / "manifests/registry.ollama.ai/library/tiny-Q4_0/latest").read_text())
    same(len(manifest["layers"]), 2)
    names = [name for name in bench.quants if "split/" in name]
    same(bench.python("address", "files", "Org/Tiny-GGUF", "main", *names, HF_HUB_OFFLINE=1), hashes(bench.quants, names))
    same(bench.pull("address", "address", page, source=None, HF_HUB_OFFLINE=1), "success")


@step
def counterparts(bench):
    same(bench.pull("hanzod", "mlx", "Org/Weights", source="mlx"), "success")
    same(bench.pull("hanzod", "mlx", "Org/Weights:8bit", source="mlx"), "success")
    same(bench.held("mlx", "mlx-community/Weights", "8bit"), hashes(bench.weights, TAKEN))
    told = bench.python("hanzod", "scan")["revisions"]
    same(sorted(name.split("@")[0] for name in told if name.startswith("mlx")),
         ["mlx-community/Weights-4bit", "mlx-community/Weights-8bit"])
    has(bench.pull("hanzod", "mlx", "Org/Weights:6bit", source="mlx"), "none of it in 6bit; there are Weights-4bit, Weights-8bit")


@step
def what_needs_a_token(bench):
    pull = lambda name, **more: bench.pull("token", "token", name, **more)  # noqa: E731
    has(pull("Org/Gated"), f"accept its conditions at {bench.hub.url}/Org/Gated", "HF_TOKEN")
    has(pull("Org/Private"), "no such repository, or it is private: then set HF_TOKEN")
    has(pull("Org/Gated", HF_TOKEN="hf_wrong"), "the token that was sent is not valid")
    has(pull("Org/None", HF_TOKEN=TOKEN), "no such repository")
    has(pull("Org/Weights@v2"), "it has no such revision")
    same(pull("Org/Gated", HF_TOKEN=TOKEN), "success")
    home = bench.folder / "hf-home"
    home.mkdir()
    (home / "token").write_text(TOKEN + "\n")
    same(pull("Org/Private", HF_HOME=home), "success")
    same(pull("Org/Private", HF_TOKEN_PATH=home / "token"), "success")


@step
def the_switch(bench):
    same(bench.pull("off", "off", "Org/Weights", HANZOD_HUB_CACHE="off"), "success")
    assert not bench.cache("off").exists()
    bench.hub.taken()
    same(bench.pull("python", "read", "Org/Weights", HANZOD_HUB_CACHE="read"), "success")
    same(bench.asked(), [])
    has(bench.pull("python", "off", "Org/Weights", HANZOD_HUB_CACHE="off", HF_HUB_OFFLINE=1), "HANZOD_HUB_CACHE leaves its cache out")


def main(hanzod, *names):
    failed = 0
    with Hub() as hub, tempfile.TemporaryDirectory() as folder:
        bench = Bench(hanzod, hub, folder)
        for function in STEPS:
            name = function.__name__.replace("_", " ")
            if names and not any(re.search(wanted, name) for wanted in names):
                continue
            try:
                function(bench)
                print(f"ok      {name}")
            except Exception:
                failed += 1
                print(f"FAILED  {name}\n{traceback.format_exc()}")
    print(f"huggingface_hub {huggingface_hub.__version__}: {failed or 'none'} of {len(STEPS)} steps failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
