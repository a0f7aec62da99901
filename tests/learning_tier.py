"""Which of the learning tests run. Those tests train for a minute or more, and each names the files it depends on.

In CI they run when such a file has changed since the last green commit, and of the rest a third, drawn by the commit's
hash, so that each comes round. The last green commit is ``$CI_LAST_GREEN`` if set; else where this branch left
``origin/main``; else, on ``main`` itself, the commit before. Without git or history they all run.
"""

import hashlib
import os
import subprocess
from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path


def choose(tests: Mapping[str, Collection[str]], changed: Collection[str] | None, commit: str) -> set[str]:
    """The tests to run.

    Args:
        tests: test id → patterns of the files it depends on.
        changed: paths that have changed since the last green commit; None if nobody knows, then all run.
        commit: what the third of the unchanged is drawn by.
    """
    if changed is None:
        return set(tests)
    return {test for test, patterns in tests.items() if touches(changed, patterns) or _drawn(test, commit)}


def touches(files: Iterable[str], patterns: Collection[str]) -> bool:
    """Whether any of ``files`` is one of the patterns: a path, a folder that holds it, or a glob."""
    return any(
        file == pattern or file.startswith(pattern.rstrip("/") + "/") or fnmatch(file, pattern)
        for file in files
        for pattern in patterns
    )


def _drawn(test: str, commit: str) -> bool:
    return int(hashlib.sha256(f"{commit} {test}".encode()).hexdigest(), 16) % 3 == 0


def head(root: Path) -> str:
    """The commit that is checked out; '' without git."""
    return _git(root, "rev-parse", "HEAD") or ""


def changed_files(root: Path) -> list[str] | None:
    """What differs between the last green commit and the files on disk; None if there is no such commit here."""
    green = last_green(root)
    names = _git(root, "diff", "--name-only", "--no-renames", green) if green else None
    return None if names is None else names.splitlines()


def last_green(root: Path) -> str | None:
    """The best guess that git allows, as the module's docstring says."""
    if named := os.environ.get("CI_LAST_GREEN"):
        return _git(root, "rev-parse", "--verify", "--quiet", f"{named}^{{commit}}")
    left = _git(root, "merge-base", "HEAD", "origin/main")
    if left and left != head(root):
        return left
    return _git(root, "rev-parse", "--verify", "--quiet", "HEAD^1")


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
