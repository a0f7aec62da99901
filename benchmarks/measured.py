"""What a benchmark measured, as a CSV, and where and how that was."""

import csv
import importlib.util
import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))  # skillrl, envs and train of this checkout, wherever a script is started from

Row = dict[str, Any]
PEERS = {"sbx": "sbx-rl", "envpool": "envpool", "jax": "jax"}  # module → distribution


@dataclass
class Results:
    """A CSV: ``about`` stands in its first line."""

    about: dict[str, Any]
    rows: list[Row] = field(default_factory=list)

    def write(self, path: Path) -> None:
        keys = list(dict.fromkeys(key for row in self.rows for key in row))
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            file.write(f"# {json.dumps(self.about)}\n")
            writer = csv.DictWriter(file, keys, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)

    @classmethod
    def read(cls, path: Path) -> "Results":
        with path.open(newline="") as file:
            about = json.loads(file.readline().removeprefix("# "))
            return cls(about, [{key: _number(value) for key, value in row.items()} for row in csv.DictReader(file)])


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def about_this(skipped: Sequence[str]) -> dict[str, Any]:
    """What a speed depends on, and the command. No host name, no paths."""
    from skillrl.runtime import record

    whole = record(cwd=ROOT)
    status = ["git", "status", "--porcelain", "--", "*.py", "*.yaml"]
    changed = subprocess.run(status, cwd=ROOT, capture_output=True, text=True).stdout
    peers = {name: metadata.version(name) for module, name in PEERS.items() if is_installed(module)}
    return {
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "date": whole["started"],
        "commit": (whole["git"] or {}).get("commit"),
        "dirty": bool(changed),
        "machine": {key: value for key, value in whole["machine"].items() if key != "host"},
        "versions": {name: version for name, version in (whole["versions"] | peers).items() if version},
        "skipped": list(skipped),
    }


def is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
