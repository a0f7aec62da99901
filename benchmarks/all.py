"""All benchmarks one after the other, then docs/performance.md from them. About 15 minutes; let nothing else run.

python benchmarks/all.py [--rounds N]
"""

import subprocess
import sys
import time

import torch
from measured import HERE
from page import ON_CPU, SCRIPTS


def main() -> int:
    begun, failed = time.perf_counter(), []
    for name in SCRIPTS if torch.cuda.is_available() else ON_CPU:
        print(f"\n== {name} ({(time.perf_counter() - begun) / 60:.1f} min)", flush=True)
        if subprocess.run([sys.executable, HERE / f"{name}.py", *sys.argv[1:]]).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}; the page stays as it is")
        return 1
    return subprocess.run([sys.executable, HERE / "page.py"]).returncode


if __name__ == "__main__":
    sys.exit(main())
