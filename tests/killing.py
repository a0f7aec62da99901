"""Runs train.py's main in processes that end where they are told to. A script: ``python killing.py '<json>'``.

The JSON is a list of [arguments, how, where]. how: "kill" (-9) or "stop" (SIGTERM) or "interrupt" (SIGINT), each at the
moment before a file whose path ends with ``where`` is put in its place (killed, it leaves half of the file beside it);
with "after " before it, the moment after; "" lets the run end. For each, one line of JSON is printed: its exit code
(minus the signal that killed it), how many workers it had at the end, and which of them were alive 5 s later.

Each run is a fork of this process, which saves importing everything again.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import skillrl.run  # noqa: F401
import train

SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGTERM, "interrupt": signal.SIGINT}


def arm(how: str, where: str, report: int) -> None:
    """Make this process end itself at that moment."""
    replace, number = os.replace, SIGNALS[how.removeprefix("after ")]

    def armed(source: object, target: object) -> None:
        hit = str(target).endswith(where)
        if hit and how.startswith("after "):
            replace(source, target)
        if hit:
            os.write(report, json.dumps(children()).encode())
            if number == signal.SIGKILL and not how.startswith("after "):
                os.truncate(source, os.path.getsize(source) // 2)
            os.kill(os.getpid(), number)
        if not (hit and how.startswith("after ")):
            replace(source, target)

    os.replace = armed  # type: ignore[assignment]


def children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def run(arguments: list[str], how: str, where: str) -> dict[str, object]:
    read, report = os.pipe()
    pid = os.fork()
    if pid == 0:
        sys.argv = ["train.py", *arguments]
        if how:
            arm(how, where, report)
        code = train.main()
        sys.stdout.flush()
        os._exit(code)
    os.close(report)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    workers = json.loads(os.read(read, 10_000) or b"[]")
    os.close(read)
    deadline = time.monotonic() + 5
    while (left := [worker for worker in workers if alive(worker)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return {"code": code, "workers": len(workers), "outlived": left}


if __name__ == "__main__":
    for job in json.loads(sys.argv[1]):
        print(json.dumps(run(*job)), flush=True)
