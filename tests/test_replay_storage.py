"""How the replay keeps things: dtypes, bytes, segments, and sampling that a CUDA graph can hold."""

import io

import pytest
import torch
from replay_world import GAMMA, UNEVEN, World, filled
from torch.utils._python_dispatch import TorchDispatchMode

from skillrl.data.packing import moved
from skillrl.data.replay import Replay
from skillrl.spec import Batch, Need


def images(replay: Replay, ticks: int, shape: tuple[int, ...] = (3, 16, 16)) -> None:
    """A step of two envs whose image is filled with the tick; episodes of 5."""
    for t in range(ticks):
        end, none = torch.full((2,), t % 5 == 4), torch.zeros(2, dtype=torch.bool)
        obs = torch.full((2, *shape), t, dtype=torch.uint8)
        replay.add(
            Batch(obs=obs, next_obs=obs + 1, action=torch.tensor([t, t + 1]), reward=torch.zeros(2), terminated=none,
                  truncated=end, first=torch.full((2,), t % 5 == 0), z=torch.eye(2), skill_step=torch.tensor([t, t]))
        )  # fmt: skip


def test_images_stay_uint8_and_are_stored_once() -> None:
    replay = Replay(200, 2)
    images(replay, 60)
    batch = replay.sample_one(Need("transitions", 300))
    assert batch["obs"].dtype == batch["next_obs"].dtype == torch.uint8 and batch["action"].dtype == torch.int64
    assert torch.equal(batch["next_obs"], batch["obs"] + 1)
    assert torch.equal(batch["obs"][:, 0, 0, 0].long(), batch["action"] - batch["z"][:, 1].long())
    assert replay.bytes_per_transition() < 3 * 16 * 16 + 64


def test_agents_axis_with_a_gamma_each() -> None:
    gamma = torch.tensor([0.5, 0.9, 0.99])
    replay = Replay(64, 2, gamma=gamma)
    for t in range(6):
        end, none = torch.tensor([t == 3, False]), torch.zeros(2, dtype=torch.bool)
        obs = torch.arange(24.0).reshape(2, 3, 4) + 100 * t
        replay.add(
            Batch(obs=obs, next_obs=obs + 100, action=torch.zeros(2, 3, 1), reward=torch.ones(2, 3) * t, terminated=end,
                  truncated=none, first=torch.tensor([t in (0, 4), t == 0]), z=torch.zeros(2, 3, 2),
                  skill_step=torch.zeros(2, dtype=torch.int64))
        )  # fmt: skip
    batch = replay.sample_one(Need("transitions", 200, future=0.9))
    assert batch["obs"].shape == batch["goal"].shape == (200, 3, 4) and batch["z"].shape == (200, 3, 2)
    assert torch.equal(batch["next_obs"], batch["obs"] + 100)
    assert batch["terminated"].any()
    assert torch.equal(batch["discount"], gamma * (1 - batch["terminated"].float())[:, None])


def test_observations_are_stored_once() -> None:
    replay, none = Replay(4000, 4), torch.zeros(4, dtype=torch.bool)
    obs, z = torch.zeros(4, 27), torch.zeros(4, dtype=torch.int64)
    rest = {"terminated": none, "truncated": none, "first": none, "z": z, "skill_step": z}
    step = Batch(obs=obs, next_obs=obs, action=torch.zeros(4, 8), reward=torch.zeros(4), **rest)
    replay.add(step)
    other = sum(value.nbytes for name, value in step.items() if "obs" not in name) / 4
    assert replay.bytes_per_transition() - other <= 0.6 * 2 * 27 * 4  # indexes are counted as observations here


class NoSync(TorchDispatchMode):
    """Refuses what a CUDA graph cannot hold: reading a value back, shapes that depend on values."""

    REFUSED = ("_local_scalar_dense", "nonzero", "masked_select", "_unique", "unique_dim", "repeat_interleave")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        assert func.__name__.split(".")[0] not in self.REFUSED, f"{func.__name__} in sampling"
        return func(*args, **(kwargs or {}))


def test_sampling_never_looks_at_values() -> None:
    _, replay = filled(100, 180)
    fixed = {
        "a": Need("transitions", 8, future=0.9), "b": Need("sequences", 8, 4), "c": Need("episodes", 8, 9),
        "d": Need("decisions", 8, 3),
    }  # fmt: skip
    with NoSync():
        replay.sample(fixed)
    with pytest.raises(AssertionError, match="_local_scalar_dense"), NoSync():
        replay.ready(fixed)


ALL = {
    "a": Need("transitions", 64, future=0.9),
    "b": Need("sequences", 32, 7),
    "c": Need("episodes", 16, 9),
    "d": Need("decisions", 64, 3),
    "e": Need("fresh", 1),
    "f": Need("fresh_decisions", 1),
}


def same(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for name, batch in one.items():
        assert batch.keys() == other[name].keys()
        for key, value in batch.items():
            assert torch.equal(value, other[name][key]), (name, key)


def restored(files: list[bytes]) -> Replay:
    replay = Replay(180, 3, gamma=GAMMA, seed=77)
    for content in files:
        saved = torch.load(io.BytesIO(content), weights_only=True)
        replay.load_segment(saved["segment"])
    replay.load_state_dict(saved["state"])
    return replay


@pytest.mark.parametrize("every", [1, 7, 23, 90])
def test_segments_and_state_restore_it_bit_for_bit(every: int) -> None:
    world = World(UNEVEN)
    replay = Replay(180, 3, gamma=GAMMA, seed=5)
    files, since = [], None
    for tick in range(1, 140):
        replay.add(*world.tick([True, tick % 3 > 0, True]))
        if tick % every == 0:
            file = io.BytesIO()
            torch.save({"segment": replay.segment(since), "state": replay.state_dict()}, file)
            files.append(file.getvalue())
            since = replay.state_dict()
        if tick % every == 0 and (every > 1 or tick in (7, 23, 49, 138)):
            same(replay.sample(ALL), restored(files).sample(ALL))
    saved = {"segment": replay.segment(since), "state": replay.state_dict()}
    torch.save(saved, file := io.BytesIO())
    again = restored([*files, file.getvalue()])
    for tick in range(80):  # and it goes on alike, through another wrap
        step = world.tick([True, True, True])
        replay.add(*step)
        again.add(*step)
        if tick % 10 == 9:
            same(replay.sample(ALL), again.sample(ALL))


def test_a_segment_costs_what_is_new() -> None:
    world, replay = filled(100, 600)
    since, rows = replay.state_dict(), []
    for ticks in (10, 40):
        for _ in range(ticks):
            replay.add(*world.tick())
        rows.append(len(replay.segment(since)["steps/env"]))
        since = replay.state_dict()
    # a slot each step, one for each final observation, and the pending one of each env
    assert rows[0] <= 10 * 3 * 2 + 3 and 3 * rows[0] < rows[1] <= 40 * 3 * 2 + 3
    nothing = replay.segment(since)
    assert len(nothing["steps/env"]) == 3 and len(nothing["transitions/env"]) == 0
    for _ in range(500):
        replay.add(*world.tick())
    assert len(replay.segment(since)["steps/env"]) == 600
    assert replay.expired(since) and not replay.expired(replay.state_dict())


def test_a_state_from_before_there_were_fresh_decisions_loads() -> None:
    _, replay = filled(20, 180)
    state = {name: value for name, value in replay.state_dict().items() if name != "fresh_decisions_from"}
    again = Replay(180, 3)
    again.load_segment(replay.segment())
    again.load_state_dict(state)
    assert again.ready({"a": Need("fresh_decisions", 1)}) and not replay.fresh_decisions_from.any()
    with pytest.raises(KeyError, match="fresh_from"):
        again.load_state_dict({name: value for name, value in state.items() if name != "fresh_from"})


def test_bad_requests_are_one_clear_line() -> None:
    replay = Replay(60, 3)
    assert not replay.ready({"a": Need("transitions")})
    for need, words in (
        (Need("transitions"), "no transitions can be sampled"),
        (Need("sequences", future=0.9), "future=0.9"),
        (Need("transitions", future=1.0), r"must be in \[0, 1\)"),
    ):
        with pytest.raises(ValueError, match=words):
            replay.sample_one(need)
    with pytest.raises(ValueError, match="at least 4"):
        Replay(9, 3)
    with pytest.raises(ValueError, match="num_envs"):
        replay.load_state_dict(Replay(90, 3).state_dict())
    world, replay = filled(3, 60)
    step, decisions = world.tick()
    with pytest.raises(ValueError, match="log_prob"):
        replay.add(step.replace(log_prob=torch.zeros(3)), decisions)


def test_what_moves_to_a_device_is_packed_and_unpacked():
    """On the meta device only shapes and dtypes are left; that the bytes are right is for a test on a GPU."""
    values = {
        "flag": torch.tensor([True, False, True]),
        "obs": torch.arange(6, dtype=torch.float32).reshape(3, 2),
        "count": torch.arange(3),
        "pixel": torch.zeros(3, 5, dtype=torch.uint8),
        "there": torch.zeros(3, device="meta"),
    }
    found = moved(values, torch.device("meta"))
    assert list(found) == list(values)
    for name, value in values.items():
        assert found[name].device.type == "meta" and (found[name].shape, found[name].dtype) == (
            value.shape,
            value.dtype,
        )
