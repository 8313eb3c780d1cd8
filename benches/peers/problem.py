"""The problems that all peers are given, as files that each reads for itself."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

TAU = 0.05
CATALOGUE = 1_000_000


@dataclass(frozen=True)
class Problem:
    """`rows` users with their items, and `columns - rows` further negatives (a memory bank)."""

    suite: str
    rows: int
    columns: int
    dim: int
    dtype: str

    def flop(self) -> float:
        """Of a step, by the convention 8 B N D: four products. A bank's columns have no gradient, hence the 6."""
        return (8.0 * self.rows + 6.0 * (self.columns - self.rows)) * self.rows * self.dim

    def arguments(self) -> list[str]:
        return [str(part) for part in (self.rows, self.columns, self.dim, TAU)]


def zipf(rng: np.random.Generator, count: int) -> np.ndarray:
    """Item ids with P(id) proportional to 1 / (id + 1): a batch of these holds many accidental hits."""
    weights = 1 / np.arange(1, CATALOGUE + 1)
    return np.searchsorted(np.cumsum(weights / weights.sum()), rng.random(count)).clip(max=CATALOGUE - 1)


def write(folder: Path, problem: Problem, seed: int) -> None:
    """Unit embeddings, each item leaning towards its user; ids by Zipf's law, log q theirs."""
    rng = np.random.default_rng(seed)

    def save(name: str, matrix: np.ndarray) -> None:
        unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True).clip(min=1e-30)
        unit.astype(np.float32).tofile(folder / f"{name}.f32")

    def normal(rows: int) -> np.ndarray:
        return rng.standard_normal((rows, problem.dim), dtype=np.float32)

    users = normal(problem.rows)
    save("users", users)
    save("items", users + 2 * normal(problem.rows))
    save("bank", normal(problem.columns - problem.rows))
    ids = zipf(rng, problem.columns)
    harmonic = (1 / np.arange(1, CATALOGUE + 1)).sum()
    np.log(1 / ((ids + 1) * harmonic)).astype(np.float32).tofile(folder / "log_q.f32")
    ids.astype(np.int64).tofile(folder / "ids.i64")
