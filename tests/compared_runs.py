"""Many runs made of one: its files, copied, with another seed, config and numbers."""

import csv
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml


def copy_run(
    real: Path,
    folder: Path,
    *,
    seed: int = 0,
    config: Mapping[str, Any] | None = None,
    scores: Mapping[str, Any] | None = None,
    status: str = "finished",
    started: str = "2030-01-01T00:00:00+00:00",
    curves: Mapping[str, Callable[[float], float]] | None = None,
) -> Path:
    """config: dotted key → value. curves: column → its value by env steps, where the run has one."""
    (folder / "eval").mkdir(parents=True)
    changed = yaml.load((real / "config.yaml").read_text(), yaml.CSafeLoader) | {"seed": seed}
    for key, value in (config or {}).items():
        *above, last = key.split(".")
        node = changed
        for part in above:
            node = node[part]
        node[last] = value
    (folder / "config.yaml").write_text(yaml.dump(changed, Dumper=yaml.CSafeDumper, sort_keys=False))
    record = json.loads((real / "run.json").read_text()) | {"status": status, "started": started}
    (folder / "run.json").write_text(json.dumps(record))
    measured = json.loads((real / "eval" / "metrics.json").read_text()) | dict(scores or {})
    (folder / "eval" / "metrics.json").write_text(json.dumps(measured))
    if not curves:
        shutil.copy(real / "metrics.csv", folder / "metrics.csv")
        return folder
    with (real / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row |= {name: repr(of(float(row["env_steps"]))) for name, of in curves.items() if row[name]}
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return folder
