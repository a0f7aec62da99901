"""What a vector env tells beside observation and reward: Gymnasium's infos, of which the numbers are kept."""

from typing import Any

import numpy as np


def numeric(info: dict[str, Any], n: int) -> dict[str, Any]:
    """The arrays in it with a row of numbers for each of ``n`` rows."""
    return {key: value for key, value in info.items() if _is_rows(value, n)}


def of_step(info: dict[str, Any], n: int) -> dict[str, np.ndarray]:
    """Those of the state that a step led to: the final one's where an episode ended."""
    last, ended = info.get("final_info", {}), info.get("_final_obs")
    values = {}
    for key, value in numeric(info, n).items():
        if key.startswith("_") or key == "final_obs":
            continue
        if ended is not None and _is_rows(last.get(key), n):
            value = np.where(ended.reshape(ended.shape + (1,) * (value.ndim - 1)), last[key], value)
        values[key] = value
    return values


def _is_rows(value: Any, n: int) -> bool:
    return isinstance(value, np.ndarray) and value.dtype != object and value.shape[:1] == (n,)
