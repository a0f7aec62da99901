"""Equality of what an env gives and keeps."""

from typing import Any

import numpy as np


def assert_same(left: Any, right: Any) -> None:
    """Equal bit for bit, through dicts and tuples."""
    if isinstance(left, dict):
        assert set(left) == set(right)
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, (tuple, list)):
        assert len(left) == len(right)
        for a, b in zip(left, right, strict=True):
            assert_same(a, b)
    else:
        assert np.asarray(left).dtype == np.asarray(right).dtype
        assert np.array_equal(left, right)
