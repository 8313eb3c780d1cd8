#!/usr/bin/env python3
"""Writes loss.json: the loss in its textbook form, by PyTorch and automatic differentiation, in float64.

Logits of all columns, the positive among them, go through torch.nn.functional.cross_entropy; excluded
columns are masked with -inf. Nothing is shared with the crate but the definition.

    python3 -m venv venv && venv/bin/pip install torch && venv/bin/python tests/golden/make.py
"""

import json
import pathlib

import torch

torch.set_default_dtype(torch.float64)


def loss_of(case, users, items, extra, inverse_temperature):
    bank = torch.tensor(case["bank"]).reshape(-1, case["dim"])
    columns = torch.cat([items, extra, bank])
    if case["normalize"]:
        users = torch.nn.functional.normalize(users, eps=0.0)
        columns = torch.nn.functional.normalize(columns, eps=0.0)
    logits = users @ columns.T * inverse_temperature
    rows = torch.arange(users.shape[0])
    positives = rows + case["offset"]
    if case["log_q"] is not None:
        correction = case["logq_scale"] * torch.tensor(case["log_q"]).expand_as(logits)
        if not case["corrected"]:
            correction = correction.clone()
            correction[rows, positives] = 0.0
        logits = logits - correction
    excluded = torch.zeros(logits.shape, dtype=torch.bool)
    if case["item_ids"] is not None:
        ids = torch.tensor(case["item_ids"])
        excluded |= ids[None, :] == ids[positives][:, None]
    if case["user_ids"] is not None:
        ids = torch.tensor(case["user_ids"])
        owned = excluded[:, case["offset"] : case["offset"] + len(ids)]
        owned |= ids[:, None] == ids[None, :]
    excluded[rows, positives] = False
    logits = logits.masked_fill(excluded, -torch.inf)
    losses = torch.nn.functional.cross_entropy(logits, positives, reduction="none")
    weights = torch.ones(len(rows)) if case["weights"] is None else torch.tensor(case["weights"])
    total = (weights * losses).sum()
    divisor = {"mean": len(rows), "weighted_mean": weights.sum(), "sum": 1.0}[case["reduction"]]
    return total / divisor, weights * losses


def make(seed, **options):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    case = dict(
        name="", rows=5, dim=3, offset=0, surplus=0, extra=0, bank=0, temperature=0.5, logq_scale=1.0,
        log_q=False, corrected=True, item_ids=False, user_ids=False, normalize=False, weights=False,
        reduction="mean",
    )
    case.update(options)
    rows, dim = case["rows"], case["dim"]
    columns = rows + case["offset"] + case.pop("surplus")
    users = normal(rows, dim).requires_grad_()
    items = normal(columns, dim).requires_grad_()
    extra = normal(case["extra"], dim).requires_grad_()
    bank = normal(case["bank"], dim)
    total = columns + len(extra) + len(bank)

    def ids(count, distinct):
        return torch.randint(0, distinct, (count,), generator=generator).tolist()

    case.update(
        users=users.flatten().tolist(),
        items=items.flatten().tolist(),
        extra=extra.flatten().tolist(),
        bank=bank.flatten().tolist(),
        log_q=(-5 * torch.rand(total, generator=generator)).tolist() if case["log_q"] else None,
        item_ids=ids(total, 4) if case["item_ids"] else None,
        user_ids=ids(rows, 3) if case["user_ids"] else None,
        weights=(torch.rand(rows, generator=generator) * 2 - 0.2).tolist() if case["weights"] else None,
    )
    inverse_temperature = torch.tensor(1.0 / case["temperature"]).requires_grad_()
    loss, row_losses = loss_of(case, users, items, extra, inverse_temperature)
    loss.backward()
    case.update(
        loss=loss.item(),
        row_losses=row_losses.tolist(),
        d_users=users.grad.flatten().tolist(),
        d_items=items.grad.flatten().tolist(),
        d_extra=extra.grad.flatten().tolist() if len(extra) else [],
        d_inverse_temperature=inverse_temperature.grad.item(),
    )
    return case


everything = dict(
    rows=6, dim=4, offset=2, surplus=1, extra=3, bank=4, temperature=0.25, log_q=True, item_ids=True,
    user_ids=True, normalize=True, weights=True, reduction="weighted_mean",
)
cases = [
    make(1, name="plain"),
    make(2, name="log q", log_q=True),
    make(3, name="log q on the negatives only", log_q=True, corrected=False),
    make(4, name="half of log q", log_q=True, logq_scale=0.5),
    make(5, name="accidental hits", rows=7, item_ids=True),
    make(6, name="same users", rows=7, user_ids=True),
    make(7, name="normalised", normalize=True, temperature=0.125),
    make(8, name="weights, mean", weights=True),
    make(9, name="weights, sum", weights=True, reduction="sum"),
    make(10, name="shard", offset=3, surplus=2),
    make(11, name="mixed negatives", extra=4, log_q=True, corrected=False, item_ids=True),
    make(12, name="bank", bank=6, log_q=True, item_ids=True),
    make(13, name="everything", **everything),
    make(14, name="everything, positive uncorrected", **{**everything, "corrected": False, "logq_scale": 0.75}),
]
path = pathlib.Path(__file__).with_name("loss.json")
lines = ",\n".join(json.dumps(case) for case in cases)
version = torch.__version__.split("+")[0]
path.write_text(f'{{"torch": "{version}", "cases": [\n{lines}\n]}}\n')
