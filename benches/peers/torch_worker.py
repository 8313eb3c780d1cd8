"""PyTorch's side of the comparison: answers the orders that cpu.py sends, one JSON line each.

    python torch_worker.py VARIANT FOLDER ROWS DIM TAU THREADS

Orders on standard input: `step` (one timed step), `check` (one step, gradients written to FOLDER),
`memory` (peak bytes of a step beyond inputs and outputs), `reference` (the same in float64), `quit`.
The Rust side, step.rs, speaks the same language.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F


def eager(users, items, log_q, labels, tau):
    """As it is usually written."""
    return F.cross_entropy(users @ items.T / tau - log_q, labels)


def eager_addmm(users, items, log_q, labels, tau):
    """The same with scale and bias moved out of the B x N matrix: two passes over it fewer."""
    return F.cross_entropy(torch.addmm(-log_q, users / tau, items.T), labels)


VARIANTS = {"eager": eager, "eager_addmm": eager_addmm, "compile": torch.compile(eager)}


class Worker:
    def __init__(self, variant: str, folder: Path, rows: int, dim: int, tau: float):
        self.loss_function = VARIANTS[variant]
        self.folder, self.tau = folder, tau
        self.users = self.load("users", (rows, dim)).requires_grad_()
        self.items = self.load("items", (rows, dim)).requires_grad_()
        self.log_q = self.load("log_q", (rows,))
        self.labels = torch.arange(rows)

    def load(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.from_numpy(np.fromfile(self.folder / f"{name}.f32", dtype=np.float32).reshape(shape))

    def run(self, users, items, log_q, labels) -> float:
        users.grad = items.grad = None
        loss = self.loss_function(users, items, log_q, labels, self.tau)
        loss.backward()
        return loss.item()

    def step(self) -> dict:
        begin = time.perf_counter()
        loss = self.run(self.users, self.items, self.log_q, self.labels)
        return {"ms": (time.perf_counter() - begin) * 1e3, "loss": loss}

    def check(self) -> dict:
        loss = self.run(self.users, self.items, self.log_q, self.labels)
        for name, leaf in (("d_users", self.users), ("d_items", self.items)):
            leaf.grad.numpy().tofile(self.folder / f"{name}.f32")
        return {"loss": loss}

    def reference(self) -> dict:
        users, items = (leaf.detach().double().requires_grad_() for leaf in (self.users, self.items))
        loss = eager(users, items, self.log_q.double(), self.labels, self.tau)
        loss.backward()
        for name, leaf in (("d_users", users), ("d_items", items)):
            leaf.grad.numpy().tofile(self.folder / f"{name}.f64")
        return {"loss": loss.item()}

    def memory(self) -> dict:
        few = slice(0, 16)
        warm = [leaf[few].detach().clone().requires_grad_() for leaf in (self.users, self.items)]
        self.run(*warm, self.log_q[few], self.labels[few])  # Library pages and thread stacks are not the step's.
        outputs = [torch.ones_like(leaf) for leaf in (self.users, self.items)]
        before = reset_peak()
        del outputs  # The step's own gradients take their place.
        self.run(self.users, self.items, self.log_q, self.labels)
        return {"bytes": peak() - before}


def status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(field))) * 1024


def reset_peak() -> int:
    """Makes the kernel forget the peak so far; returns the resident bytes of now."""
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def peak() -> int:
    return status("VmHWM")


def main() -> None:
    variant, folder, rows, dim, tau, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    worker = Worker(variant, Path(folder), int(rows), int(dim), float(tau))
    orders = {"step": worker.step, "check": worker.check, "memory": worker.memory, "reference": worker.reference}
    for line in sys.stdin:
        order = line.strip()
        if order == "quit":
            return
        print(json.dumps(orders[order]()), flush=True)


if __name__ == "__main__":
    main()
