"""Where training has been."""

from types import SimpleNamespace

import torch

from skillrl.data.visited import Visited, visited
from skillrl.spec import Batch


def step(*places: tuple[float, ...], active: list[bool] | None = None) -> Batch:
    at = torch.tensor(places, dtype=torch.float64)
    return Batch({"info/xy": at, "active": torch.tensor(active or [True] * len(at))})


def test_cells_are_counted_once_and_rows_that_wait_not_at_all():
    seen = Visited("xy", 0.5)
    seen.add(step((0.1, 0.1), (0.4, 0.4), (-0.1, 0.1)))
    assert len(seen) == 2 and (-1, 0) in seen.cells
    seen.add(step((0.6, 0.1), (9.0, 9.0), active=[True, False]))
    assert seen.cells == {(0, 0), (-1, 0), (1, 0)}


def test_it_goes_on_where_it_was():
    seen, again = Visited("xy", 1.0), Visited("xy", 1.0)
    seen.add(step((3.2, -4.7), (0.0, 0.0)))
    again.load_state_dict(seen.state_dict())
    assert again.cells == seen.cells == {(3, -5), (0, 0)}
    again.load_state_dict(Visited("xy", 1.0).state_dict())
    assert not again


def test_one_coordinate_is_enough_and_none_is_none():
    seen = Visited("x", 1.0)
    seen.add(Batch({"info/x": torch.tensor([0.5, 1.5]), "active": torch.tensor([True, True])}))
    assert seen.cells == {(0,), (1,)}
    assert visited(SimpleNamespace(metadata={"coverage": None})) is None
