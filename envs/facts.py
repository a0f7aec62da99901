"""The facts of an env that configs state and others read from `env.metadata`, checked."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from gymnasium.vector import AutoresetMode

from envs.task import positive


def metadata(
    *,
    horizon: int | None,
    widths: Mapping[str, int],
    parts: Collection[str],
    infos: Collection[str],
    views: Mapping[str, Sequence[str]],
    coverage: Mapping[str, Any] | None,
    record: Sequence[str],
    fps: int,
    exact_resume: bool,
) -> dict[str, Any]:
    """What stands in `env.metadata`.

    Args:
        horizon: env steps until truncation.
        widths: observed part -> its number of values, in the observation's order.
        parts: every part that could be observed.
        infos: every key of `info`.
        views: name -> parts. A view that needs a part which is not observed is left out.
        coverage: {"key": an info key, "cell": the side of a cell}, or None.
        record: info keys that a replay stores.
        fps: frames a second at which a video runs in real time.
        exact_resume: whether `load_state_dict` goes on bit for bit.

    Raises:
        ValueError: a name that does not exist, or a cell that is not above 0.
    """
    for view, chosen in views.items():
        known(f"views.{view}", chosen, parts)
    known("record", record, infos)
    if coverage is not None:
        if set(coverage) != {"key", "cell"}:
            raise ValueError(f"coverage={dict(coverage)!r}: must have exactly the entries key and cell")
        known("coverage.key", [coverage["key"]], infos)
        positive(**{"coverage.cell": coverage["cell"]})
    names: dict[str, list[int]] = {}
    start = 0
    for name, width in widths.items():
        names[name] = [start, start + width]
        start += width
    return {
        "autoreset_mode": AutoresetMode.SAME_STEP,
        "horizon": horizon,
        "obs_names": names,
        "views": {view: list(chosen) for view, chosen in views.items() if set(chosen) <= set(widths)},
        "coverage": None if coverage is None else {"key": coverage["key"], "cell": float(coverage["cell"])},
        "record": list(record),
        "render_modes": ["rgb_array"],
        "render_fps": fps,
        "exact_resume": exact_resume,
    }


def known(argument: str, names: Sequence[str], choices: Collection[str]) -> None:
    """ValueError unless `names` is a list of distinct members of `choices`."""
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise ValueError(f"{argument}={names!r}: must be a list of names out of {', '.join(choices)}")
    for name in names:
        if name not in choices:
            raise ValueError(f"{argument}: unknown name {name!r}; it must be one of {', '.join(choices) or '(none)'}")
    if len(set(names)) != len(names):
        raise ValueError(f"{argument}={list(names)!r}: a name stands there twice")
