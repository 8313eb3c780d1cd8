#!/usr/bin/env python3
"""One training step of the in-batch loss: this crate beside other implementations, same run, same machine.

    python3 -m venv .venv-peers && .venv-peers/bin/pip install -r benches/peers/requirements.txt
    .venv-peers/bin/python benches/peers/run.py

On the GPU if there is one, else on the CPU (`--device` decides otherwise). A step is loss, gradient of the users and
gradient of the items, with log q, accidental hits of Zipf ids excluded where the implementation can. Each peer runs in a
process of its own that lives through all rounds; the rounds interleave the peers and turn their order about, so that a
change in the machine's load meets all of them. Before anything is timed, losses and gradients are compared with float64.
Prints tables, and writes json, csv, markdown and svg to benches/records/. Linux only.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles

import numpy as np

import losses
import problem
import report
from problem import Problem

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
OURS = "inbatch"
BASELINE = "eager"
EPSILON = {"f32": 2.0**-23, "f16": 2.0**-10, "bf16": 2.0**-7}
ERRORS = ("loss_error", "d_users_error", "d_items_error")

DEFAULTS = {
    "cpu": {
        "peers": losses.ON_CPU[:2], "dtypes": ["f32"], "dims": [128], "sizes": [2048, 4096, 8192], "rounds": 15,
        "bank_rows": [1024], "bank_columns": [16384, 65536],
    },
    "cuda": {
        "peers": losses.ON_CUDA, "dtypes": ["bf16", "f16", "f32"], "dims": [64, 128, 256], "rounds": 25,
        "sizes": [1024, 4096, 16384, 65536, 262144],
        "bank_rows": [1024, 4096, 16384], "bank_columns": [65536, 262144, 1048576],
    },
}


def main() -> int:
    options = parse_options()
    peers = {OURS: [options.ours] if options.ours else build_ours()} | {name: [sys.executable, HERE / "torch_worker.py", name] for name in options.peers}
    rows, ceilings = [], {}
    for task in tasks(options):
        with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
            problem.write(Path(folder), task, options.seed)
            rows += Comparison(peers, Path(folder), task, options, ceilings).rows()
        print(report.to_markdown(rows[-len(peers):]), flush=True)
    failures = judge(rows)
    record = {"machine": describe(options), "ceilings_tflops": ceilings, "results": rows, "failures": failures}
    if not options.no_record:
        report.save(record, options.records, f"{options.device}-step")
    for failure in failures:
        print("FAIL", failure)
    return 1 if failures else 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], help="the GPU if there is one")
    parser.add_argument("--suites", nargs="+", default=["step", "bank"], choices=["step", "bank"])
    parser.add_argument("--sizes", type=int, nargs="+", help="B = N")
    parser.add_argument("--bank-rows", type=int, nargs="*", help="B of the bank sweep")
    parser.add_argument("--bank-columns", type=int, nargs="*", help="N of the bank sweep")
    parser.add_argument("--dims", type=int, nargs="+")
    parser.add_argument("--dtypes", nargs="+", choices=list(EPSILON))
    parser.add_argument("--peers", nargs="*", choices=losses.NAMES)
    parser.add_argument("--ours", type=Path, help="a built peer_step, where there is no Rust")
    parser.add_argument("--no-exclusion", action="store_true", help="nobody excludes accidental hits")
    parser.add_argument("--check-up-to", type=int, default=1 << 31, help="largest B N that is compared with float64")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scratch", type=Path, help="folder for the inputs")
    parser.add_argument("--records", type=Path, default=ROOT / "benches" / "records")
    parser.add_argument("--no-record", action="store_true", help="print only")
    options = parser.parse_args()
    if options.device is None:
        options.device = "cuda" if gpu() else "cpu"
    for name, value in DEFAULTS[options.device].items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def gpu() -> str:
    return output(sys.executable, "-c", "import torch; print(torch.cuda.get_device_name(), torch.version.cuda)")


def build_ours() -> list:
    """Builds step/ as any user would (release, no machine flags)."""
    command = ["cargo", "build", "--release", "--example", "peer_step", "--message-format", "json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    return [next(m["executable"] for m in reversed(messages) if m.get("target", {}).get("name") == "peer_step")]


def tasks(options: argparse.Namespace) -> list[Problem]:
    shapes = []
    if "step" in options.suites:
        shapes += [("step", size, size) for size in options.sizes]
    if "bank" in options.suites:
        shapes += [("bank", b, n) for b in options.bank_rows for n in options.bank_columns if n > b]
    return [Problem(suite, b, n, d, dtype)
            for dtype in options.dtypes for d in options.dims for suite, b, n in shapes]


class Worker:
    """A peer's process: send an order, get an answer."""

    def __init__(self, command: list, folder: Path, task: Problem, options: argparse.Namespace):
        exclude = "keep" if options.no_exclusion else "exclude"
        arguments = [options.device, task.dtype, exclude, folder, *task.arguments()]
        if command[0] == sys.executable:
            arguments.append(options.threads)
        environment = os.environ | {"RAYON_NUM_THREADS": str(options.threads)}
        self.process = subprocess.Popen([str(part) for part in [*command, *arguments]], env=environment,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.about = self.answer("its start")

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_) -> None:
        self.process.communicate("quit\n" if self.process.poll() is None else None)

    def answer(self, order: str) -> dict:
        answer = self.process.stdout.readline()
        return json.loads(answer) if answer else {"error": f"died at {order!r}"}

    def order(self, order: str) -> dict:
        try:
            self.process.stdin.write(order + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        return self.answer(order)


class Comparison:
    """All peers on one problem."""

    def __init__(self, peers: dict, folder: Path, task: Problem, options: argparse.Namespace, ceilings: dict):
        self.peers, self.folder, self.task, self.options = peers, folder, task, options
        self.ceilings, self.truths = ceilings, {}

    def start(self, name: str) -> Worker:
        return Worker(self.peers[name], self.folder, self.task, self.options)

    def rows(self) -> list[dict]:
        rows = {name: self.examine(name) for name in self.peers}
        times = self.time_rounds([name for name, row in rows.items() if not row["note"]])
        for name, row in rows.items():
            if not times.get(name):
                row["note"] = row["note"] or "failed while it was timed"
                continue
            row["ms"], row["ms_min"] = median(times[name]), min(times[name])
            row["ms_low"], _, row["ms_high"] = quantiles(times[name], n=4) if len(times[name]) > 1 else [row["ms"]] * 3
            row["tflops"] = self.task.flop() / row["ms"] / 1e9
            row["of_ceiling"] = row["tflops"] / self.ceiling()
            if times.get(OURS):
                row["over_ours"] = median(a / b for a, b in zip(times[name], times[OURS]))
            row["ms_all"] = times[name]
        return list(rows.values())

    def examine(self, name: str) -> dict:
        """What a peer needs in memory, and how far it is from float64; a note if it is not to be timed."""
        task = self.task
        row = {"suite": task.suite, "peer": name, "dtype": task.dtype, "b": task.rows, "n": task.columns,
               "d": task.dim, "note": ""}
        with self.start(name) as worker:
            if "ready" not in worker.about:
                row["note"] = worker.about.get("unavailable") or worker.about["error"]
                return row
            row["excludes"] = worker.about["excludes"] and not self.options.no_exclusion
            memory = worker.order("memory")
            if "error" in memory:
                row["note"] = memory["error"]
                return row
            row["peak_mib"] = memory["bytes"] / 2**20
        with self.start(name) as worker:  # The peak of one process is not that of the next order.
            answer = worker.order("check")
            if "error" in answer:
                row["note"] = answer["error"]
            elif task.rows * task.columns <= self.options.check_up_to:
                row |= self.errors(answer, row["excludes"], worker.about["log_q"])
        if any(row.get(field, 0) > 0.05 for field in ERRORS):
            row["note"] = "wrong, and so not timed"
        return row

    def errors(self, answer: dict, excludes: bool, log_q: bool) -> dict:
        """Relative distances from float64, under the meaning that this peer gives the problem."""
        truth = self.truth(excludes, log_q)
        errors = {"loss_error": abs(answer["loss"] - truth["loss"]) / abs(truth["loss"])}
        for name in ("d_users", "d_items"):
            found = np.fromfile(self.folder / f"{name}.f32", dtype=np.float32)
            errors[f"{name}_error"] = float(np.linalg.norm(found - truth[name]) / np.linalg.norm(truth[name]))
        return errors

    def truth(self, excludes: bool, log_q: bool) -> dict:
        if (excludes, log_q) not in self.truths:
            order = f"reference {'exclude' if excludes else 'keep'} {'log_q' if log_q else 'plain'}"
            with Worker([sys.executable, HERE / "torch_worker.py", BASELINE], self.folder, self.task,
                        reference_options(self.options)) as worker:
                truth = worker.order(order)
                if "error" in truth:
                    raise RuntimeError(f"no reference: {truth['error']}")
            gradients = {name: np.fromfile(self.folder / f"{name}.f64") for name in ("d_users", "d_items")}
            self.truths[excludes, log_q] = truth | gradients
        return self.truths[excludes, log_q]

    def ceiling(self) -> float:
        """The matmul rate that PyTorch reaches on this device in this type, measured in this run."""
        if self.task.dtype not in self.ceilings:
            with Worker([sys.executable, HERE / "torch_worker.py", BASELINE], self.folder, self.task,
                        reference_options(self.options)) as worker:
                self.ceilings[self.task.dtype] = worker.order("ceiling")["tflops"]
        return self.ceilings[self.task.dtype]

    def time_rounds(self, names: list[str]) -> dict[str, list[float]]:
        workers = {name: self.start(name) for name in names}
        times = {name: [] for name in names}
        for worker in workers.values():
            for _ in range(2):
                worker.order("step")
        for number in range(self.options.rounds):
            order = list(workers.items())
            for name, worker in order if number % 2 == 0 else reversed(order):
                answer = worker.order("step")
                if "ms" in answer:
                    times[name].append(answer["ms"])
                if self.options.device == "cpu":
                    time.sleep(0.2)  # OpenMP threads spin for a while after their work: not into another's time.
        for worker in workers.values():
            worker.__exit__()
        return times


def reference_options(options: argparse.Namespace) -> argparse.Namespace:
    """Where PyTorch sees no GPU (the emulator is none to it) float64 comes from the CPU."""
    device = options.device if options.device == "cpu" or gpu() else "cpu"
    return argparse.Namespace(**{**vars(options), "device": device})


def judge(rows: list[dict]) -> list[str]:
    """Ours must be as near to float64 as the materialised computation in its type: 2 r + 4 eps."""
    failures = []
    by_task = {(row["suite"], row["dtype"], row["b"], row["n"], row["d"], row["peer"]): row for row in rows}
    for (*task, peer), row in by_task.items():
        if peer != OURS:
            continue
        if row["note"]:
            failures.append(f"{task}: {row['note']}")
        baseline = by_task.get((*task, BASELINE), {})
        for field in ERRORS:
            if field in row and field in baseline and baseline.get("excludes") == row["excludes"]:
                allowed = 2 * baseline[field] + 4 * EPSILON[row["dtype"]]
                if not row[field] <= allowed:
                    failures.append(f"{task}: {field} is {row[field]:.2e}, allowed {allowed:.2e}")
    return failures


def output(*command: str) -> str:
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def describe(options: argparse.Namespace) -> dict:
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = next((line.split(":")[1].strip() for line in cpuinfo.splitlines() if line.startswith("model name")), "")
    driver = output("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    on_gpu = {"gpu": driver} if options.device == "cuda" else {}
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "command": " ".join(["benches/peers/run.py", *sys.argv[1:]]),
        **on_gpu,
        "cpu": model,
        "cores": os.cpu_count(),
        "threads": options.threads,
        "load_average": os.getloadavg()[0],
        "system": platform.platform(),
        "rustc": output("rustc", "--version"),
        "torch": output(sys.executable, "-c", "import torch; print(torch.__version__)"),
        "commit": output("git", "describe", "--always", "--dirty"),
        "rounds": options.rounds,
        "temperature": problem.TAU,
    }


if __name__ == "__main__":
    sys.exit(main())
