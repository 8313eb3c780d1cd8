#!/usr/bin/env python3
"""Writes table.json: sampled softmax and NCE over a class table in TensorFlow's published form, by numpy in float64.

Step by step what nn_impl.py does: gather weights and biases of true and sampled classes, true and sampled logits, mask
of accidental hits added as -FLT_MAX, subtract the logs of the expected counts, concatenate, softmax or sigmoid cross
entropy against labels 1/num_true. Expected counts are those of TensorFlow's samplers. Nothing is shared with the crate.

    python3 -m venv venv && venv/bin/pip install numpy && venv/bin/python tests/golden/make_table.py
"""

import json
import pathlib

import numpy as np

FLT_MAX = float(np.finfo(np.float32).max)


def sampled_logits(weights, biases, labels, inputs, sampled, true_counts, sampled_counts, subtract, remove):
    batch, num_true = labels.shape
    true_w = weights[labels.reshape(-1)].reshape(batch, num_true, -1)
    true_logits = np.einsum("bd,btd->bt", inputs, true_w) + biases[labels]
    logits = inputs @ weights[sampled].T + biases[sampled]
    if remove:
        # compute_accidental_hits: one entry for each pair of a label and a sampled class that are equal.
        for row in range(batch):
            for label in labels[row]:
                for column in np.flatnonzero(sampled == label):
                    logits[row, column] += -FLT_MAX
    if subtract:
        true_logits = true_logits - np.log(true_counts)
        logits = logits - np.log(sampled_counts)
    out_labels = np.concatenate([np.ones_like(true_logits) / num_true, np.zeros_like(logits)], axis=1)
    return np.concatenate([true_logits, logits], axis=1), out_labels


def softmax_loss(logits, labels):
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_softmax = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -(labels * log_softmax).sum(axis=1)


def sigmoid_loss(logits, labels):
    """sigmoid_cross_entropy_with_logits in its stable form, summed over the classes of a row."""
    terms = np.maximum(logits, 0) - logits * labels + np.log1p(np.exp(-np.abs(logits)))
    return terms.sum(axis=1)


def log_uniform(ids, range_max):
    return np.log((ids + 2.0) / (ids + 1.0)) / np.log(range_max + 1.0)


def expected(p, num_sampled, num_tries):
    return p * num_sampled if num_tries == num_sampled else -np.expm1(num_tries * np.log1p(-p))


def make(name, seed, batch, num_true, num_sampled, unique, subtract=True, remove=True, biased=True,
         loss=softmax_loss):
    random = np.random.default_rng(seed)
    classes, dim = 12, 3
    weights = random.normal(size=(classes, dim))
    biases = random.normal(size=classes) if biased else np.zeros(classes)
    inputs = random.normal(size=(batch, dim))
    labels = np.array([random.permutation(classes)[:num_true] for _ in range(batch)])
    tries, sampled = 0, []
    law = log_uniform(np.arange(classes), classes)
    while len(sampled) < num_sampled:
        tries += 1
        drawn = int(random.choice(classes, p=law / law.sum()))
        if not unique or drawn not in sampled:
            sampled.append(drawn)
    sampled = np.array(sampled)
    # TensorFlow takes n p for a unique sample that needed no further try, too; the crate does not, so there is none.
    assert unique == (tries != num_sampled), name
    true_counts = expected(log_uniform(labels, classes), num_sampled, tries)
    sampled_counts = expected(log_uniform(sampled, classes), num_sampled, tries)
    logits, out_labels = sampled_logits(
        weights, biases, labels, inputs, sampled, true_counts, sampled_counts, subtract, remove
    )
    return dict(
        name=name, link="softmax" if loss is softmax_loss else "sigmoid", dim=dim, num_true=num_true, subtract_log_q=subtract, remove_accidental_hits=remove,
        num_tries=tries, range_max=classes, unique=unique,
        weights=weights.flatten().tolist(), biases=biases.tolist(), inputs=inputs.flatten().tolist(),
        labels=labels.flatten().tolist(), sampled=sampled.tolist(),
        label_log_q=np.log(true_counts).flatten().tolist(), sampled_log_q=np.log(sampled_counts).tolist(),
        losses=loss(logits, out_labels).tolist(),
    )


cases = [
    make("one true class", 1, 4, 1, 6, True),
    make("hits kept", 2, 4, 1, 8, True, remove=False),
    make("log q not subtracted", 3, 4, 1, 6, True, subtract=False),
    make("no biases", 4, 3, 1, 6, True, biased=False),
    make("with replacement", 5, 4, 1, 9, False),
    make("three true classes", 6, 4, 3, 7, True),
    make("three true classes, hits kept, with replacement", 7, 4, 3, 9, False, remove=False),
    make("every class sampled", 8, 3, 2, 12, True),
    make("nce", 19, 4, 1, 6, True, remove=False, loss=sigmoid_loss),
    make("nce, three true classes, hits removed", 10, 4, 3, 7, True, loss=sigmoid_loss),
    make("negative sampling", 11, 4, 2, 9, False, subtract=False, remove=False, loss=sigmoid_loss),
]
path = pathlib.Path(__file__).with_name("table.json")
lines = ",\n".join(json.dumps(case) for case in cases)
path.write_text(f'{{"numpy": "{np.__version__}", "cases": [\n{lines}\n]}}\n')
