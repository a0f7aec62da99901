"""Where training has been: the distinct cells of the env's coverage, what CSF and METRA draw as total coverage."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


class Visited:
    """Counts the cells of an env's ``metadata["coverage"]`` that any step of training led to; starts are no steps.

    Args:
        key: of the info that holds the coordinates, (N,) or (N, D).
        cell: side of a cell, in the coordinates' unit.
    """

    def __init__(self, key: str, cell: float):
        self.key, self.cell = f"info/{key}", cell
        self.cells: set[tuple[int, ...]] = set()

    def __len__(self) -> int:
        return len(self.cells)

    def add(self, step: Mapping[str, Tensor]) -> None:
        """One tick of the collector; rows that waited were nowhere."""
        at = step[self.key].numpy()[step["active"].numpy()]
        cells = np.floor(at.astype(np.float64) / self.cell).astype(np.int64)
        self.cells.update(map(tuple, cells.reshape(len(at), -1).tolist()))

    def state_dict(self) -> dict[str, Tensor]:
        return {"cells": torch.from_numpy(np.array(sorted(self.cells), dtype=np.int64))}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.cells = set(map(tuple, state["cells"].tolist()))


def visited(env: Any) -> Visited | None:
    """None where the env names no coverage."""
    coverage = env.metadata.get("coverage")
    return None if coverage is None else Visited(coverage["key"], coverage["cell"])
