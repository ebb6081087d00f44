#!/usr/bin/env python3
"""expert_parallel.py on made-up results of both sides."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import textwrap
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).parent))
import expert_parallel  # noqa: E402  (after its folder is known)

SCRIPT = pathlib.Path(expert_parallel.__file__)
CONTEXT = {"gpu": "Some GPU", "driver": "1.2.3", "cuda_runtime": "13.0", "date": "today"}


def row(name, ms, label="", **counters):
    return {"name": f"{name}/iterations:1/manual_time", "run_type": "iteration", "real_time": ms, "time_unit": "ms",
            "label": label, **counters}


def failed(name, message):
    return {"name": f"{name}/iterations:1/manual_time", "run_type": "iteration", "error_occurred": True,
            "error_message": message}


def layer(name, forward, both, label="4 ranks, a GPU each"):
    return row(name, both, label, **{
        "forward_s": forward / 1e3, "forward_FLOP/s": 4e14, "FLOP/s": 5e14, "efficiency": 0.5, "forward_efficiency": 0.25,
        "communication_s": 3e-3, "forward_communication_s": 1e-3, "overlap": float("nan")})


OURS = {
    "layers": {"context": CONTEXT, "benchmarks": [
        layer("layer_ep/qwen3/P4/flat/chunks1", 3, 9),
        layer("layer_ep/qwen3/P4/once_per_rank/chunks2", 2, 6),
        layer("layer_ep/qwen3/P2/flat/chunks1", 4, 8, "2 ranks that share GPU 0"),
        failed("layer_ep/mixtral/P4/all_gather/chunks1", "no memory | at all"),
    ]},
    "delay": {"context": CONTEXT, "benchmarks": [
        row("layer_ep_delay/dsv3-64/chunks4", 30, forward_s=10e-3, communication_s=8e-3, forward_communication_s=4e-3,
            unchunked_s=28e-3, forward_unchunked_s=9.5e-3, bound_ratio=1.071, forward_bound_ratio=1.053),
        row("layer_ep_delay/dsv3-64/chunks8", 33, forward_s=10e-3, communication_s=8e-3, forward_communication_s=4e-3,
            unchunked_s=28e-3, forward_unchunked_s=9.5e-3, bound_ratio=1.179, forward_bound_ratio=1.053),
    ]},
    "alone": {"context": CONTEXT, "benchmarks": [
        row("layer_ep_alone/mixtral/self", 28, forward_s=9e-3, batched_s=28e-3, batched_forward_s=9e-3, ratio=1.0,
            forward_ratio=1.0),
    ]},
    "comm": {"context": CONTEXT, "benchmarks": [
        row("comm/P4/flat/4096", 0.025, "4 ranks, a GPU each", **{"bytes/s": 1e9}),
        row("comm/P4/flat/16777216", 0.5, "4 ranks, a GPU each", **{"bytes/s": 2e11}),
        failed("comm/P4/window/4096", "no peer access"),
    ]},
}
PEERS = {
    "head": "peers' head",
    "shapes": {"qwen3": [1000, 1000, 1000, 8, 2]},
    "results": [
        {"W": 4, "kind": "check", "shape": None, "variant": "plain", "y": 0.01, "dx": 0.01, "dw1": 0.01, "dw2": 0.01, "ds": 0.04},
        {"W": 4, "kind": "check", "shape": None, "variant": "chunked2", "y": 0.5, "dx": 0.01, "dw1": 0.01, "dw2": 0.01, "ds": 0.0},
        {"W": 4, "kind": "bounds", "shape": "qwen3", "variant": None, "cf": 1.5, "cfb": 3.0, "agf": 0.5, "agfb": 1.0},
        {"W": 4, "kind": "time", "shape": "qwen3", "variant": "plain", "f": 2.0, "fb": 7.0},
        {"W": 4, "kind": "time", "shape": "qwen3", "variant": "allgather", "f": 2.0, "fb": 7.5},
        {"W": 4, "kind": "time", "shape": "qwen3", "variant": "chunked2", "error": "out of time"},
    ],
}


class Report(unittest.TestCase):
    def setUp(self):
        self.lines = expert_parallel.report_text(OURS, PEERS).splitlines()

    def table(self, heading):
        """Rows of the table below a line that begins so."""
        at = next(i for i, line in enumerate(self.lines) if line.startswith(heading)) + 4
        return self.lines[at : next((i for i in range(at, len(self.lines)) if not self.lines[i]), None)]

    def test_head(self):
        self.assertEqual(self.lines[0], "Some GPU, driver 1.2.3, CUDA 13.0, today; peers: peers' head")

    def test_layers(self):
        self.assertEqual(self.table("Layers over ranks"), [
            "| mixtral | 4 | **moe all_gather** | no memory / at all |  |  |  |  |",
            "| qwen3 | 2 | **moe flat** (sharing a GPU) | 4.00 / 8.00 | 400 / 500 | 0.25 / 0.50 | 1.00 / 3.00 |  |",
            "| qwen3 | 4 | **moe once_per_rank**, 2 chunks | 2.00 / 6.00 | 400 / 500 | 0.25 / 0.50 | 1.00 / 3.00 |  |",
            "| qwen3 | 4 | plain | 2.00 / 7.00 | 6 / 5 |  | 1.50 / 3.00 |  |",
            "| qwen3 | 4 | allgather | 2.00 / 7.50 | 6 / 5 |  | 0.50 / 1.00 |  |",
            "| qwen3 | 4 | **moe flat** | 3.00 / 9.00 | 400 / 500 | 0.25 / 0.50 | 1.00 / 3.00 |  |",
            "| qwen3 | 4 | chunked2 | out of time |  |  |  |  |",
        ])
        self.assertIn("Wrong against float32, so their times say nothing: chunked2.", self.lines)

    def test_bars(self):
        self.assertEqual(self.table("One rank of four"), [
            "| dsv3-64 | 4 | 4.00 / 8.00 | 9.50 / 28.00 | 10.00 / 30.00 | 1.053 / 1.071 | yes |",
            "| dsv3-64 | 8 | 4.00 / 8.00 | 9.50 / 28.00 | 10.00 / 33.00 | 1.053 / 1.179 | **no** |",
        ])
        self.assertEqual(self.table("A world of one"),
                         ["| mixtral | self | 9.00 / 28.00 | 9.00 / 28.00 | 1.000 / 1.000 | yes |"])

    def test_comm(self):
        self.assertEqual(self.table("What moves rows"), [
            "| 4 | 4 KiB | 25.0 us, 1 GB/s | failed |",
            "| 4 | 16 MiB | 500.0 us, 200 GB/s |  |",
        ])
        self.assertIn("P = 4, window: no peer access", self.lines)


class CommandLine(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = pathlib.Path(temporary.name)

    def run_script(self, *options, **environment):
        return subprocess.run([sys.executable, "-B", str(SCRIPT), *map(str, options)], capture_output=True, text=True,
                              check=False, env=os.environ | environment)

    def program(self, name, body):
        path = self.folder / name
        path.write_text(f"#!{sys.executable}\nimport json, os, sys\n" + textwrap.dedent(body))
        path.chmod(0o755)

    def test_runs_the_programs(self):
        self.program("layer_ep_cuda", f"""
            options = dict(a[2:].split("=", 1) for a in sys.argv[1:])
            parts = {{"^layer_ep/(qwen3|dbrx)/": "layers", "^layer_ep_alone/(qwen3)/": "alone"}}
            nan = float("nan")
            assert os.environ["MOE_BENCH_RANKS"] == "4", os.environ
            json.dump({OURS!r}[parts[options["benchmark_filter"]]], open(options["benchmark_out"], "w"))
        """)
        result = self.run_script("--programs", self.folder, "--what", "layers,alone", "--ranks", 4, "--shapes",
                                 "qwen3,dbrx", "--out", self.folder / "out")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("| qwen3 | 4 | **moe flat** |", result.stdout)
        self.assertIn("| mixtral | self |", result.stdout)
        self.assertEqual((self.folder / "out" / "report.md").read_text(), result.stdout)

    def test_what_was_measured_before(self):
        for part, report in OURS.items():
            (self.folder / f"{part}.json").write_text(json.dumps(report))
        (self.folder / "peers.json").write_text(json.dumps(PEERS))
        result = self.run_script("--ours", self.folder, "--peers-results", self.folder / "peers.json")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stdout, expert_parallel.report_text(OURS, PEERS) + "\n")

    def expect_sentence(self, sentence, *options):
        result = self.run_script(*options)
        self.assertEqual(result.returncode, 1)
        self.assertIn(sentence, result.stderr)
        self.assertNotIn("Traceback", result.stderr)

    def test_no_program(self):
        self.expect_sentence("is not there. Build it with", "--programs", self.folder)

    def test_no_gpu(self):
        self.program("layer_ep_cuda", "print('skipped: no GPU')")
        self.expect_sentence("measured nothing", "--programs", self.folder)

    def test_program_fails(self):
        self.program("layer_ep_cuda", "sys.exit(3)")
        self.expect_sentence("ended with 3", "--programs", self.folder)

    def test_unknown_shape(self):
        self.expect_sentence("has gpt", "--shapes", "gpt")

    def test_option_without_peers(self):
        self.expect_sentence("no --peers", "--budget", "100")

    def test_nothing_there(self):
        self.expect_sentence("has no results", "--ours", self.folder)


if __name__ == "__main__":
    unittest.main()
