"""Measures a pull from nginx on this machine beside `curl | sha256sum`: as fast as it goes, and over a line that is long and narrow.

    python3 pull.py --hanzod PROGRAM [--size MIB] [--rounds N] [--slow-size MIB] [--slow-rounds N] [--out FOLDER]
"""
import argparse
import datetime
import hashlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
import report
import servers

ROUND_TRIP, RATE = 20, 6_250_000  # ms; bytes a second of one connection: 50 Mbit/s
# what: (the bar, of what)
BARS = {"fast": (0.8, "of curl | sha256sum"), "slow": (5.0, "times one stream"), "memory": (64.0, "MB above idle")}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hanzod", required=True, help="the program")
    parser.add_argument("--size", type=int, default=1024, help="MiB of the blob (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (%(default)s)")
    parser.add_argument("--slow-size", type=int, default=256, help="MiB of the blob over the slow line (%(default)s)")
    parser.add_argument("--slow-rounds", type=int, default=3, help="how often each is measured there; 0 leaves it out (%(default)s)")
    parser.add_argument("--out", default=".", help="where the JSON goes (%(default)s)")
    return parser.parse_args()


class Registry:
    """nginx with one model of each size, and a second port that leads to it over a long and narrow line."""

    def __init__(self, folder, sizes):
        self.root, self.blobs = os.path.join(folder, "registry"), {}
        for size in set(sizes):
            self.add(size)
        # The workers of an nginx that root starts are of another user.
        for path, folders, _ in os.walk(folder):
            os.chmod(path, 0o755)
        self.fast, self.far = servers.free_port(), servers.free_port()
        server = f"root {self.root}; location ~ /manifests/ {{ default_type application/vnd.docker.distribution.manifest.v2+json; }}"
        config = (f"daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log; worker_processes 1;\n"
                  "events { worker_connections 256; }\n"
                  f"http {{ access_log off; sendfile on; {self.temporary(folder)}\n"
                  f"server {{ listen 127.0.0.1:{self.fast}; {server} }} }}\n")
        path = os.path.join(folder, "nginx.conf")
        with open(path, "w") as out:
            out.write(config)
        delay = os.path.join(os.path.dirname(os.path.abspath(__file__)), "delay.py")
        self.processes = [subprocess.Popen(["nginx", "-c", path, "-p", folder], stderr=subprocess.DEVNULL),
                          subprocess.Popen([sys.executable, delay, *map(str, (self.far, self.fast, ROUND_TRIP, RATE))])]
        for port in (self.fast, self.far):
            servers.wait_for(f"http://127.0.0.1:{port}", self.manifest(sizes[0]), self.processes[0], os.path.join(folder, "nginx.log"))

    @staticmethod
    def temporary(folder):
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        return " ".join(f"{kind}_temp_path {folder}/nginx-{kind};" for kind in kinds)

    @staticmethod
    def manifest(size):
        return f"/v2/library/bench-{size}/manifests/latest"

    def add(self, size):
        base = os.path.join(self.root, "v2", "library", f"bench-{size}")
        os.makedirs(os.path.join(base, "blobs"))
        os.makedirs(os.path.join(base, "manifests"))
        layers = [self.blob(base, (os.urandom(1 << 20) for _ in range(size))), self.blob(base, [b"{}"])]
        kinds = ("application/vnd.ollama.image.model", "application/vnd.docker.container.image.v1+json")
        layer, config = ({"mediaType": kind, "digest": digest, "size": length} for kind, (digest, length) in zip(kinds, layers))
        manifest = {"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json", "config": config, "layers": [layer]}
        with open(os.path.join(base, "manifests", "latest"), "w") as out:
            json.dump(manifest, out)
        self.blobs[size] = layer["digest"]

    @staticmethod
    def blob(base, pieces):
        path, digest, length = os.path.join(base, "blobs", "new"), hashlib.sha256(), 0
        with open(path, "wb") as out:
            for piece in pieces:
                out.write(piece)
                digest.update(piece)
                length += len(piece)
        name = "sha256:" + digest.hexdigest()
        os.rename(path, os.path.join(base, "blobs", name))
        return name, length

    def url(self, port, size):
        return f"http://127.0.0.1:{port}/v2/library/bench-{size}/blobs/{self.blobs[size]}"

    def stop(self):
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
            process.wait()


def timed(work):
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def curl(url, digest, keep=""):
    """Seconds of `curl | sha256sum`; with `keep` what comes is written there and synced too."""
    line = f"curl -sSf {url} | tee {keep} | sha256sum && sync {keep}" if keep else f"curl -sSf {url} | sha256sum"

    def work():
        found = subprocess.run(["bash", "-o", "pipefail", "-c", line], check=True, capture_output=True, text=True).stdout
        if found.split()[0] != digest.removeprefix("sha256:"):
            raise RuntimeError("curl brought other bytes")
    seconds = timed(work)
    if keep:
        os.remove(keep)
    return seconds


class Memory:
    """The most that a server has resident while this lasts."""

    def __init__(self, server):
        self.server, self.most, self.ended = server, 0, threading.Event()

    def __enter__(self):
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def watch(self):
        while not self.ended.wait(0.05):
            with open(f"/proc/{self.server.process.pid}/status") as status:
                now = next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024
            self.most = max(self.most, now)

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()


def pull(server, port, size):
    """Seconds of a pull, and the MB that the server has gained meanwhile. The model goes again."""
    model, idle = f"127.0.0.1:{port}/library/bench-{size}", server.resident()

    def work():
        status, text = server.call("POST", "/api/pull", {"model": model, "insecure": True, "stream": False})
        if status != 200 or json.loads(text).get("status") != "success":
            raise RuntimeError(f"pull: {status} {text[:300]!r}")
    with Memory(server) as memory:
        seconds = timed(work)
    server.call("DELETE", "/api/delete", {"model": model})
    return seconds, memory.most - idle


def measure(options, registry, stores, samples):
    def note(key, value):
        samples.setdefault(key, []).append(value)

    for turn in range(options.rounds):
        for where, (server, folder) in stores.items():
            print(f"-- round {turn + 1} of {options.rounds}: {where}", file=sys.stderr, flush=True)
            url, digest = registry.url(registry.fast, options.size), registry.blobs[options.size]
            note("curl", curl(url, digest))
            note(f"curl, kept, {where}", curl(url, digest, os.path.join(folder, "kept")))
            seconds, gained = pull(server, registry.fast, options.size)
            note(f"hanzod, {where}", seconds)
            note("memory", gained)
    server, _ = next(iter(stores.values()))
    for turn in range(options.slow_rounds):
        print(f"-- round {turn + 1} of {options.slow_rounds}: slow line", file=sys.stderr, flush=True)
        note("curl, slow line", curl(registry.url(registry.far, options.slow_size), registry.blobs[options.slow_size]))
        seconds, gained = pull(server, registry.far, options.slow_size)
        note("hanzod, slow line", seconds)
        note("memory", gained)


def table(options, medians):
    """One line for each figure that has a bar, and one for what it is to be read beside."""
    lines = []

    def line(what, size, ours, theirs, bar=None):
        if ours in medians and theirs in medians:
            ratio = medians[theirs] / medians[ours]
            verdict = f"{ratio:.2f}" + (f"  bar {bar:g}: {'met' if ratio >= bar else 'missed'}" if bar else "")
            lines.append(f"{what:44}{size / medians[ours]:9.0f}{size / medians[theirs]:9.0f}   {verdict}")
    lines.append(f"{'MiB/s':44}{'hanzod':>9}{'curl':>9}   hanzod : curl")
    for where in ("in memory", "on the disk"):
        ours, bar = f"hanzod, store {where}", BARS["fast"][0]
        line(f"as fast as it goes, store {where}", options.size, ours, "curl", bar)
        line(f"  beside curl that keeps the file {where}", options.size, ours, f"curl, kept, store {where}")
    line(f"{ROUND_TRIP} ms, {RATE * 8 // 10**6} Mbit/s a connection", options.slow_size, "hanzod, slow line", "curl, slow line", BARS["slow"][0])
    most, bar = medians["most memory"], BARS["memory"][0]
    lines.append(f"memory above idle, the most: {most:.0f} MB (bar {bar:g}: {'met' if most < bar else 'missed'})")
    return "\n".join(lines)


def main():
    options = arguments()
    samples, machine, processes = {}, report.machine(), []
    folders = {"store on the disk": options.out}
    if shutil.disk_usage("/dev/shm").free > 4 * (options.size << 20):
        folders = {"store in memory": "/dev/shm", **folders}
    folders = {where: tempfile.mkdtemp(prefix="hanzod-bench-pull-", dir=folder) for where, folder in folders.items()}
    try:
        print("-- making the blobs", file=sys.stderr, flush=True)
        registry = Registry(next(iter(folders.values())), [options.size, options.slow_size])
        processes.append(registry)
        stores = {}
        for where, folder in folders.items():
            stores[where] = servers.start_ollama_like("hanzod", options.hanzod, folder)[0], folder
            processes.append(stores[where][0])
        measure(options, registry, stores, samples)
    finally:
        for process in processes:
            process.stop()
        for folder in folders.values():
            shutil.rmtree(folder, ignore_errors=True)
    medians = {key: statistics.median(values) for key, values in samples.items()} | {"most memory": max(samples["memory"])}
    when = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    version = servers.version(options.hanzod)
    path = os.path.join(options.out, "bench-pull-" + when[:19].replace(":", "") + ".json")
    about = {"title": f"hanzod {version.split()[-1]}, pull", "when": when, "machine": machine, "versions": {"hanzod": version},
             "size_mib": options.size, "slow_size_mib": options.slow_size, "round_trip_ms": ROUND_TRIP, "bytes_a_second": RATE, "bars": BARS}
    with open(path, "w") as out:
        json.dump({**about, "samples": samples, "medians": medians}, out, indent=1)
        out.write("\n")
    print(f"\n{about['title']}: {machine['cpu']}, {machine['cores']} cores, {options.rounds} rounds, medians, {when[:10]}")
    if machine["load_before"] > 0.5:
        print(f"the machine was not at rest (load {machine['load_before']:.1f}): do not quote these numbers")
    print(f"\n{table(options, medians)}\n\nwritten: {path}")


if __name__ == "__main__":
    main()
