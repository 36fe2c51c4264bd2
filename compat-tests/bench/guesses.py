"""Measures what guessing ahead wins: answers that stand in the conversation already, answers that do not, alone and several at once,
with a draft model and without, each beside the same server without guesses, in turn.

    python3 guesses.py --hanzod PROGRAM --model GGUF --draft GGUF --modelfile MODELFILE [--rounds N] [--out FOLDER]

MODEL and DRAFT must be the tiny test model, in any size (heavy.py): what is asked is what that knows.
"""
import argparse
import concurrent.futures
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
import servers

STORY, COUNT = "Tell me a story.", "Count from 1 to 50."
MODES = ["off", "on", "always"]
STREAMS = [1, 2, 4, 8]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hanzod", required=True, help="the program")
    parser.add_argument("--model", required=True, help="the GGUF file that answers")
    parser.add_argument("--draft", required=True, help="the GGUF file that guesses")
    parser.add_argument("--modelfile", required=True, help="the tiny test model's Modelfile, for its template")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (%(default)s)")
    parser.add_argument("--out", default=".", help="where the JSON goes (%(default)s)")
    return parser.parse_args()


class Guesser:
    """A server of its own for each way of guessing, with the model alone and with its draft."""

    def __init__(self, options, mode, folder):
        os.environ |= {"HANZOD_SPECULATIVE": mode, "HANZOD_LOG": "hanzod=debug", "NO_COLOR": "1"}
        self.mode, self.log = mode, os.path.join(folder, mode, "hanzod.log")
        self.server, _ = servers.start_ollama_like("hanzod", options.hanzod, os.path.join(folder, mode))
        with open(options.modelfile) as file:
            template = file.read()
        for name, files in (("alone", f"FROM {options.model}"), ("drafted", f"FROM {options.model}\nDRAFT {options.draft}")):
            path = os.path.join(folder, mode, name)
            with open(path, "w") as file:
                file.write(re.sub(r"^FROM .*", files, template, count=1, flags=re.MULTILINE))
            made = subprocess.run([options.hanzod, "create", name, "-f", path], env=os.environ | {"OLLAMA_HOST": self.server.base},
                                  capture_output=True, text=True)
            if made.returncode != 0:
                raise SystemExit(f"create: {made.stderr or made.stdout}")

    def ask(self, model, messages):
        options = {"num_ctx": servers.CONTEXT, "num_thread": servers.THREADS, "temperature": 0}
        body = {"model": model, "messages": messages, "think": False, "stream": False, "keep_alive": "1h", "options": options}
        status, text = self.server.call("POST", "/api/chat", body)
        if status != 200:
            raise SystemExit(f"{self.mode}: {status} {text!r}")
        return json.loads(text)

    def measure(self, model, messages, streams):
        """(tokens a second of all streams, tokens a pass of one stream, guesses, right ones, what was said)"""
        with open(self.log) as log:
            log.seek(0, os.SEEK_END)
            with concurrent.futures.ThreadPoolExecutor(streams) as pool:
                replies = list(pool.map(lambda _: self.ask(model, messages), range(streams)))
            lines = []
            while len(lines) < streams:  # the line comes when the answer is whole, and may do so after it
                time.sleep(0.02)
                lines += [line for line in log if "an answer is whole" in line]
        count = lambda name: sum(int(re.search(rf"\b{name}=(\d+)", line)[1]) for line in lines)
        tokens = sum(reply["eval_count"] for reply in replies)
        seconds = max(reply["eval_duration"] for reply in replies) / 1e9
        guessed, right = count("guessed_tokens"), count("accepted_tokens")
        return tokens / seconds, tokens / (tokens - right), guessed, right, replies[0]["message"]["content"]


def turn(question, answer):
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def main():
    options = arguments()
    with tempfile.TemporaryDirectory() as folder:
        line = [Guesser(options, mode, folder) for mode in MODES]
        try:
            ask = [{"role": "user", "content": STORY}]
            said = {question: line[0].ask("alone", [{"role": "user", "content": question}])["message"]["content"]
                    for question in (STORY, COUNT)}
            cases = {"new text": ask, "said before": turn(STORY, said[STORY]) + ask, "said before that": turn(STORY, said[STORY]) + turn(COUNT, said[COUNT]) + ask}
            samples = {}
            for round_ in range(options.rounds):
                for model in ("alone", "drafted"):
                    for case, messages in cases.items():
                        for streams in STREAMS:
                            for guesser in line:
                                print(f"-- round {round_ + 1}: {model}, {case}, {streams}, {guesser.mode}", file=sys.stderr, flush=True)
                                found = guesser.measure(model, messages, streams)
                                samples.setdefault((model, case, streams), {}).setdefault(guesser.mode, []).append(found)
        finally:
            for guesser in line:
                guesser.server.stop()
    report(samples)
    with open(os.path.join(options.out, "guesses.json"), "w") as out:
        json.dump([{"model": model, "case": case, "streams": streams, "samples": found} for (model, case, streams), found in samples.items()], out)


def report(samples):
    """A table in Markdown: medians, and the ratio to the server without guesses, round by round."""
    print("| model | text | streams | tokens/s off | on : off | always : off | tokens a pass on | always | right on | always |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for (model, case, streams), found in samples.items():
        if len({sample[4] for mode in MODES for sample in found[mode]}) > 1:
            print(f"-- {model}, {case}, {streams}: guesses changed what is said", file=sys.stderr)
        median = lambda mode, place: statistics.median(sample[place] for sample in found[mode])
        ratio = lambda mode: statistics.median(one[0] / other[0] for one, other in zip(found[mode], found["off"]))
        right = lambda mode: f"{sum(sample[3] for sample in found[mode])} of {sum(sample[2] for sample in found[mode])}"
        print(f"| {model} | {case} | {streams} | {median('off', 0):.1f} | {ratio('on'):.2f} | {ratio('always'):.2f} "
              f"| {median('on', 1):.2f} | {median('always', 1):.2f} | {right('on')} | {right('always')} |")


if __name__ == "__main__":
    main()
