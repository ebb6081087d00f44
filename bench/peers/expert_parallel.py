#!/usr/bin/env python3
"""One report of moe's layers over ranks, what moves their rows, and the peers, from one run on the GPUs that there are.

    python3 bench/peers/expert_parallel.py                                       all of moe's rows
    python3 bench/peers/expert_parallel.py --ranks 4 --shapes qwen3,dsv3-64 --peers bench/peers/bench_peers_ep.py
    python3 bench/peers/expert_parallel.py --what delay,alone                    what one GPU is enough for
    python3 bench/peers/expert_parallel.py --ours folder --peers-results ep_results.json    a report of what was measured

Runs the programs layer_ep_cuda and comm_cuda, then bench_peers_ep.py where --peers names it, which needs torch and a GPU
for each rank, and gets every option that is not of this script. Everybody's rows contain the same: everything after the
routing decision, which is given; bf16; per pass the slowest rank, then the median. Parameter gradients: moe adds to them
(+=), the peers write them. With fewer GPUs than ranks, moe's ranks share one and their rows say so: such a row shows
that all runs, not how fast it is.
"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

from compare import Problem, load

HERE = pathlib.Path(__file__).resolve().parent
PROGRAMS = HERE.parent.parent / "build" / "bench" / "bench"
SHAPES = ("mixtral", "dbrx", "dsv3-64", "olmoe", "qwen3", "qwen3-32k")
PARTS = {  # name: (program, first part of its rows' names, the shapes that it has)
    "layers": ("layer_ep_cuda", "layer_ep", SHAPES),
    "delay": ("layer_ep_cuda", "layer_ep_delay", ("dsv3-64", "olmoe", "qwen3", "qwen3-32k")),
    "alone": ("layer_ep_cuda", "layer_ep_alone", ("mixtral", "qwen3")),
    "comm": ("comm_cuda", "comm", None),
}
MOST_RATIO = {"delay": 1.15, "alone": 1.02}  # what a row is to stay at or below


def run_ours(folder, programs, part, shapes, ranks):
    name, prefix, known = PARTS[part]
    program = programs / name
    if not program.is_file():
        raise Problem(
            f"{program} is not there. Build it with\n"
            "    cmake --preset bench -DMOE_NCCL=AUTO && cmake --build build/bench --target layer_ep_cuda comm_cuda\n"
            "(which needs nvcc), or name its folder with --programs."
        )
    out = folder / f"{part}.json"
    out.unlink(missing_ok=True)
    rows = f"^{prefix}/"
    if known is not None:
        shapes = [s for s in shapes if s in known]
        if not shapes:
            return  # nothing of this part is asked for
        rows += f"({'|'.join(shapes)})/"
    environment = os.environ | {"NCCL_NVLS_ENABLE": "0"}
    if ranks:
        environment["MOE_BENCH_RANKS"] = ",".join(map(str, ranks))
    command = [str(program), f"--benchmark_filter={rows}", f"--benchmark_out={out}", "--benchmark_out_format=json"]
    result = subprocess.run(command, env=environment, stdout=sys.stderr, check=False)
    if result.returncode != 0:
        raise Problem(f"{program} ended with {result.returncode}; what it printed is above.")
    if not out.is_file():
        raise Problem(f"{name} measured nothing (it does so without a GPU), so there is nothing to report.")


def run_peers(script, worlds, shapes, options, folder):
    if not script.is_file():
        raise Problem(f"{script} is not there: --peers takes the path of bench_peers_ep.py.")
    if subprocess.run([sys.executable, "-c", "import torch"], stderr=subprocess.DEVNULL, check=False).returncode != 0:
        raise Problem(f"{sys.executable} cannot import torch, which the peers need: run this with a python that can.")
    command = [sys.executable, str(script), "--ws", ",".join(map(str, worlds)), "--shapes", ",".join(shapes), *options]
    result = subprocess.run(command, env=os.environ | {"OUT": str(folder)}, stdout=sys.stderr, check=False)
    if result.returncode != 0:
        raise Problem(f"{script.name} ended with {result.returncode}; what it printed is above.")


def gpus():
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], check=True, capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return 0
    return sum(line.startswith("GPU ") for line in listed.splitlines())


def benchmarks(report, prefix):
    """(the rest of each row's name, the row, its error or None)."""
    for row in report["benchmarks"]:
        name = re.sub(r"/iterations:.*|/manual_time.*", "", row["name"])
        if name.startswith(prefix + "/") and row.get("run_type", "iteration") == "iteration":
            error = row.get("error_message", "failed") if row.get("error_occurred") else None
            yield name[len(prefix) + 1 :].split("/"), row, error


def number(value, digits=2):
    return "" if value is None or value != value else f"{value:.{digits}f}"


def pair(a, b, digits=2):
    return f"{number(a, digits)} / {number(b, digits)}" if a is not None and b is not None else ""


def markdown(head, rows, names=1):
    rule = ["---" if i < names else "---:" for i in range(len(head))]
    return ["| " + " | ".join(line) + " |" for line in (head, rule, *rows)]


def failure(start, reason, columns):
    return [*start, " ".join(str(reason).split()).replace("|", "/")[:100], *[""] * (columns - len(start) - 1)]


def layer_rows(report):
    """(shape, P) -> rows, each (order, cells): forward + backward ms, then who, ms, TFLOP/s and the rest."""
    rows = {}
    for (shape, world, exchange, chunks), row, error in benchmarks(report, "layer_ep"):
        many = chunks.removeprefix("chunks")
        who = f"**moe {exchange}**" + ("" if many == "1" else f", {many} chunks")
        if "share" in row.get("label", ""):
            who += " (sharing a GPU)"
        key = shape, int(world[1:])
        if error:
            rows.setdefault(key, []).append((float("inf"), (who, error)))
            continue
        rows.setdefault(key, []).append((row["real_time"], (
            who, pair(1e3 * row["forward_s"], row["real_time"]), pair(row["forward_FLOP/s"] / 1e12, row["FLOP/s"] / 1e12, 0),
            pair(row.get("forward_efficiency"), row.get("efficiency")),
            pair(1e3 * row["forward_communication_s"], 1e3 * row["communication_s"]), number(row.get("overlap")))))
    return rows


def peer_rows(report):
    """The same of bench_peers_ep.py's results; its communication is the exchanges alone."""
    bounds = {(r["shape"], r["W"]): r for r in report["results"] if r["kind"] == "bounds" and "error" not in r}
    rows = {}
    for r in report["results"]:
        if r["kind"] != "time":
            continue
        key = r["shape"], r["W"]
        if "error" in r:
            rows.setdefault(key, []).append((float("inf"), (r["variant"], r["error"])))
            continue
        tokens, hidden, ffn, _, choices = report["shapes"][r["shape"]]
        flops = 6.0 * tokens * choices * hidden * ffn
        bound = bounds.get(key, {})
        names = ("agf", "agfb") if r["variant"].startswith("allgather") else ("cf", "cfb")
        rows.setdefault(key, []).append((r["fb"], (
            r["variant"], pair(r["f"], r["fb"]), pair(flops / r["f"] / 1e9, 3 * flops / r["fb"] / 1e9, 0), "",
            pair(bound.get(names[0]), bound.get(names[1])), "")))
    return rows


def wrong_peers(report):
    """Variants whose check against float32 failed: their times are of something else."""
    limits = {"y": 0.02, "dx": 0.02, "dw1": 0.02, "dw2": 0.02, "ds": 0.05}
    checks = [r for r in report["results"] if r["kind"] == "check" and "error" not in r]
    return sorted({r["variant"] for r in checks if not all(r[k] < limit for k, limit in limits.items())})


def layers_table(ours, theirs):
    rows = layer_rows(ours) if ours else {}
    for key, more in (peer_rows(theirs) if theirs else {}).items():
        rows.setdefault(key, []).extend(more)
    head = ("shape", "ranks", "who", "ms, forward / + backward", "TFLOP/s per GPU", "efficiency", "communication ms", "overlap")
    known = [s for s in SHAPES if any(shape == s for shape, _ in rows)]
    lines = []
    for shape, P in sorted(rows, key=lambda k: (known.index(k[0]) if k[0] in known else len(known), k)):
        for _, cells in sorted(rows[shape, P], key=lambda r: (r[0], r[1])):
            start = [shape, str(P), cells[0]]
            lines.append(failure(start, cells[1], len(head)) if len(cells) == 2 else [*start, *cells[1:]])
    text = ["Layers over ranks, the fastest forward + backward first. Efficiency: the time of one rank alone with its share "
            "of the experts and as many rows, over this time. Communication and overlap of moe are those of a run with a "
            "profiler, the wait for other ranks included; a peer's communication is its exchanges alone.", "", *markdown(head, lines, 3)]
    wrong = wrong_peers(theirs) if theirs else []
    if wrong:
        text += ["", "Wrong against float32, so their times say nothing: " + ", ".join(wrong) + "."]
    return text


def verdict(ratios, most):
    return "yes" if all(r <= most for r in ratios) else "**no**"


def delay_table(report):
    most = MOST_RATIO["delay"]
    head = ("shape", "chunks", "communication ms", "unchunked ms", "overlapped ms", "over the larger", f"at most {most}")
    lines = []
    for (shape, chunks), row, error in benchmarks(report, "layer_ep_delay"):
        start = [shape, chunks.removeprefix("chunks")]
        if error:
            lines.append(failure(start, error, len(head)))
            continue
        ratios = row["forward_bound_ratio"], row["bound_ratio"]
        lines.append([*start, pair(1e3 * row["forward_communication_s"], 1e3 * row["communication_s"]),
                      pair(1e3 * row["forward_unchunked_s"], 1e3 * row["unchunked_s"]),
                      pair(1e3 * row["forward_s"], row["real_time"]), pair(*ratios, 3), verdict(ratios, most)])
    return ["One rank of four, whose peers' rows are a delay on the device; forward / forward + backward. Unchunked: without the "
            "delay.", "", *markdown(head, lines, 2)]


def alone_table(report):
    most = MOST_RATIO["alone"]
    head = ("shape", "communicator", "BatchedDispatcher ms", "AllToAllDispatcher ms", "ratio", f"at most {most}")
    lines = []
    for (shape, kind), row, error in benchmarks(report, "layer_ep_alone"):
        if error:
            lines.append(failure([shape, kind], error, len(head)))
            continue
        ratios = row["forward_ratio"], row["ratio"]
        lines.append([shape, kind, pair(1e3 * row["batched_forward_s"], 1e3 * row["batched_s"]),
                      pair(1e3 * row["forward_s"], row["real_time"]), pair(*ratios, 3), verdict(ratios, most)])
    return ["A world of one; forward / forward + backward.", "", *markdown(head, lines, 2)]


def size_text(n):
    return f"{n >> 20} MiB" if n >= 1 << 20 else f"{n >> 10} KiB"


def comm_table(report):
    cells, ways, notes = {}, [], set()
    for (world, way, size), row, error in benchmarks(report, "comm"):
        if way not in ways:
            ways.append(way)
        text = "failed" if error else f"{1e3 * row['real_time']:.1f} us, {row['bytes/s'] / 1e9:.0f} GB/s"
        cells[int(world[1:]), int(size), way] = text
        if error:
            notes.add(f"P = {world[1:]}, {way}: {error}")
        elif "share" in row.get("label", ""):
            notes.add(f"P = {world[1:]}: {row['label']}")
    lines = [[str(P), size_text(n), *(cells.get((P, n, way), "") for way in ways)]
             for P, n in sorted({key[:2] for key in cells})]
    return ["What moves rows: bytes are a rank's whole buffer, GB/s what leaves it. gather_scatter moves a buffer twice.", "",
            *markdown(("ranks", "bytes", *ways), lines, 2), *(["", *sorted(notes)] if notes else [])]


def report_text(ours, theirs):
    """ours: part -> its program's JSON."""
    context = next(iter(ours.values()), {}).get("context", {})
    lines = [f"{context.get('gpu', 'GPU unknown')}, driver {context.get('driver', 'unknown')}, "
             f"CUDA {context.get('cuda_runtime', 'unknown')}, {context.get('date', 'date unknown')}"
             + (f"; peers: {theirs.get('head', '')}" if theirs else "")]
    tables = {"delay": delay_table, "alone": alone_table, "comm": comm_table}
    if "layers" in ours or theirs:
        lines += ["", *layers_table(ours.get("layers"), theirs)]
    for part, table in tables.items():
        if part in ours:
            lines += ["", *table(ours[part])]
    return "\n".join(lines)


def listed(text, kind, allowed=None):
    found = [kind(s) for s in text.split(",") if s]
    unknown = [s for s in found if allowed is not None and s not in allowed]
    if unknown or not found:
        raise Problem(f"a list has {', '.join(map(str, unknown)) or 'nothing'}; it takes {', '.join(allowed or ['numbers'])}.")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     allow_abbrev=False)
    parser.add_argument("--programs", type=pathlib.Path, default=PROGRAMS, help=f"their folder (default: {PROGRAMS})")
    parser.add_argument("--what", default=",".join(PARTS), help=f"a comma between them (default: {','.join(PARTS)})")
    parser.add_argument("--ranks", help="numbers of ranks (default: 2, 4 and 8 as far as there are GPUs, at least 2)")
    parser.add_argument("--shapes", default=",".join(SHAPES), help="a comma between them (default: all six)")
    parser.add_argument("--peers", type=pathlib.Path, help="path of bench_peers_ep.py, which is run then")
    parser.add_argument("--ours", type=pathlib.Path, help="folder with moe's JSON; nothing of moe's is run then")
    parser.add_argument("--peers-results", type=pathlib.Path, help="ep_results.json; no peers are run then")
    parser.add_argument("--out", type=pathlib.Path, help="folder that keeps the JSON and the report")
    arguments, peer_options = parser.parse_known_args()
    try:
        if peer_options and not arguments.peers:
            raise Problem(f"{' '.join(peer_options)}: options of the peers, but no --peers.")
        parts = listed(arguments.what, str, list(PARTS))
        shapes = listed(arguments.shapes, str, list(SHAPES))
        ranks = listed(arguments.ranks, int) if arguments.ranks else []
        with tempfile.TemporaryDirectory() as temporary:
            folder = arguments.out or pathlib.Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            if not arguments.ours:
                for part in parts:
                    run_ours(folder, arguments.programs, part, shapes, ranks)
            of_ours = arguments.ours or folder
            ours = {p: load(of_ours / f"{p}.json", "benchmarks") for p in parts if (of_ours / f"{p}.json").is_file()}
            theirs = None
            if arguments.peers_results:
                theirs = load(arguments.peers_results, "results")
            elif arguments.peers:
                worlds = [P for P in ranks or (2, 4, 8) if P <= gpus()]
                if worlds:
                    run_peers(arguments.peers, worlds, shapes, peer_options, folder)
                    theirs = load(folder / "ep_results.json", "results")
                else:
                    print("No peers: each of their ranks needs a GPU of its own.", file=sys.stderr)
            if not ours and not theirs:
                raise Problem(f"{of_ours} has no results: {', '.join(p + '.json' for p in parts)}.")
            text = report_text(ours, theirs)
            if arguments.out:
                (folder / "report.md").write_text(text + "\n", encoding="utf-8")
            print(text)
    except Problem as problem:
        sys.exit(f"expert_parallel.py: {problem}")


if __name__ == "__main__":
    main()
