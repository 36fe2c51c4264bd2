"""Measures hanzod beside the servers that are found here, in turn, with prompts that none has seen, and reports medians.

    python3 bench.py --hanzod PROGRAM --model GGUF --small GGUF [--embedder GGUF] [--peer NAME=URL ...] [--rounds N] [--out FOLDER]
"""
import argparse
import datetime
import os
import random
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
import measure
import report
import servers


EMBEDDINGS = [("embed_1", 1, 24), ("embed_64", 64, 24), ("embed_256", 256, 24), ("embed_256_short", 256, 6), ("embed_512", 512, 24)]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hanzod", required=True, help="the program")
    parser.add_argument("--model", required=True, help="the GGUF file that every server is given")
    parser.add_argument("--small", required=True, help="a small GGUF file, for the list of 500 models")
    parser.add_argument("--embedder", default="", help="the GGUF file of an embedding model")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=URL", help="a server that runs already; may be repeated")
    parser.add_argument("--rounds", type=int, default=5, help="how often each server is measured (%(default)s)")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of one generation (%(default)s)")
    parser.add_argument("--streams", default="1,4,8,16", help="streams at once (%(default)s)")
    parser.add_argument("--ollama-default", action="store_true", help="Ollama takes as many streams as it does when nobody says")
    parser.add_argument("--seed", type=int, default=random.randrange(2**31), help="the same random prompts again")
    parser.add_argument("--out", default=".", help="where the JSON and the SVG go (%(default)s)")
    return parser.parse_args()


def note(samples, server, found):
    for key, value in found.items():
        if value is not None:
            samples.setdefault(server, {}).setdefault(key, []).append(value)


def try_to(what, server, function, *given):
    """One server's failure is told and does not end the others' measuring."""
    try:
        return function(*given) or {}
    except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
        print(f"  {server}: {what}: {error}", file=sys.stderr)
        return {}


def progress(text):
    print(f"-- {text}", file=sys.stderr, flush=True)


def starts(programs, rounds, folder, samples):
    """Start-up and idle memory, each time from a stopped server with an empty store."""
    for _ in range(rounds):
        for name, program in programs.items():
            server, seconds = servers.start_ollama_like(name, program, os.path.join(folder, "empty"))
            measure.latency(server, "/api/version", 20)
            note(samples, name, {"start": seconds * 1000, "resident_idle": server.resident()})
            server.stop()


def rounds(line, prompts, options, bench, samples):
    """One round after the other, and in each round one server after the other."""
    streams = [int(number) for number in options.streams.split(",")]
    for turn in range(options.rounds):
        for server in line:
            progress(f"round {turn + 1} of {options.rounds}: {server.name}")
            if server.name not in prompts:
                continue
            steps = [("prompt", measure.prompt, server, prompts[server.name]),
                     ("shared prefix", measure.shared_prefix, server, prompts[server.name]),
                     ("second turn", measure.second_turn, server, prompts[server.name])]
            steps += [(f"{count} streams", measure.generate, server, prompts[server.name], count, options.tokens) for count in streams]
            if options.embedder and (isinstance(server, servers.OllamaServer) or server.embeds):
                steps += [("embeddings", measure.embed, server, key, count, length) for key, count, length in EMBEDDINGS]
            if server.answers_version:
                steps.append(("version", lambda server: {"version": measure.latency(server, "/api/version", 100)}, server))
            for what, function, *given in steps:
                note(samples, server.name, try_to(what, server.name, function, *given))
        if bench:
            progress(f"round {turn + 1} of {options.rounds}: llama-bench")
            found = try_to("llama-bench", "llama-bench", lambda: dict(zip(
                ("prompt", "generate_1"), servers.llama_bench(bench, options.model, 512, options.tokens))))
            note(samples, "llama-bench", found)


def main():
    options = arguments()
    random.seed(options.seed)
    machine = report.machine()
    programs = {"hanzod": options.hanzod}
    if ollama := servers.on_path("ollama"):
        programs["ollama"] = ollama
    llama_server, bench = servers.on_path("llama-server"), servers.on_path("llama-bench")
    versions = {name: servers.version(program) for name, program in programs.items()}
    samples, line = {"hanzod": {}}, []
    with tempfile.TemporaryDirectory(prefix="hanzod-bench-", dir=options.out) as folder:
        os.mkdir(os.path.join(folder, "empty"))
        try:
            progress(f"start-up of {', '.join(programs)}")
            starts(programs, options.rounds, folder, samples)
            line += [servers.start_ollama_like(name, program, folder, name == "ollama" and options.ollama_default)[0]
                     for name, program in programs.items()]
            if llama_server:
                line.append(servers.start_llama_server(llama_server, options.model, folder))
            line += [servers.running(*peer.split("=", 1)) for peer in options.peer]
            prompts = {}
            for server in line:
                progress(f"giving {server.name} the model")
                try_to("model", server.name, server.prepare, options.model, options.embedder)
                if server.answers_version or server.program:
                    for _ in range(min(3, options.rounds)):
                        note(samples, server.name, try_to("load", server.name, measure.load, server))
                try_to("first answer", server.name, lambda: prompts.update({server.name: measure.Prompts(server)}))
                note(samples, server.name, {"resident_loaded": server.resident()})
            rounds(line, prompts, options, bench, samples)
            for server in line:
                if server.answers_version and server.process:
                    progress(f"500 models for {server.name}")
                    try_to("models", server.name, measure.many_models, server, options.small)
                    note(samples, server.name, try_to("tags", server.name, lambda: {"tags": measure.latency(server, "/api/tags", 20)}))
        finally:
            for server in line:
                if not server.process:
                    server.clean_up()
                server.stop()
    finish(options, samples, machine, versions)


def finish(options, samples, machine, versions):
    when = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    model = os.path.basename(options.model)
    about = {"title": f"hanzod {versions['hanzod'].split()[-1]}, {model}", "when": when, "machine": machine, "versions": versions,
             "subtitle": f"{machine['cpu']}, {machine['cores']} cores, {options.rounds} rounds, medians, {when[:10]}",
             "model": model, "seed": options.seed, "context": servers.CONTEXT, "parallel": servers.STREAMS, "rounds": options.rounds,
             "tokens": options.tokens}
    path = os.path.join(options.out, "bench-" + when[:19].replace(":", ""))
    report.write_json(path + ".json", samples, about)
    report.write_svg(path + ".svg", samples, about)
    print(f"\n{about['title']}: {about['subtitle']}")
    if machine["load_before"] > 0.5:
        print(f"the machine was not at rest (load {machine['load_before']:.1f}): do not quote these numbers")
    if len(samples) == 1:
        print("no other server was found: put ollama, llama-server or llama-bench on PATH, or name one with --peer NAME=URL")
    print(f"\n{report.table(samples)}\n\n{report.bars(samples)}\n\nwritten: {path}.json, {path}.svg")
    sys.exit(0 if samples["hanzod"].get("generate_1") else 1)


if __name__ == "__main__":
    main()
