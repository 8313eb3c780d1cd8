"""A peer in a process of its own: answers the orders that run.py sends, one JSON line each.

    python torch_worker.py PEER DEVICE DTYPE EXCLUDE FOLDER ROWS COLUMNS DIM TAU THREADS

It says `ready` or `unavailable` first. Orders on standard input: `step` (one timed step; on a GPU by its own events,
with the second-level cache flushed before), `check` (one step, gradients written to FOLDER), `memory` (peak bytes of a
step beyond inputs and outputs), `reference EXCLUDE LOG_Q` (float64, gradients to FOLDER), `ceiling` (the matmul rate of
this device and type), `quit`. What does not fit in memory is answered with an error. The Rust side, step/, speaks the
same language.
"""

import json
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch

import losses

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
FLUSH_BYTES = 512 << 20  # beyond any second-level cache


class Worker:
    def __init__(self, peer: str, device: str, dtype: str, exclude: bool, folder: Path, sizes: tuple, tau: float):
        self.loss, self.device, self.folder = losses.find(peer), torch.device(device), folder
        rows, columns, dim = sizes

        def load(name: str, shape: tuple, kind: type) -> torch.Tensor:
            return torch.from_numpy(np.fromfile(folder / name, dtype=kind).reshape(shape)).to(self.device)

        def embeddings(name: str, count: int) -> torch.Tensor:
            return load(f"{name}.f32", (count, dim), np.float32).to(DTYPES[dtype])

        self.users = embeddings("users", rows).requires_grad_()
        self.items = embeddings("items", rows).requires_grad_()
        self.bank = embeddings("bank", columns - rows)
        self.log_q, self.ids = load("log_q.f32", (columns,), np.float32), load("ids.i64", (columns,), np.int64)
        self.tau, self.exclude = tau, exclude
        self.flush = torch.empty(FLUSH_BYTES if self.on_gpu() else 0, dtype=torch.uint8, device=self.device)

    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def batch(self, users, items, bank) -> losses.Batch:
        columns = torch.cat([items, bank]) if len(bank) else items
        rows = len(users)
        kept = torch.cat([torch.arange(rows), torch.arange(len(self.users), len(self.users) + len(bank))])
        fields = (self.log_q, self.ids) if rows == len(self.users) else (self.log_q[kept], self.ids[kept])
        labels = torch.arange(rows, device=self.device)
        return losses.Batch(users, columns, *fields, labels, self.tau, self.exclude and self.loss.excludes)

    def run(self, users, items, bank) -> torch.Tensor:
        users.grad = items.grad = None
        loss = self.loss.function(self.batch(users, items, bank))
        loss.backward()
        return loss

    def whole(self) -> torch.Tensor:
        return self.run(self.users, self.items, self.bank)

    def step(self) -> dict:
        if not self.on_gpu():
            begin = time.perf_counter()
            self.whole().item()
            return {"ms": (time.perf_counter() - begin) * 1e3}
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.flush.zero_()
        begin.record()
        self.whole()
        end.record()
        torch.cuda.synchronize()
        return {"ms": begin.elapsed_time(end)}

    def check(self) -> dict:
        loss = self.whole().item()
        for name, leaf in (("d_users", self.users), ("d_items", self.items)):
            leaf.grad.float().cpu().numpy().tofile(self.folder / f"{name}.f32")
        return {"loss": loss}

    def reference(self, exclude: str, log_q: str) -> dict:
        users, items, bank = (leaf.detach().double() for leaf in (self.users, self.items, self.bank))
        batch = self.batch(users, items, bank)
        batch.exclude = exclude == "exclude"
        batch.log_q = batch.log_q.double() if log_q == "log_q" else torch.zeros_like(batch.log_q, dtype=torch.float64)
        loss, d_users, d_columns = losses.reference(batch)
        for name, gradient in (("d_users", d_users), ("d_items", d_columns[:len(items)])):
            gradient.cpu().numpy().tofile(self.folder / f"{name}.f64")
        return {"loss": loss}

    def memory(self) -> dict:
        few = slice(0, 16)  # Library pages and thread stacks are not the step's.
        warm = [leaf[few].detach().clone().requires_grad_() for leaf in (self.users, self.items)]
        self.run(*warm, self.bank[few]).item()
        outputs = [torch.ones_like(leaf) for leaf in (self.users, self.items)]
        before = self.reset_peak()
        del outputs  # The step's own gradients take their place.
        self.whole().item()
        return {"bytes": self.peak() - before}

    def reset_peak(self) -> int:
        """Makes the peak so far forgotten; returns the bytes in use now."""
        if self.on_gpu():
            torch.cuda.reset_peak_memory_stats()
            return torch.cuda.memory_allocated()
        Path("/proc/self/clear_refs").write_text("5")
        return status("VmRSS")

    def peak(self) -> int:
        return torch.cuda.max_memory_allocated() if self.on_gpu() else status("VmHWM")

    def ceiling(self) -> dict:
        """TFLOP/s of one square product, the median of some."""
        size = 8192 if self.on_gpu() else 2048
        a, b = (torch.randn(size, size, device=self.device).to(self.users.dtype) for _ in range(2))
        seconds = []
        for _ in range(13):
            if self.on_gpu():
                torch.cuda.synchronize()
            begin = time.perf_counter()
            a @ b
            if self.on_gpu():
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - begin)
        return {"tflops": 2 * size**3 / median(seconds[3:]) / 1e12}


def status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(field))) * 1024


def say(answer: dict) -> None:
    print(json.dumps(answer), flush=True)


def main() -> None:
    peer, device, dtype, exclude, folder, rows, columns, dim, tau, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        worker = Worker(peer, device, dtype, exclude == "exclude", Path(folder),
                        (int(rows), int(columns), int(dim)), float(tau))
    except ImportError as error:
        return say({"unavailable": str(error)})
    except torch.OutOfMemoryError:
        return say({"unavailable": "its inputs do not fit in memory"})
    say({"ready": True, "excludes": worker.loss.excludes, "log_q": worker.loss.log_q})
    for line in sys.stdin:
        order, *arguments = line.split()
        if order == "quit":
            return
        try:
            say(getattr(worker, order)(*arguments))
        except torch.OutOfMemoryError:
            say({"error": "out of memory"})
        except Exception as error:  # A peer's own failure is a result, not ours.
            say({"error": f"{type(error).__name__}: {error}".split("\n")[0]})


if __name__ == "__main__":
    main()
