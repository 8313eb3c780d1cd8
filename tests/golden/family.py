#!/usr/bin/env python3
"""Writes family.json: the losses of the family as their papers and peers write them, in float64.

Each function below is the peer's own form, over whole score matrices; nothing is shared with the crate but the
definition. `positives[i]` is row i's positive among the columns.

    python3 -m venv venv && venv/bin/pip install numpy && venv/bin/python tests/golden/family.py
"""

import json
import pathlib

import numpy as np

B, C, D = 5, 7, 3
positives = np.arange(B) + 1
rows = np.arange(B)
negative = np.ones((B, C), dtype=bool)
negative[rows, positives] = False


def softmax_cross_entropy(logits):
    """-log softmax at the positive (Yi et al. 2019; TFRS; TensorFlow)."""
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return -np.log(p[rows, positives])


def additive_margin(s, margin):
    """CosFace (Wang et al. 2018): the margin is taken from the positive's logit before the softmax."""
    logits = s.copy()
    logits[rows, positives] -= margin
    return softmax_cross_entropy(logits)


def decoupled(s):
    """Yeh et al. 2021, eq. 6: the positive is dropped from the denominator."""
    return -s[rows, positives] + np.log((np.exp(s) * negative).sum(1))


def corrected_log_q(s, log_q):
    """Khrylchenko et al. 2025: negatives weigh 1/q' with q'_n = q_n / (1 - q_+); (1 - P+) is a constant factor, and P+
    takes the mean of the weighted negatives."""
    q = np.exp(log_q)
    scaled = np.exp(s) / (q[None, :] / (1 - q[positives])[:, None]) * negative
    own = np.exp(s[rows, positives])
    factor = 1 - own / (own + scaled.sum(1) / negative.sum(1))
    return -factor * (s[rows, positives] - np.log(scaled.sum(1)))


def debiased(s, tau_plus, temperature):
    """Chuang et al. 2020, as in the authors' code."""
    pos = np.exp(s[rows, positives])
    neg = np.exp(s) * negative
    n = negative.sum(1)
    ng = (-tau_plus * n * pos + neg.sum(1)) / (1 - tau_plus)
    ng = np.maximum(ng, n * np.exp(-1 / temperature))
    return -np.log(pos / (pos + ng))


def sigmoid_loss(s, bias):
    """SigLIP (Zhai et al. 2023): -log sigmoid(label (s + bias)), label 1 for the positive, -1 for the others; summed
    over the row."""
    labels = np.where(negative, -1.0, 1.0)
    return -np.log(1 / (1 + np.exp(-labels * (s + bias)))).sum(1)


def noise_contrastive(s, log_count):
    """tf.nn.nce_loss: sigmoid cross entropy on logits less the log of the expected count, summed."""
    logits = s - log_count[None, :]
    labels = np.where(negative, 0.0, 1.0)
    # tf.nn.sigmoid_cross_entropy_with_logits
    return (np.maximum(logits, 0) - logits * labels + np.log1p(np.exp(-np.abs(logits)))).sum(1)


def symmetric(s, item_log_q, user_log_q):
    """CLIP and sentence-transformers: the mean of the cross entropies of rows and of columns, each corrected by the log q
    of what it ranks."""
    def cross_entropy(logits):
        return np.log(np.exp(logits).sum(1)) - np.diagonal(logits)

    return (cross_entropy(s - item_log_q[None, :]) + cross_entropy(s.T - user_log_q[None, :])) / 2


def hard_negatives(logits, ids, kept):
    """TFRS's Retrieval with num_hard_negatives: of logits already over the temperature and less log q, accidental hits are
    moved to the far end, the positives to the near one; top_k of `kept + 1` keeps each row's positive and its hardest
    negatives, and a softmax cross entropy follows."""
    far = np.finfo(np.float32).max / 100
    labels = np.where(negative, 0.0, 1.0)
    hits = (ids[None, :] == ids[positives][:, None]) - labels
    logits = logits - hits * far
    columns = np.argsort(-(logits + labels * far), axis=1, kind="stable")[:, : min(kept + 1, C)]
    logits, labels = np.take_along_axis(logits, columns, 1), np.take_along_axis(labels, columns, 1)
    top = logits.max(1)
    return top + np.log(np.exp(logits - top[:, None]).sum(1)) - (logits * labels).sum(1)


def row_negatives(s, own):
    """Each row's further logits stand beside those of the batch; the softmax sees one row of all of them."""
    logits = np.concatenate([s, own], axis=1)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return -np.log(p[rows, positives])


def ranks(s):
    return [int((s[i] > s[i, positives[i]]).sum()) for i in rows]


generator = np.random.default_rng(5)
users, items = generator.normal(size=(B, D)), generator.normal(size=(C, D))
log_q = -0.2 - 4 * generator.random(C)
user_log_q = -0.1 - 3 * generator.random(B)
temperature = 0.5
s = users @ items.T / temperature
unit_s = (
    (users / np.linalg.norm(users, axis=1, keepdims=True))
    @ (items / np.linalg.norm(items, axis=1, keepdims=True)).T
    / temperature
)
K, P = 2, 4
own, own_log_q = generator.normal(size=(B, K, D)), -0.3 - 4 * generator.random((B, K))
pool, pool_log_q = generator.normal(size=(P, D)), -0.3 - 4 * generator.random(P)
# A row of the pool that all rows share, one that a row names twice, and padding.
indices = np.array([[0, 1], [0, 0], [3, -1], [-1, -1], [2, 0]])
own_logits = np.einsum("bd,bkd->bk", users, own) / temperature - own_log_q
pool_logits = np.where(indices < 0, -np.inf, (users @ pool.T / temperature - pool_log_q)[rows[:, None], indices])
# Columns 0 and 5 are accidental hits of rows 1 and 2.
item_ids = np.array([12, 11, 12, 13, 14, 13, 10])
cases = {
    "softmax": softmax_cross_entropy(s - log_q),
    "merlin": softmax_cross_entropy((users @ items.T - log_q) / temperature),
    "margin": additive_margin(s, 0.75),
    "decoupled": decoupled(s - log_q),
    "corrected_log_q": corrected_log_q(s, log_q),
    "debiased": debiased(unit_s, 0.125, temperature),
    # So large a prior that the bound holds in some rows.
    "debiased_bound": debiased(unit_s, 0.5, temperature),
    "sigmoid": sigmoid_loss(s, -1.5),
    "nce": noise_contrastive(s, log_q),
    # The items that are somebody's positive, alone.
    "symmetric": symmetric(s[:, positives], log_q[positives], user_log_q),
    "row_negatives": row_negatives(s - log_q, own_logits),
    "row_negatives_of_pool": row_negatives(s - log_q, pool_logits),
    **{f"hard_negatives_{kept}": hard_negatives(s - log_q, item_ids, kept) for kept in (1, 2, 4, 6)},
}
out = dict(
    numpy=np.__version__,
    offset=1,
    dim=D,
    temperature=temperature,
    users=users.flatten().tolist(),
    items=items.flatten().tolist(),
    log_q=log_q.tolist(),
    user_log_q=user_log_q.tolist(),
    item_ids=item_ids.tolist(),
    own=own.flatten().tolist(),
    own_log_q=own_log_q.flatten().tolist(),
    pool=pool.flatten().tolist(),
    pool_log_q=pool_log_q.tolist(),
    indices=indices.flatten().tolist(),
    ranks=ranks(s - log_q),
    row_losses={name: losses.tolist() for name, losses in cases.items()},
)
path = pathlib.Path(__file__).with_name("family.json")
path.write_text(json.dumps(out, indent=1) + "\n")
