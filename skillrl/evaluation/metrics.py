"""What is measured of skills, as pure functions of arrays. R rollouts of at most T steps, coordinates (R, T + 1, D).

Of a team D holds the coordinates of all agents side by side: its cells and its classifier are of all of them together.

The fresh classifier is a small MLP, trained from scratch on the cells that half of the rollouts visited. It sees each
cell twice: standardised, and on a logarithmic scale round the middle. A table of cells (one-hot) would know nothing of
a cell next door, so it would fail the very skills that go far; raw coordinates would let it read an untrained network's
millimetres. With the last layer starting at zero an uninformed classifier stays at chance.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

HIDDEN, FIT_STEPS, LEARNING_RATE, WEIGHT_DECAY = 64, 300, 1e-2, 1e-2
OBS_STEPS = 64  # steps of each rollout, evenly spaced, on which the classifier of observations is trained and asked


@dataclass(frozen=True)
class Table:
    """The distinct things that each rollout saw, and how much of its time: one line a (rollout, thing)."""

    features: np.ndarray  # (M, F) float32
    rollout: np.ndarray  # (M,) int64
    weight: np.ndarray  # (M,) float32; each rollout's sum to 1
    rollouts: int


@dataclass(frozen=True)
class Recognition:
    """What a fresh classifier said of the n rollouts it was not trained on."""

    labels: np.ndarray  # (n,) the true skill
    log_probs: np.ndarray  # (n, K) mean over a rollout's steps, renormalised

    @property
    def predicted(self) -> np.ndarray:
        return self.log_probs.argmax(1)

    @property
    def accuracy(self) -> float:
        return float((self.predicted == self.labels).mean())

    @property
    def effective_skills(self) -> float:
        """exp(log K − cross-entropy): K if every rollout is recognised with certainty, 1 if nothing is learnt."""
        cross_entropy = -self.log_probs[np.arange(len(self.labels)), self.labels].mean()
        return float(math.exp(math.log(self.log_probs.shape[1]) - cross_entropy))

    def confusion(self) -> np.ndarray:
        """(K, K): of the rollouts of skill i (row), the share taken for skill j."""
        k = self.log_probs.shape[1]
        counts = np.zeros((k, k))
        np.add.at(counts, (self.labels, self.predicted), 1)
        return counts / np.maximum(counts.sum(1, keepdims=True), 1)


def cells(coordinates: np.ndarray, cell: float) -> np.ndarray:
    """Which cell of side ``cell`` each coordinate lies in, int64."""
    return np.floor(coordinates / cell).astype(np.int64)


def state_coverage(coordinates: np.ndarray, length: np.ndarray, cell: float) -> int:
    """Distinct cells visited by any of the rollouts, starts and ends included."""
    visited = np.arange(coordinates.shape[1]) <= length[:, None]  # (R, T + 1)
    return len(np.unique(cells(coordinates[visited], cell), axis=0))


def coverage_so_far(coordinates: np.ndarray, length: np.ndarray, cell: float) -> np.ndarray:
    """(T + 1,) int64: distinct cells visited by any of the rollouts up to each env step; ends at ``state_coverage``."""
    steps, rows = np.nonzero((np.arange(coordinates.shape[1]) <= length[:, None]).T)  # in order of time
    _, first = np.unique(cells(coordinates[rows, steps], cell), axis=0, return_index=True)
    return np.bincount(steps[first], minlength=coordinates.shape[1]).cumsum()


def displacement(coordinates: np.ndarray, length: np.ndarray, agents: int = 1) -> np.ndarray:
    """(R,): the distance from a rollout's start to its end, in the coordinates' units; of a team, its agents' mean."""
    way = coordinates[np.arange(len(length)), length] - coordinates[:, 0]  # (R, agents · D)
    return np.linalg.norm(way.reshape(len(way), agents, -1), axis=-1).mean(-1)


def of_each(coordinates: np.ndarray, agents: int) -> np.ndarray:
    """The coordinates (R, T + 1, agents · D) of a team's agents, one after the other: (agents, R, T + 1, D)."""
    return np.moveaxis(coordinates.reshape(*coordinates.shape[:2], agents, -1), 2, 0)


def cell_table(coordinates: np.ndarray, length: np.ndarray, cell: float) -> Table:
    """The cells of each rollout with the share of its steps spent there; the start is left out: no skill chose it."""
    rows, steps = np.nonzero(np.arange(1, coordinates.shape[1]) <= length[:, None])
    visits = np.column_stack([rows, cells(coordinates[rows, steps + 1], cell)])
    lines, counts = np.unique(visits, axis=0, return_counts=True)
    index = lines[:, 1:] - np.median(visits[:, 1:], axis=0)
    both = np.concatenate([_standardise(index, 1.0), _standardise(np.sign(index) * np.log1p(np.abs(index)), 0.5)], 1)
    return Table(both.astype(np.float32), lines[:, 0], _share(counts, lines[:, 0], length), len(length))


def obs_table(obs: np.ndarray, length: np.ndarray) -> Table:
    """All of the observation (R, T + 1, ...), at ``OBS_STEPS`` steps of each rollout or at all if there are fewer."""
    flat = obs.reshape(*obs.shape[:2], -1)
    picks = [np.unique(np.linspace(1, end, min(OBS_STEPS, int(end))).round().astype(int)) for end in length]
    rows = np.repeat(np.arange(len(length)), [len(pick) for pick in picks])
    features = _standardise(flat[rows, np.concatenate(picks)].astype(np.float64), 1e-6)
    counts = np.array([len(pick) for pick in picks])
    return Table(features.astype(np.float32), rows, _share(np.ones(len(rows)), rows, counts), len(length))


def recognise(table: Table, labels: np.ndarray, num_skills: int, *, seed: int) -> Recognition:
    """Trains a fresh classifier on half of each label's rollouts and asks it about the others. labels (R,)."""
    generator = torch.Generator().manual_seed(seed)
    held_out = _split(labels, num_skills, generator)  # (R,) bool
    asked = held_out[table.rollout]
    features, weight = torch.from_numpy(table.features), torch.from_numpy(table.weight)
    answers = torch.from_numpy(labels.astype(np.int64))[torch.from_numpy(table.rollout)]
    net = _fit(features[~asked], answers[~asked], weight[~asked], num_skills, generator)
    with torch.no_grad():
        line = _forward(net, features).log_softmax(-1) * weight.unsqueeze(1)  # (M, K)
        summed = torch.zeros(table.rollouts, num_skills).index_add_(0, torch.from_numpy(table.rollout), line)
    return Recognition(labels[held_out], summed.log_softmax(-1).numpy()[held_out])


def permuted_accuracy(table: Table, labels: np.ndarray, num_skills: int, *, seed: int, repeats: int = 3) -> float:
    """``recognise`` with labels shuffled over the rollouts *before* they are split, so that each half has every label
    equally often and knows nothing of the other half: the expectation is exactly 1/K. Mean of a few shuffles."""
    shuffles = [np.random.default_rng([seed, i]).permutation(labels) for i in range(repeats)]
    return float(np.mean([recognise(table, s, num_skills, seed=seed + i).accuracy for i, s in enumerate(shuffles)]))


def _standardise(values: np.ndarray, least: float) -> np.ndarray:
    """Zero mean, unit deviation; what deviates by less than ``least`` is not blown up."""
    return (values - values.mean(0)) / np.maximum(values.std(0), least)


def _share(counts: np.ndarray, rows: np.ndarray, totals: np.ndarray) -> np.ndarray:
    return (counts / totals[rows]).astype(np.float32)


def _split(labels: np.ndarray, num_skills: int, generator: torch.Generator) -> np.ndarray:
    """(R,) bool: the half of each label's rollouts that is held out."""
    held_out = np.zeros(len(labels), dtype=bool)
    for label in range(num_skills):
        rows = np.flatnonzero(labels == label)
        order = torch.randperm(len(rows), generator=generator).numpy()
        held_out[rows[order[: len(rows) // 2]]] = True
    return held_out


def _fit(features: Tensor, labels: Tensor, weight: Tensor, num_skills: int, generator: torch.Generator) -> list[Tensor]:
    """Weights and biases of a two-layer MLP after ``FIT_STEPS`` full-batch steps of AdamW."""
    sizes = [features.shape[1], HIDDEN, HIDDEN, num_skills]
    net: list[Tensor] = []
    for fan_in, fan_out in pairwise(sizes):
        net += [torch.randn(fan_in, fan_out, generator=generator) * math.sqrt(2 / fan_in), torch.zeros(fan_out)]
    net[4] = torch.zeros_like(net[4])  # the classifier starts out knowing nothing
    for parameter in net:
        parameter.requires_grad_(True)
    optimiser = torch.optim.AdamW(net, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    for _ in range(FIT_STEPS):
        loss = (F.cross_entropy(_forward(net, features), labels, reduction="none") * weight).sum() / weight.sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    return net


def _forward(net: list[Tensor], features: Tensor) -> Tensor:
    hidden = torch.relu(features @ net[0] + net[1])
    hidden = torch.relu(hidden @ net[2] + net[3])
    return hidden @ net[4] + net[5]  # (M, K)
