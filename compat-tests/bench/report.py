"""The results as a table, as JSON and as a picture."""
import html
import json
import os
import platform
import statistics

from measure import BARS, METRICS

COLOURS = ["#2a6fdb", "#d9822b", "#3d9a57", "#8a5bc7", "#b8433b", "#5b6670"]


def machine():
    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    memory = next(int(line.split()[1]) for line in open("/proc/meminfo") if line.startswith("MemTotal")) // 1024 ** 2
    return {"cpu": cpu, "cores": os.cpu_count(), "memory_gib": memory, "kernel": platform.release(), "load_before": os.getloadavg()[0]}


def medians(samples):
    """{server: {metric: [numbers]}} → {metric: {server: median}}, in the order of METRICS."""
    table = {}
    for key in METRICS:
        row = {name: statistics.median(values[key]) for name, values in samples.items() if values.get(key)}
        if row:
            table[key] = row
    return table


def number(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(samples, ours="hanzod"):
    """Medians, and how many times better ours is than each other (above 1: better, whichever way the metric counts)."""
    names = list(samples)
    others = [name for name in names if name != ours]
    heads = ["", "unit", *names, *[f"{ours} : {name}" for name in others]]
    rows = []
    for key, row in medians(samples).items():
        label, unit, more = METRICS[key]
        ratios = []
        for name in others:
            ratio = row[ours] / row[name] if ours in row and row.get(name) else None
            ratios.append("" if not ratio else f"{ratio if more else 1 / ratio:.2f}")
        rows.append([label, unit, *[number(row[name]) if name in row else "-" for name in names], *ratios])
    widths = [max(len(line[column]) for line in [heads, *rows]) for column in range(len(heads))]
    form = lambda line: "  ".join(cell.ljust(width) if column < 2 else cell.rjust(width)
                                  for column, (cell, width) in enumerate(zip(line, widths))).rstrip()
    return "\n".join(form(line) for line in [heads, *rows])


def bars(samples, ours="hanzod"):
    """What is to hold, and whether it does: how many times as good ours is, of those that were measured."""
    rows, lines = medians(samples), []
    for key, against, least in BARS:
        label, _, more = METRICS[key]
        own = rows.get(key, {}).get(ours)
        other = rows[against].get(ours) if against in rows else rows.get(key, {}).get(against)
        if own and other:
            ratio = own / other if more else other / own
            name = METRICS[against][0] if against in METRICS else against
            lines.append(f"{'holds' if ratio >= least else 'FAILS'}  {label} : {name}  {ratio:.2f}, to be {least:.2f} at least")
    return "\n".join(lines) or "no bar could be held against anything"


def write_json(path, samples, about):
    with open(path, "w") as out:
        json.dump({**about, "samples": samples, "medians": medians(samples)}, out, indent=1)
        out.write("\n")


def write_svg(path, samples, about):
    """One group of bars a metric, each as long as its share of the longest; the numbers stand beside them."""
    names, rows = list(samples), medians(samples)
    colour = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(names)}
    left, wide, bar, gap = 270, 420, 16, 14
    height = 90 + sum(bar * len(row) + gap for row in rows.values())
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="820" height="{height}" font-family="sans-serif" font-size="12">',
             '<rect width="100%" height="100%" fill="#fff"/>',
             f'<text x="16" y="24" font-size="15">{html.escape(about["title"])}</text>',
             f'<text x="16" y="42" fill="#555">{html.escape(about["subtitle"])}; ↓ less is better</text>']
    for index, name in enumerate(names):
        parts.append(f'<rect x="{16 + index * 130}" y="54" width="11" height="11" fill="{colour[name]}"/>'
                     f'<text x="{32 + index * 130}" y="64">{html.escape(name)}</text>')
    top = 84
    for key, row in rows.items():
        label, unit, more = METRICS[key]
        parts.append(f'<text x="16" y="{top + 11}">{html.escape(label)}{"" if more else " ↓"}</text>')
        longest = max(row.values()) or 1
        for name in names:
            if name in row:
                width = max(1, wide * row[name] / longest)
                value = f"{number(row[name])} {unit}"
                parts.append(f'<rect x="{left}" y="{top}" width="{width:.1f}" height="{bar - 3}" fill="{colour[name]}"/>'
                             f'<text x="{left + width + 6:.1f}" y="{top + 11}" fill="#333" font-size="11">{value}</text>')
                top += bar
        top += gap
    with open(path, "w") as out:
        out.write("\n".join([*parts, "</svg>", ""]))
