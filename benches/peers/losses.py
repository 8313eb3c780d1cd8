"""The same loss as others write it: mean cross entropy of `users @ columns.T / tau - log q` against the diagonal.

Each function takes a `Batch`; `excludes` and `log_q` say what of the loss the implementation knows. One that is not
installed raises ImportError when it is asked for.
"""

from dataclasses import dataclass
from typing import Callable

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint


@dataclass
class Batch:
    users: torch.Tensor
    columns: torch.Tensor
    log_q: torch.Tensor
    ids: torch.Tensor
    labels: torch.Tensor
    tau: float
    exclude: bool


@dataclass
class Loss:
    function: Callable[[Batch], torch.Tensor]
    excludes: bool
    log_q: bool


def masked(scores: torch.Tensor, batch: Batch, labels: torch.Tensor) -> torch.Tensor:
    """Accidental hits to -inf: columns with the id of the row's positive, that one left in."""
    if not batch.exclude:
        return scores
    hit = batch.ids[labels, None] == batch.ids[None, :]
    hit[torch.arange(len(labels), device=hit.device), labels] = False
    return scores.masked_fill(hit, float("-inf"))


def eager(batch: Batch) -> torch.Tensor:
    """As it is usually written."""
    scores = (batch.users @ batch.columns.T).float() / batch.tau - batch.log_q
    return F.cross_entropy(masked(scores, batch, batch.labels), batch.labels)


def eager_addmm(batch: Batch) -> torch.Tensor:
    """The same with scale and bias moved out of the B x N matrix: two passes over it fewer."""
    bias = -batch.log_q.to(batch.users.dtype)
    scores = torch.addmm(bias, batch.users / batch.tau, batch.columns.T).float()
    return F.cross_entropy(masked(scores, batch, batch.labels), batch.labels)


def chunked(batch: Batch, rows: int = 1024) -> torch.Tensor:
    """A block of rows at a time, computed again in the backward pass: memory for `rows` x N scores."""

    def part(users: torch.Tensor, columns: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        scores = (users @ columns.T).float() / batch.tau - batch.log_q
        return F.cross_entropy(masked(scores, batch, labels), labels, reduction="sum")

    parts = zip(batch.users.split(rows), batch.labels.split(rows))
    return sum(checkpoint(part, users, batch.columns, labels, use_reentrant=False)
               for users, labels in parts) / len(batch.labels)


def cut_cross_entropy() -> Callable[[Batch], torch.Tensor]:
    """Apple's fused kernel, in the mode that drops no small gradients."""
    from cut_cross_entropy import linear_cross_entropy

    return lambda batch: linear_cross_entropy(
        batch.users / batch.tau, batch.columns, batch.labels, bias=-batch.log_q.to(batch.users.dtype), impl="cce_exact")


def liger() -> Callable[[Batch], torch.Tensor]:
    """Liger's fused linear cross entropy, which goes through the rows in chunks."""
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    loss = LigerFusedLinearCrossEntropyLoss()
    return lambda batch: loss(
        batch.columns, batch.users / batch.tau, batch.labels, -batch.log_q.to(batch.users.dtype))


def inf_cl() -> Callable[[Batch], torch.Tensor]:
    """Inf-CL's tiled contrastive loss; it knows no log q."""
    from inf_cl import cal_flash_loss

    def loss(batch: Batch) -> torch.Tensor:
        dim = batch.users.shape[1]
        return cal_flash_loss(batch.users, batch.columns, batch.labels, 1 / batch.tau, head_dim=min(dim, 256)).mean()

    return loss


def find(name: str) -> Loss:
    """The implementation of that name."""
    match name:
        case "eager":
            return Loss(eager, excludes=True, log_q=True)
        case "eager_addmm":
            return Loss(eager_addmm, excludes=True, log_q=True)
        case "compile":
            return Loss(torch.compile(eager), excludes=True, log_q=True)
        case "chunked":
            return Loss(chunked, excludes=True, log_q=True)
        case "cut_cross_entropy":
            return Loss(cut_cross_entropy(), excludes=False, log_q=True)
        case "liger":
            return Loss(liger(), excludes=False, log_q=True)
        case "inf_cl":
            return Loss(inf_cl(), excludes=False, log_q=False)
    raise ValueError(f"no peer {name!r}")


ON_CPU = ["eager", "eager_addmm", "chunked"]
ON_CUDA = ["eager", "compile", "chunked", "cut_cross_entropy", "liger", "inf_cl"]
NAMES = sorted({*ON_CPU, *ON_CUDA})


def reference(batch: Batch, rows: int = 512) -> tuple[float, torch.Tensor, torch.Tensor]:
    """Loss and gradients in float64, by hand and a block of rows at a time: it must fit where the peers do not."""
    count = len(batch.labels)
    loss, d_users, d_columns = 0.0, torch.empty_like(batch.users), torch.zeros_like(batch.columns)
    for first in range(0, count, rows):
        block = slice(first, first + rows)
        users, labels = batch.users[block], batch.labels[block]
        scores = masked(users @ batch.columns.T / batch.tau - batch.log_q, batch, labels)
        loss += F.cross_entropy(scores, labels, reduction="sum").item() / count
        weights = scores.softmax(1)
        own = torch.arange(len(labels), device=labels.device)
        weights[own, labels] -= 1
        weights /= count * batch.tau
        d_users[block] = weights @ batch.columns
        d_columns += weights.T @ users
    return loss, d_users, d_columns
