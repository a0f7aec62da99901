"""Gates of the learning tests; what was measured is kept on request, and docs/results/checks.md is made of it."""

import csv
import operator
from pathlib import Path

COLUMNS = ("check", "seed", "measure", "value", "gate")
RELATIONS = {">=": operator.ge, "<": operator.lt, "<=": operator.le, ">": operator.gt}


class Check:
    """One test's measurements, for one seed: ``check({"radius": (9.9, ">= 8")})`` fails where a gate does not hold."""

    def __init__(self, name: str, seed: int, kept: Path | None):
        self.name, self.seed, self.kept = name, seed, kept

    def __call__(self, measured: dict[str, tuple[float, str]]) -> None:
        if self.kept is not None:
            self.keep(measured)
        failed = {
            name: f"{value:.4g}, not {gate}" for name, (value, gate) in measured.items() if not holds(value, gate)
        }
        assert not failed, failed

    def keep(self, measured: dict[str, tuple[float, str]]) -> None:
        assert self.kept is not None
        rows = list(csv.DictReader(self.kept.open(newline=""))) if self.kept.exists() else []
        mine = [
            dict(zip(COLUMNS, (self.name, str(self.seed), name, f"{value:.4g}", gate), strict=True))
            for name, (value, gate) in measured.items()
        ]
        rows = [row for row in rows if (row["check"], row["seed"]) != (self.name, str(self.seed))] + mine
        self.kept.parent.mkdir(parents=True, exist_ok=True)
        with self.kept.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(sorted(rows, key=lambda row: (row["check"], int(row["seed"]))))


def holds(value: float, gate: str) -> bool:
    relation, limit = gate.split()
    return bool(RELATIONS[relation](value, float(limit)))
