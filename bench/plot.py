#!/usr/bin/env python3
"""Turns the benchmarks' JSON into pictures: plot.py build/bench/bench/*.json --out pictures

  serial_against_batched.png   time and speed-up over the number of experts (dispatch_bench)
  of_dense.png                 layers' rates as fractions of a dense product's (layer_bench)
  policies_<shape>.png         time, drops, imbalance, bytes saved per composition (policies_bench)

Results of the programs for Cuda become pictures of their own, in the folder cuda.
"""
import argparse
import collections
import json
import pathlib
import re

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (after the backend is chosen)

SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}


def read(paths):
    """Space -> its measured rows, each with `key`, its name without Google Benchmark's suffixes, and `seconds`.

    Of repetitions the median counts.
    """
    spaces = collections.defaultdict(dict)
    for path in paths:
        with open(path, encoding="utf-8") as file:
            report = json.load(file)
        rows = spaces[report["context"].get("space", "Host")]
        for row in report["benchmarks"]:
            if row.get("error_occurred") or row.get("aggregate_name", "median") != "median":
                continue
            key = re.sub(r"/(manual_time|iterations:\d+|repeats:\d+|min_time:[\d.]+)", "", row["run_name"])
            if row["run_type"] == "aggregate" or key not in rows:
                rows[key] = row | {"key": key, "seconds": row["real_time"] * SECONDS[row["time_unit"]]}
    return {space: list(rows.values()) for space, rows in spaces.items()}


def save(figure, out, name):
    figure.tight_layout()
    path = out / name
    figure.savefig(path, dpi=120)
    plt.close(figure)
    print(path)


def serial_against_batched(rows, out):
    times = collections.defaultdict(dict)  # (products, dispatcher) -> E -> seconds
    for row in rows:
        match = re.fullmatch(r"dispatch<\w+, (Serial|Batched)Dispatcher(?:<>)?, Products::(\w+)>/E:(\d+)", row["key"])
        if match:
            dispatcher, products, experts = match.groups()
            times[products, dispatcher.lower()][int(experts)] = row["seconds"]
    if not times:
        return
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2))
    colour = {"own": "C0", "blas": "C1"}
    for (products, dispatcher), by_experts in sorted(times.items()):
        experts = sorted(by_experts)
        left.plot(experts, [by_experts[e] * 1e3 for e in experts], marker="o", color=colour[products],
                  linestyle="--" if dispatcher == "serial" else "-", label=f"{dispatcher}, {products} products")
    for products in sorted({p for p, _ in times}):
        serial, batched = times[products, "serial"], times[products, "batched"]
        experts = sorted(serial.keys() & batched.keys())
        right.plot(experts, [serial[e] / batched[e] for e in experts], marker="o", color=colour[products],
                   label=f"{products} products")
    left.set_ylabel("time of forward and backward (ms)")
    left.set_ylim(bottom=0)
    right.set_ylabel("serial time / batched time")
    right.axhline(1, color="grey", linewidth=0.8)
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(experts, [str(e) for e in experts])
        axes.set_xlabel("number of experts E (the sum of the work is the same)")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle("One expert at a time against all experts in one call")
    save(figure, out, "serial_against_batched.png")


def of_dense(rows, out):
    bars = collections.defaultdict(dict)  # what -> shape -> fraction
    for row in rows:
        match = re.fullmatch(r"layer/([^/]+)/(?:(own|blas)|(serial|batched)/given)", row["key"])
        if match and "of_dense" in row:
            shape, products, dispatcher = match.groups()
            what = f"{products} products" if products else dispatcher
            bars[f"forward, {what}"][shape] = row["forward_of_dense"]
            bars[f"forward and backward, {what}"][shape] = row["of_dense"]
    if not bars:
        return
    shapes = list(next(iter(bars.values())))
    figure, axes = plt.subplots(figsize=(10, 4.2))
    width = 0.8 / len(bars)
    for i, (what, by_shape) in enumerate(bars.items()):
        at = [s + (i - (len(bars) - 1) / 2) * width for s in range(len(shapes))]
        axes.bar(at, [by_shape.get(s, 0) for s in shapes], width, label=what)
    axes.set_xticks(range(len(shapes)), shapes)
    axes.set_xlabel("shape (scaled down on Host)")
    axes.set_ylabel("layer FLOP/s / dense product FLOP/s")
    axes.axhline(1, color="grey", linewidth=0.8)
    axes.grid(axis="y", alpha=0.3)
    axes.legend()
    figure.suptitle("Layers against one dense product of as many operations")
    save(figure, out, "of_dense.png")


def policies(rows, out):
    by_shape = collections.defaultdict(list)
    for row in rows:
        parts = row["key"].split("/")
        if parts[0] == "policies" and len(parts) == 6:
            by_shape[parts[5]].append((parts[1:5], row))
    panels = (
        ("time of forward\nand backward (ms)", lambda r: r["seconds"] * 1e3),
        ("dropped\nassignments (%)", lambda r: r["drop_rate"] * 100),
        ("load: largest / mean", lambda r: r["max/mean"]),
        ("saved for\nbackward (MiB)", lambda r: r["saved_bytes"] / 2**20),
    )
    for shape, found in by_shape.items():
        found.sort(key=lambda item: item[0])
        names = [", ".join(parts) for parts, _ in found]
        routers = sorted({parts[0] for parts, _ in found})
        colours = [f"C{routers.index(parts[0])}" for parts, _ in found]
        at = range(len(names))
        figure, axes = plt.subplots(1, len(panels), figsize=(16, 2 + 0.19 * len(names)), sharey=True)
        for panel, (label, value) in zip(axes, panels):
            panel.barh(at, [value(row) for _, row in found], color=colours)
            panel.set_xlabel(label)
            panel.grid(axis="x", alpha=0.3)
        axes[0].set_yticks(at, names, fontsize=7)
        axes[0].set_ylim(len(names) - 0.5, -0.5)
        figure.suptitle(f"Compositions router, capacity, dispatcher, expert on {shape}, scaled down (a colour per router)")
        save(figure, out, f"policies_{shape}.png")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", nargs="+", type=pathlib.Path, help="results of --benchmark_out")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("pictures"), help="folder (default: pictures)")
    arguments = parser.parse_args()
    for space, rows in read(arguments.json).items():
        out = arguments.out / "cuda" if space == "Cuda" else arguments.out
        out.mkdir(parents=True, exist_ok=True)
        for draw in (serial_against_batched, of_dense, policies):
            draw(rows, out)


if __name__ == "__main__":
    main()
