"""Data of others: the layouts of OGBench and D4RL, saved as .npz.

Both are flat: ``observations``, ``actions`` and ``terminals`` of all trajectories, end to end. They differ in what
``terminals`` means, which the other arrays tell:

- with ``timeouts`` (D4RL): an episode terminated; ``timeouts`` are where one was cut.
- with ``masks`` (OGBench's agents): a trajectory ends; ``masks`` are 0 where an episode terminated.
- with neither, and without rewards (OGBench's files): a trajectory ends. None terminated.

Without ``next_observations`` the last entry of a trajectory is only the state in which it ended: its action led to
something that the file does not have.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Episodes:
    """What a Dataset is made of: steps (S, ...) by a Batch's names, final_obs (E, ...), lengths (E,)."""

    steps: dict[str, np.ndarray]
    final_obs: np.ndarray
    lengths: np.ndarray
    absent: frozenset[str]


def read_layout(arrays: Arrays) -> Episodes:
    """Errors: ValueError of one line."""
    if missing := [name for name in ("observations", "actions", "terminals") if name not in arrays]:
        raise ValueError(f"{', '.join(missing)} missing: it has {', '.join(sorted(arrays)) or 'nothing'}")
    count = len(arrays["observations"]) if arrays["observations"].ndim else 0
    known = ("actions", "terminals", "rewards", "timeouts", "masks", "next_observations")
    for name in [name for name in known if name in arrays]:
        if arrays[name].shape[:1] != (count,):
            raise ValueError(f"{name} has shape {arrays[name].shape}, observations {arrays['observations'].shape}")
    if count == 0:
        raise ValueError("it holds no steps")
    last, terminated = _ends(arrays)
    obs = arrays["observations"]
    if "next_observations" in arrays:
        following, keep = arrays["next_observations"], np.ones(count, dtype=bool)
        if following.shape != obs.shape:
            raise ValueError(f"next_observations has shape {following.shape}, observations {obs.shape}")
        jumps = (following[:-1] != obs[1:]).reshape(count - 1, -1).any(1)
        ends = last | terminated | np.append(jumps, True)
    else:
        following, keep = np.concatenate([obs[1:], obs[:1]]), ~last
        if (terminated & last).any():
            at = int(np.flatnonzero(terminated & last)[0])
            raise ValueError(f"an episode terminates at entry {at}, and there are no next_observations to say in what")
        ends = terminated | np.append(last[1:], True)
    return _episodes(arrays, keep, ends & keep, terminated, following)


def _ends(arrays: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """(N,) bool: the last entries of trajectories, and where episodes terminated."""
    terminals = _flags("terminals", arrays)
    if "timeouts" in arrays:
        last, terminated = terminals | _flags("timeouts", arrays), terminals
    elif "masks" in arrays:
        last, terminated = terminals.copy(), ~_flags("masks", arrays)
    elif "rewards" in arrays:
        raise ValueError(
            "terminals alone do not say whether an episode terminated or was cut: timeouts (as in D4RL) or "
            "masks (as in OGBench) are missing"
        )
    else:
        last, terminated = terminals.copy(), np.zeros(len(terminals), dtype=bool)
    last[-1] = True
    return last, terminated


def _flags(name: str, arrays: Arrays) -> np.ndarray:
    values = arrays[name]
    if values.ndim != 1 or not np.isin(values, (0, 1)).all():
        raise ValueError(f"{name} is {values.dtype} {values.shape}: it must be (N,), of 0 and 1")
    return values.astype(bool)


def _episodes(
    arrays: Arrays, keep: np.ndarray, ends: np.ndarray, terminated: np.ndarray, following: np.ndarray
) -> Episodes:
    """Of the entries to ``keep``; what ends without having terminated was cut."""
    if not keep.any():
        raise ValueError("it holds no steps: each of its trajectories is a single state")
    rewards = arrays.get("rewards", np.zeros(len(keep)))
    actions = arrays["actions"]
    steps = {
        "obs": arrays["observations"][keep],
        "action": actions[keep].astype(np.int64 if actions.dtype.kind in "iu" else np.float32),
        "reward": rewards[keep].astype(np.float32),
        "terminated": terminated[keep],
        "truncated": (ends & ~terminated)[keep],
    }
    lengths = np.diff(np.flatnonzero(ends[keep]), prepend=-1).astype(np.int64)
    absent = frozenset() if "rewards" in arrays else frozenset({"reward"})
    return Episodes(steps, following[ends], lengths, absent)
