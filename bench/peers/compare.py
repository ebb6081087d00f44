#!/usr/bin/env python3
"""One table of moe and its peers, from one run of both on one GPU: bf16, forward and forward + backward.

    python3 bench/peers/compare.py                                  the named shapes, the peers that torch alone gives
    python3 bench/peers/compare.py --shapes odd,few                 the odd shapes, and few tokens (evaluation alone)
    python3 bench/peers/compare.py --shapes mixtral,qwen3 --extra megablocks,sonicmoe --per-task 150
    python3 bench/peers/compare.py --ours a.json --peers-results b.json     a table of what was measured before

Runs the program layer_bench_cuda, then bench_peers.py, which needs torch and gets every option that is not of this
script. Everybody's rows contain the same: everything after the routing decision, which is given; rows "+ gate" are
the exception. Both sides measure a dense problem of the same FLOPs on cuBLAS in their own process, and "of dense"
is a row's rate over that of its own side. Parameter gradients: everybody overwrites them, but for moe's rows
", adding", which add to them as further micro-batches do.
"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
PROGRAM = HERE.parent.parent / "build" / "bench" / "bench" / "layer_bench_cuda"
NAMED = ("mixtral", "dbrx", "olmoe", "qwen3", "dsv3", "sonic7b")
ODD = ("gpt_oss", "llama4", "experts384", "qwen3_zipf")
FEW = tuple(f"{shape}_t{tokens}" for shape in ("qwen3", "dsv3") for tokens in (1, 8, 64, 512))
SHAPES = NAMED + ODD + FEW
GROUPS = {"named": NAMED, "odd": ODD, "few": FEW, "all": SHAPES}


class Problem(Exception):
    """What keeps the comparison from being made, as a sentence for its reader."""


def run_ours(program, shapes, out):
    if not program.is_file():
        raise Problem(
            f"{program} is not there. Build it with\n"
            "    cmake --preset bench && cmake --build build/bench --target layer_bench_cuda\n"
            "(which needs nvcc), or name it with --program."
        )
    command = [str(program), f"--benchmark_filter=^(dense_bound|layer)/({'|'.join(shapes)})/",
               f"--benchmark_out={out}", "--benchmark_out_format=json"]
    out.unlink(missing_ok=True)
    result = subprocess.run(command, stdout=sys.stderr, check=False)
    if result.returncode != 0:
        raise Problem(f"{program} ended with {result.returncode}; what it printed is above.")
    if not out.is_file():
        raise Problem(f"{program.name} measured nothing (it does so without a GPU), so there is nothing to compare.")


def run_peers(shapes, options, folder):
    if subprocess.run([sys.executable, "-c", "import torch"], stderr=subprocess.DEVNULL, check=False).returncode != 0:
        raise Problem(f"{sys.executable} cannot import torch, which the peers need: run this with a python that can.")
    command = [sys.executable, str(HERE / "bench_peers.py"), "--shapes", ",".join(shapes), *options]
    result = subprocess.run(command, env=os.environ | {"OUT": str(folder)}, stdout=sys.stderr, check=False)
    if result.returncode != 0:
        raise Problem(f"bench_peers.py ended with {result.returncode}; what it printed is above.")


def load(path, key):
    try:
        with open(path, encoding="utf-8") as file:
            report = json.load(file)
    except (OSError, ValueError) as error:
        raise Problem(f"{path} cannot be read as results: {error}") from error
    if key not in report:
        raise Problem(f"{path} has no \"{key}\": it is not what this script reads.")
    return report


def our_rows(report):
    """(shape, contender) -> (forward TFLOP/s, of dense, forward + backward TFLOP/s, of dense), or a sentence.

    None for what a row does not have: backward, and a dense problem, where tokens are few.
    """
    rows = {}
    for row in report["benchmarks"]:
        match = re.match(r"(dense_bound|layer)/([^/]+)(?:/(serial|batched)/(given|gated)(/adding)?)?/",
                         row["name"] + "/")
        if not match or row.get("run_type", "iteration") != "iteration":
            continue
        kind, shape, dispatcher, routing, adding = match.groups()
        if kind == "layer" and dispatcher is None:  # a row of layer_bench, on Host
            continue
        if kind == "dense_bound":
            name, fractions = "dense, moe's process", (1.0, 1.0)
        else:
            name = f"**moe {dispatcher}**" + (" + gate" if routing == "gated" else "") + (", adding" if adding else "")
            fractions = (row.get("forward_of_dense"), row.get("of_dense"))
        if row.get("error_occurred"):
            rows[shape, name] = row.get("error_message", "failed")
        else:
            both = row["FLOP/s"] / 1e12 if "FLOP/s" in row else None
            rows[shape, name] = (row["forward_FLOP/s"] / 1e12, fractions[0], both, fractions[1])
    if not rows:
        raise Problem("The moe side has no row layer/<shape>/...: is it the JSON of layer_bench_cuda?")
    return rows


def peer_rows(report):
    """The same of bench_peers.py's results.json."""
    results = [r for r in report["results"] if r["shape"] != "check" and r["peer"] != "router"]
    dense = {r["shape"]: r for r in results if r["peer"] == "dense_bound" and "error" not in r}
    rows = {}
    for r in results:
        name = "dense, torch's process" if r["peer"] == "dense_bound" else r["peer"]
        if "error" in r:
            rows[r["shape"], name] = r["error"]
            continue
        bound = dense.get(r["shape"])
        of = [r[k] / bound[k] if bound and k in r else None for k in ("fwd_tf", "fb_tf")]
        rows[r["shape"], name] = (r["fwd_tf"], of[0], r.get("fb_tf"), of[1])
    return rows


def wrong_peers(report):
    """Peers whose check against float32 failed: their rates are of something else."""
    limits = {"y": 0.02, "dx": 0.02, "dw1": 0.02, "dw2": 0.02, "ds": 0.05}
    checks = [r for r in report["results"] if r["shape"] == "check" and "error" not in r]
    return sorted(r["peer"] for r in checks if not all(r[k] < limit for k, limit in limits.items()))


def table(ours, theirs):
    """Markdown. Within a shape the dense rows come first, then the fastest forward + backward (or forward)."""
    rows = our_rows(ours) | peer_rows(theirs)
    shapes = [s for s in SHAPES if any(shape == s for shape, _ in rows)]
    shapes += sorted({shape for shape, _ in rows} - set(shapes))
    context = ours.get("context", {})
    lines = [
        f"{context.get('gpu', 'GPU unknown')}, driver {context.get('driver', 'unknown')}, "
        f"CUDA {context.get('cuda_runtime', 'unknown')}, cuBLAS {context.get('cublas', 'unknown')}, "
        f"{context.get('date', 'date unknown')}; peers: {theirs.get('head', '')}",
        "",
        "| shape | who | forward TFLOP/s | of dense | forward + backward TFLOP/s | of dense |",
        "|---|---|---:|---:|---:|---:|",
    ]

    def order(item):
        name, values = item
        if isinstance(values, str):
            return (2, 0, name)
        return (0 if name.startswith("dense") else 1, -(values[0] if values[2] is None else values[2]), name)

    def rate(value):
        return "" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.3g}"

    def fraction(value):
        return "" if value is None else f"{value:.2f}"

    for shape in shapes:
        found = sorted(((name, v) for (s, name), v in rows.items() if s == shape), key=order)
        for name, v in found:
            if isinstance(v, str):
                reason = " ".join(v.split()).replace("|", "/")[:100]
                lines.append(f"| {shape} | {name} | {reason} | | | |")
            else:
                lines.append(f"| {shape} | {name} | {rate(v[0])} | {fraction(v[1])} | {rate(v[2])} | {fraction(v[3])} |")
    wrong = wrong_peers(theirs)
    if wrong:
        lines += ["", "Wrong against float32, so their rates say nothing: " + ", ".join(wrong) + "."]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     allow_abbrev=False)  # --peers is bench_peers.py's
    parser.add_argument("--program", type=pathlib.Path, default=PROGRAM, help=f"layer_bench_cuda (default: {PROGRAM})")
    parser.add_argument("--shapes", default="named",
                        help=f"a comma between them: {', '.join(SHAPES)}, or groups of them: {', '.join(GROUPS)} "
                             "(default: named)")
    parser.add_argument("--ours", type=pathlib.Path, help="JSON of layer_bench_cuda; it is not run then")
    parser.add_argument("--peers-results", type=pathlib.Path, help="results.json of bench_peers.py; it is not run then")
    parser.add_argument("--out", type=pathlib.Path, help="folder that keeps both sides' JSON and the table")
    arguments, peer_options = parser.parse_known_args()
    shapes = [s for name in arguments.shapes.split(",") if name for s in GROUPS.get(name, (name,))]
    try:
        unknown = [s for s in shapes if s not in SHAPES]
        if unknown or not shapes:
            raise Problem(f"--shapes takes {', '.join(SHAPES + tuple(GROUPS))}, not {', '.join(unknown) or 'nothing'}.")
        with tempfile.TemporaryDirectory() as temporary:
            folder = arguments.out or pathlib.Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            ours, theirs = arguments.ours or folder / "moe.json", arguments.peers_results or folder / "results.json"
            if not arguments.ours:
                run_ours(arguments.program, shapes, ours)
            if not arguments.peers_results:
                run_peers(shapes, peer_options, folder)
            text = table(load(ours, "benchmarks"), load(theirs, "results"))
            if arguments.out:
                (folder / "table.md").write_text(text + "\n", encoding="utf-8")
            print(text)
    except Problem as problem:
        sys.exit(f"compare.py: {problem}")


if __name__ == "__main__":
    main()
