#!/usr/bin/env python3
"""compare.py on made-up results of both sides."""
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
import compare  # noqa: E402  (after its folder is known)

SCRIPT = pathlib.Path(compare.__file__)


def our_row(name, both, forward, **more):
    return {"name": f"{name}/iterations:1/manual_time", "run_type": "iteration", "FLOP/s": both * 1e12,
            "forward_FLOP/s": forward * 1e12, **more}


OURS = {
    "context": {"gpu": "Some GPU", "driver": "1.2.3", "cuda_runtime": "13.0", "cublas": "13.1.0", "date": "today"},
    "benchmarks": [
        our_row("dense_bound/mixtral", 700, 710),
        our_row("layer/mixtral/serial/given", 630, 620, of_dense=0.9, forward_of_dense=0.87),
        our_row("layer/mixtral/batched/given", 350, 360, of_dense=0.5, forward_of_dense=0.51),
        our_row("layer/mixtral/batched/gated", 340, 350, of_dense=0.49, forward_of_dense=0.5),
        our_row("layer/mixtral/batched/given/adding", 330, 360, of_dense=0.47, forward_of_dense=0.51),
        our_row("layer/mixtral/own", 1, 1, of_dense=0.8),  # of layer_bench on Host
        {"name": "layer/qwen3_t8/batched/given/iterations:1/manual_time", "run_type": "iteration",
         "forward_FLOP/s": 4.26e12},  # few tokens: evaluation alone
        {"name": "layer/dsv3/batched/given/iterations:1/manual_time", "run_type": "iteration",
         "error_occurred": True, "error_message": "no memory | at all"},
    ],
}
PEERS = {
    "head": "peers' head",
    "results": [
        {"peer": "gmm_fused", "shape": "check", "y": 0.01, "dx": 0.01, "dw1": 0.01, "dw2": 0.01, "ds": 0.04},
        {"peer": "liger", "shape": "check", "y": 0.01, "dx": 0.5, "dw1": 0.01, "dw2": 0.01, "ds": 0.01},
        {"peer": "dense_bound", "shape": "mixtral", "fwd_tf": 800.0, "fb_tf": 750.0},
        {"peer": "gmm_fused", "shape": "mixtral", "fwd_tf": 600.0, "fb_tf": 645.0},
        {"peer": "liger", "shape": "mixtral", "error": "not run: out of time"},
        {"peer": "gmm_fused", "shape": "olmoe", "fwd_tf": 500.0, "fb_tf": 400.0},
        {"peer": "gmm_fused", "shape": "qwen3_t8", "fwd_tf": 2.0},
        {"peer": "router", "shape": "mixtral", "fwd_ms": 1.0, "fb_ms": 2.0},
    ],
}


class Table(unittest.TestCase):
    def test_rows(self):
        lines = compare.table(OURS, PEERS).splitlines()
        self.assertEqual(lines[0], "Some GPU, driver 1.2.3, CUDA 13.0, cuBLAS 13.1.0, today; peers: peers' head")
        self.assertEqual(lines[4:], [
            "| mixtral | dense, torch's process | 800 | 1.00 | 750 | 1.00 |",
            "| mixtral | dense, moe's process | 710 | 1.00 | 700 | 1.00 |",
            "| mixtral | gmm_fused | 600 | 0.75 | 645 | 0.86 |",
            "| mixtral | **moe serial** | 620 | 0.87 | 630 | 0.90 |",
            "| mixtral | **moe batched** | 360 | 0.51 | 350 | 0.50 |",
            "| mixtral | **moe batched** + gate | 350 | 0.50 | 340 | 0.49 |",
            "| mixtral | **moe batched**, adding | 360 | 0.51 | 330 | 0.47 |",
            "| mixtral | liger | not run: out of time | | | |",
            "| olmoe | gmm_fused | 500 |  | 400 |  |",
            "| dsv3 | **moe batched** | no memory / at all | | | |",
            "| qwen3_t8 | **moe batched** | 4.26 |  |  |  |",
            "| qwen3_t8 | gmm_fused | 2 |  |  |  |",
            "",
            "Wrong against float32, so their rates say nothing: liger.",
        ])

    def test_results_of_host_are_refused(self):
        with self.assertRaisesRegex(compare.Problem, "layer_bench_cuda"):
            compare.table({"benchmarks": [our_row("layer/mixtral/own", 1, 1)]}, PEERS)


class CommandLine(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = pathlib.Path(temporary.name)
        self.peers = self.folder / "peers.json"
        self.peers.write_text(json.dumps(PEERS))

    def run_script(self, *options, **environment):
        return subprocess.run([sys.executable, "-B", str(SCRIPT), *map(str, options)], capture_output=True, text=True,
                              check=False, env=os.environ | environment)

    def program(self, body):
        """A stand-in for layer_bench_cuda."""
        path = self.folder / "program"
        path.write_text(f"#!{sys.executable}\nimport json, sys\n" + textwrap.dedent(body))
        path.chmod(0o755)
        return path

    def test_runs_the_program(self):
        program = self.program(f"""
            options = dict(a[2:].split("=", 1) for a in sys.argv[1:])
            assert options["benchmark_filter"] == "^(dense_bound|layer)/(mixtral)/", options
            json.dump({OURS!r}, open(options["benchmark_out"], "w"))
        """)
        result = self.run_script("--program", program, "--peers-results", self.peers, "--shapes", "mixtral",
                                 "--out", self.folder / "out")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("| mixtral | **moe serial** | 620 | 0.87 | 630 | 0.90 |", result.stdout)
        self.assertEqual((self.folder / "out" / "table.md").read_text(), result.stdout)

    def test_groups_of_shapes(self):
        program = self.program(f"""
            options = dict(a[2:].split("=", 1) for a in sys.argv[1:])
            shapes = options["benchmark_filter"].removeprefix("^(dense_bound|layer)/(").removesuffix(")/").split("|")
            assert shapes[:2] == ["mixtral", "gpt_oss"] and len(shapes) == 5 and "qwen3_zipf" in shapes, shapes
            json.dump({OURS!r}, open(options["benchmark_out"], "w"))
        """)
        result = self.run_script("--program", program, "--peers-results", self.peers, "--shapes", "mixtral,odd")
        self.assertEqual(result.returncode, 0, result.stderr)

    def expect_sentence(self, sentence, *options, **environment):
        result = self.run_script(*options, **environment)
        self.assertEqual(result.returncode, 1)
        self.assertIn(sentence, result.stderr)
        self.assertNotIn("Traceback", result.stderr)

    def test_no_program(self):
        self.expect_sentence("is not there. Build it with", "--program", self.folder / "absent")

    def test_no_gpu(self):
        self.expect_sentence("measured nothing", "--program", self.program("print('skipped: no GPU')"))

    def test_program_fails(self):
        self.expect_sentence("ended with 3", "--program", self.program("sys.exit(3)"))

    def test_no_torch(self):
        ours = self.folder / "ours.json"
        ours.write_text(json.dumps(OURS))
        (self.folder / "torch.py").write_text("raise ImportError")
        self.expect_sentence("cannot import torch", "--ours", ours, "--extra", "tutel", PYTHONPATH=str(self.folder))

    def test_unknown_shape(self):
        self.expect_sentence("not gpt", "--shapes", "gpt")

    def test_unreadable_results(self):
        self.expect_sentence('has no "benchmarks"', "--ours", self.peers, "--peers-results", self.peers)


if __name__ == "__main__":
    unittest.main()
