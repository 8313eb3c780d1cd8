#!/usr/bin/env python3
"""One training step of the in-batch loss on the CPU: this crate against PyTorch, same run, same machine.

    python3 -m venv .venv-peers && .venv-peers/bin/pip install -r benches/peers/requirements.txt
    .venv-peers/bin/python benches/peers/cpu.py

A step is loss, gradient of the users and gradient of the items, f32, B = N, with log q. Each peer runs
in a process of its own that lives through all rounds; the rounds interleave the peers and turn their
order about, so that a change in the machine's load meets all of them. Before anything is timed, losses
and gradients are compared with PyTorch in float64. Records go to benches/records/ as json, csv and
markdown. Linux only (peak memory is read from /proc).
"""

import argparse
import csv
import datetime
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TAU = 0.05
OURS = "inbatch"
BASELINE = "eager"


def main() -> int:
    options = parse_options()
    peers = {OURS: [build_ours()]} if not options.without_ours else {}
    peers |= {name: [sys.executable, HERE / "torch_worker.py", name] for name in options.torch}
    rows = []
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            write_inputs(Path(folder), size, options.dim, options.seed)
            rows += compare(peers, Path(folder), size, options)
            print(to_markdown(rows), flush=True)
    record = {"machine": describe(options), "results": rows}
    failures = judge(rows)
    if not options.no_record:
        save(record, options.records)
    for failure in failures:
        print("FAIL", failure)
    return 1 if failures else 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[2048, 4096, 8192], help="B = N")
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--torch", nargs="+", default=["eager", "eager_addmm"],
                        choices=["eager", "eager_addmm", "compile"], help="what PyTorch runs")
    parser.add_argument("--without-ours", action="store_true", help="PyTorch alone")
    parser.add_argument("--records", type=Path, default=ROOT / "benches" / "records")
    parser.add_argument("--no-record", action="store_true", help="print only")
    return parser.parse_args()


def build_ours() -> str:
    """Builds step.rs as any user would (release, no machine flags) and returns its path."""
    command = ["cargo", "build", "--release", "--example", "peer_step", "--message-format", "json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    return next(m["executable"] for m in reversed(messages) if m.get("target", {}).get("name") == "peer_step")


def write_inputs(folder: Path, size: int, dim: int, seed: int) -> None:
    """Unit embeddings, each item leaning towards its user, and the log q of Zipf popularity."""
    rng = np.random.default_rng(seed)
    users = rng.standard_normal((size, dim), dtype=np.float32)
    items = users + 2 * rng.standard_normal((size, dim), dtype=np.float32)
    popularity = 1 / np.arange(1, size + 1)
    log_q = rng.permutation(np.log(popularity / popularity.sum()))
    for name, matrix in (("users", users), ("items", items)):
        unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
        unit.astype(np.float32).tofile(folder / f"{name}.f32")
    log_q.astype(np.float32).tofile(folder / "log_q.f32")


class Worker:
    """A peer's process: send an order, get an answer."""

    def __init__(self, command: list, folder: Path, size: int, options: argparse.Namespace):
        arguments = [folder, size, options.dim, TAU]
        if command[0] == sys.executable:
            arguments.append(options.threads)
        environment = os.environ | {"RAYON_NUM_THREADS": str(options.threads)}
        self.process = subprocess.Popen([str(part) for part in command + arguments], env=environment,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_) -> None:
        self.process.communicate("quit\n")

    def order(self, order: str) -> dict:
        self.process.stdin.write(order + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.process.args[0]} died on {order!r}")
        return json.loads(answer)


def compare(peers: dict, folder: Path, size: int, options: argparse.Namespace) -> list[dict]:
    def start(name: str) -> Worker:
        return Worker(peers[name], folder, size, options)

    with Worker([sys.executable, HERE / "torch_worker.py", BASELINE], folder, size, options) as worker:
        truth = worker.order("reference")
    rows = {}
    for name in peers:
        with start(name) as worker:
            memory = worker.order("memory")["bytes"]
        with start(name) as worker:
            errors = gradient_errors(folder, worker.order("check"), truth)
        rows[name] = {"peer": name, "b": size, "d": options.dim, "peak_mib": memory / 2**20} | errors
    times = time_rounds({name: start(name) for name in peers}, options.rounds)
    for name, row in rows.items():
        row["ms"], row["ms_min"] = median(times[name]), min(times[name])
        row["gflops"] = 8 * size * size * options.dim / row["ms"] / 1e6
        if OURS in times:
            row["over_ours"] = median(a / b for a, b in zip(times[name], times[OURS]))
        row["ms_all"] = times[name]
    return list(rows.values())


def gradient_errors(folder: Path, answer: dict, truth: dict) -> dict:
    errors = {"loss_error": abs(answer["loss"] - truth["loss"]) / abs(truth["loss"])}
    for name in ("d_users", "d_items"):
        exact = np.fromfile(folder / f"{name}.f64")
        found = np.fromfile(folder / f"{name}.f32", dtype=np.float32)
        errors[f"{name}_error"] = float(np.linalg.norm(found - exact) / np.linalg.norm(exact))
        (folder / f"{name}.f32").unlink()  # The next peer must write its own.
    return errors


def time_rounds(workers: dict[str, Worker], rounds: int) -> dict[str, list[float]]:
    times = {name: [] for name in workers}
    for worker in workers.values():
        for _ in range(2):
            worker.order("step")
    for number in range(rounds):
        order = list(workers.items())
        for name, worker in order if number % 2 == 0 else reversed(order):
            times[name].append(worker.order("step")["ms"])
            time.sleep(0.2)  # OpenMP threads spin for a while after their work: not into another's time.
    for worker in workers.values():
        worker.__exit__()
    return times


def judge(rows: list[dict]) -> list[str]:
    """Ours must be as near to float64 as the materialised computation in f32: 2 r + 4 eps."""
    failures = []
    eps = float(np.finfo(np.float32).eps)
    by_size = {(row["peer"], row["b"]): row for row in rows}
    for (peer, size), row in by_size.items():
        if peer != OURS:
            continue
        for field in ("loss_error", "d_users_error", "d_items_error"):
            allowed = 2 * by_size[BASELINE, size][field] + 4 * eps
            if not row[field] <= allowed:
                failures.append(f"B = {size}: {field} is {row[field]:.2e}, allowed {allowed:.2e}")
    return failures


def describe(options: argparse.Namespace) -> dict:
    def output(*command: str) -> str:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = next((line.split(":")[1].strip() for line in cpuinfo.splitlines() if line.startswith("model name")), "")
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": model,
        "cores": os.cpu_count(),
        "threads": options.threads,
        "load_average": os.getloadavg()[0],
        "system": platform.platform(),
        "rustc": output("rustc", "--version"),
        "torch": output(sys.executable, "-c", "import torch; print(torch.__version__)"),
        "commit": output("git", "describe", "--always", "--dirty"),
        "rounds": options.rounds,
        "temperature": TAU,
    }


COLUMNS = ["peer", "b", "d", "ms", "ms_min", "gflops", "over_ours", "peak_mib", "loss_error", "d_users_error",
           "d_items_error"]


def to_markdown(rows: list[dict]) -> str:
    def cell(row: dict, column: str) -> str:
        value = row.get(column, "")
        if not isinstance(value, float):
            return str(value)
        return f"{value:.1e}" if column.endswith("error") else f"{value:.{2 if column == 'over_ours' else 1}f}"

    table = [COLUMNS, ["---"] * len(COLUMNS)] + [[cell(row, column) for column in COLUMNS] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in table)


def save(record: dict, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"{record['machine']['date'][:10]}-cpu-step"
    stem.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(record["results"])
    stem.with_suffix(".csv").write_text(text.getvalue())
    machine = "\n".join(f"- {name}: {value}" for name, value in record["machine"].items())
    notes = (
        "`ms`: median over the rounds of one step (loss and both gradients). `gflops`: 8 B N D over it.\n"
        "`over_ours`: median over the rounds of the peer's time over ours in the same round.\n"
        "`peak_mib`: peak resident memory of a step beyond inputs and outputs.\n"
        "Errors: relative L2 distance from PyTorch in float64.\n"
    )
    stem.with_suffix(".md").write_text(
        f"# CPU step: inbatch and PyTorch\n\n`python benches/peers/cpu.py`\n\n{machine}\n\n"
        f"{to_markdown(record['results'])}\n\n{notes}"
    )
    print(f"written: {stem}.json, .csv, .md")


if __name__ == "__main__":
    sys.exit(main())
