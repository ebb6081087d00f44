#!/usr/bin/env python3
"""Draws what the cost model says of exchanges: exchange_model | plot_exchange.py --out pictures

  flat_against_hierarchical.png   seconds over bytes per rank, and which of the two wins over 64 to 4,096 ranks
  overlapped.png                  how much the best number of chunks gains, and which it is
"""
import argparse
import collections
import csv
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (after the backend is chosen)

MIB = 2**20


def read(file):
    """Ranks -> rows of numbers, by bytes per rank."""
    by_ranks = collections.defaultdict(list)
    for row in csv.DictReader(file):
        numbers = {key: float(value) for key, value in row.items()}
        by_ranks[int(numbers["ranks"])].append(numbers)
    if not by_ranks:
        sys.exit("plot_exchange.py: no rows; it reads what exchange_model prints")
    return {ranks: sorted(rows, key=lambda r: r["bytes_per_rank"]) for ranks, rows in sorted(by_ranks.items())}


def crossover(rows):
    """The bytes per rank at which flat begins to win, between two rows on a logarithmic scale; None where it never does."""
    before = None
    for row in rows:
        ratio = row["flat_s"] / row["hierarchical_s"]
        if ratio <= 1:
            if before is None:
                return row["bytes_per_rank"]
            size, was = before
            part = (was - 1) / (was - ratio)
            return size * (row["bytes_per_rank"] / size) ** part
        before = row["bytes_per_rank"], ratio
    return None


def save(figure, out, name):
    figure.tight_layout()
    path = out / name
    figure.savefig(path, dpi=120)
    plt.close(figure)
    print(path)


def size_axis(axes):
    axes.set_xscale("log", base=2)
    axes.set_xlabel("MiB sent per rank")
    axes.grid(alpha=0.3)


def flat_against_hierarchical(by_ranks, out):
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.6))
    shown = [r for r in by_ranks if r in (64, 512, 4096)] or list(by_ranks)
    for i, ranks in enumerate(shown):
        rows = by_ranks[ranks]
        size = [r["bytes_per_rank"] / MIB for r in rows]
        left.plot(size, [r["flat_s"] * 1e3 for r in rows], color=f"C{i}", label=f"flat, {ranks} ranks")
        left.plot(size, [r["hierarchical_s"] * 1e3 for r in rows], color=f"C{i}", linestyle="--",
                  label=f"hierarchical, {ranks} ranks")
    size_axis(left)
    left.set_yscale("log")
    left.set_ylabel("time of one exchange (ms)")
    left.legend(fontsize=8)

    found = [(ranks, size) for ranks, rows in by_ranks.items() if (size := crossover(rows)) is not None]
    sizes = [r["bytes_per_rank"] / MIB for rows in by_ranks.values() for r in rows]
    at, where = [ranks for ranks, _ in found], [size / MIB for _, size in found]
    right.plot(at, where, color="black", marker="o")
    right.fill_between(at, where, max(sizes), alpha=0.2, color="C0", label="flat is faster")
    right.fill_between(at, min(sizes), where, alpha=0.2, color="C1", label="hierarchical is faster")
    right.set_xscale("log", base=2)
    right.set_yscale("log", base=2)
    right.set_xticks(at, [str(ranks) for ranks in at])
    right.set_xlabel("ranks")
    right.set_ylabel("MiB sent per rank")
    right.legend(loc="lower right")
    figure.suptitle("Flat against hierarchical all-to-all by the cost model")
    save(figure, out, "flat_against_hierarchical.png")


def overlapped(by_ranks, out):
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.2))
    for ranks, rows in by_ranks.items():
        size = [r["bytes_per_rank"] / MIB for r in rows]
        left.plot(size, [r["serial_s"] / r["overlapped_s"] for r in rows], label=f"{ranks} ranks")
        right.step(size, [r["chunks"] for r in rows], where="mid", label=f"{ranks} ranks")
    left.set_ylabel("exchange, then compute / overlapped")
    left.axhline(1, color="grey", linewidth=0.8)
    right.set_ylabel("best number of chunks")
    right.set_yscale("log", base=2)
    for axes in (left, right):
        size_axis(axes)
        axes.legend(fontsize=8)
    figure.suptitle("Overlapping the exchange with the experts by the cost model")
    save(figure, out, "overlapped.png")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", nargs="?", type=argparse.FileType("r", encoding="utf-8"), default=sys.stdin,
                        help="what exchange_model printed (default: the standard input)")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("pictures"), help="folder (default: pictures)")
    arguments = parser.parse_args()
    by_ranks = read(arguments.csv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for draw in (flat_against_hierarchical, overlapped):
        draw(by_ranks, arguments.out)


if __name__ == "__main__":
    main()
