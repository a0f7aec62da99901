"""What the replay serves, against a log of what really happened."""

import pytest
import torch
from replay_world import World, check_steps, filled, keys_of, live

from skillrl.data.replay import Replay
from skillrl.spec import Batch, Need


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("ticks", [20, 61, 62, 63, 150, 400])
def test_transitions_are_those_that_happened_and_the_newest(ticks: int, waits: bool) -> None:
    world, replay = filled(ticks, 180, waits=waits)  # 60 slots an env
    batch = replay.sample_one(Need("transitions", 2500))
    check_steps(world, batch)
    assert batch["discount"].dtype == torch.float32
    assert set(keys_of(batch["obs"])) == live(world, 60)
    assert len(replay) == len(live(world, 60))
    episodes_of_one = [key for key in keys_of(batch["obs"]) if key[0] == 2 and key[1] % 2 == 0]
    assert episodes_of_one  # next_obs of a one-step episode was compared with its true final observation above


@pytest.mark.parametrize("need", [Need("transitions", 60_000), Need("sequences", 60_000, 4)])
def test_sampling_is_uniform_over_what_is_live(need: Need) -> None:
    world, replay = filled(400, 180)
    obs = replay.sample_one(need)["obs"]
    starts = keys_of(obs if obs.dim() == 2 else obs[:, 0])
    valid = live(world, 60)
    if need.length > 1:  # the last three of each env begin no whole sequence
        valid -= {key for order in world.order for key in order[-need.length + 1 :]}
    assert set(starts) == valid
    counts = torch.tensor([starts.count(key) for key in sorted(valid)], dtype=torch.float64)
    expected = len(starts) / len(valid)
    freedom = len(valid) - 1
    assert (((counts - expected) ** 2 / expected).sum() - freedom).abs() < 4 * (2 * freedom) ** 0.5


def test_rows_that_wait_are_not_written() -> None:
    world = World([[50], [50]])
    replay = Replay(100, 2)
    for active in ([True, True], [True, False], [True, False]):
        replay.add(*world.tick(active))
    assert set(keys_of(replay.sample_one(Need("transitions", 200))["obs"])) == {
        (0, 0, 0),
        (0, 0, 1),
        (0, 0, 2),
        (1, 0, 0),
    }
    assert len(replay) == 4


def test_an_episode_left_without_an_end_keeps_its_last_next_obs() -> None:
    world, replay = filled(4, 100, [[50]])
    world.episode[0], world.t[0], world.held[0] = 1, 0, 0  # a resumed env that starts afresh
    for _ in range(3):
        replay.add(*world.tick())
    batch = replay.sample_one(Need("transitions", 400, future=0.99))
    check_steps(world, batch.replace())
    assert set(keys_of(batch["obs"])) == {*((0, 0, t) for t in range(4)), *((0, 1, t) for t in range(3))}
    assert {key for key in keys_of(batch["goal"]) if key[1] == 0} == {(0, 0, t) for t in range(1, 5)}


def test_sequences_follow_one_env_across_episodes() -> None:
    world, replay = filled(200, 180)
    batch = replay.sample_one(Need("sequences", 500, 8))
    assert batch["obs"].shape == (500, 8, 3) and batch["mask"].all()
    check_steps(world, batch)
    for i in range(500):
        keys = keys_of(batch["obs"][i])
        order = world.order[keys[0][0]]
        at = order.index(keys[0])
        assert keys == order[at : at + 8]
    assert batch["first"][:, 1:].any()


def test_sequences_of_a_young_env_are_masked() -> None:
    world, replay = filled(3, 180, [[50]])
    batch = replay.sample_one(Need("sequences", 20, 5))
    assert batch["mask"].tolist() == [[True] * 3 + [False] * 2] * 20
    assert [keys_of(batch["obs"][i])[:3] for i in range(20)] == [world.order[0]] * 20
    assert torch.equal(batch["obs"][:, 3:], batch["obs"][:, 2:3].expand(-1, 2, -1))  # padding is finite and real


def test_episodes_are_whole_and_padded() -> None:
    world, replay = filled(200, 180)
    batch = replay.sample_one(Need("episodes", 600, 12))
    check_steps(world, batch)
    for i in range(600):
        env, episode, _ = keys_of(batch["obs"][i])[0]
        length = world.length(env, episode)
        assert batch["mask"][i].tolist() == [t < length for t in range(12)] or length > 12
        assert keys_of(batch["obs"][i])[: min(length, 12)] == [(env, episode, t) for t in range(min(length, 12))]
    kept = live(world, 60)
    whole = {key[:2] for key in kept if key[2] == 0 and key[1] < world.episode[key[0]]}
    assert {key[:2] for key in keys_of(batch["obs"][:, 0])} == whole


def test_fresh_is_served_once_and_in_order() -> None:
    world, replay = filled(7, 180)
    needs = {"rollout": Need("fresh", 1), "replayed": Need("transitions", 4, repeats=2)}
    replay.sample(needs)
    assert not replay.ready(needs)
    before = [len(order) for order in world.order]
    for _ in range(11):
        replay.add(*world.tick())
    assert replay.ready(needs)
    batches = replay.sample(needs)
    assert isinstance(batches["replayed"], list) and len(batches["replayed"]) == 2
    assert not torch.equal(batches["replayed"][0]["action"], batches["replayed"][1]["action"])
    fresh = batches["rollout"]
    assert isinstance(fresh, Batch) and fresh["obs"].shape == (3, 11, 3) and fresh["mask"].all()
    check_steps(world, fresh)
    assert [keys_of(row) for row in fresh["obs"]] == [order[b:] for order, b in zip(world.order, before)]
    replay.add(*world.tick([True, False, True]))
    replay.add(*world.tick([True, True, True]))
    fresh = replay.sample_one(Need("fresh", 1))
    assert fresh["mask"].tolist() == [[True, True], [True, False], [True, True]]
    check_steps(world, fresh)
    replay.mark_fresh()
    assert not replay.ready({"rollout": Need("fresh", 1)})


def test_fresh_is_ready_when_there_is_as_much_as_is_asked_for() -> None:
    world, replay = filled(0, 180)
    needs = {"steps": Need("fresh", 10), "choices": Need("fresh_decisions", 4)}
    ready = []
    for _ in range(8):  # 3 steps a tick; decisions last 3, or as long as an episode of 1 or 2
        replay.add(*world.tick())
        enough = 3 * (len(ready) + 1) >= 10 and len(world.decisions) >= 4
        ready.append(replay.ready(needs))
        assert ready[-1] == enough
    assert ready[0] is False and ready[-1] is True
    assert int(replay.sample(needs)["choices"]["mask"].sum()) == len(world.decisions)  # all, not only so many
    assert not replay.ready(needs)


def test_fresh_decisions_are_served_once_padded_and_in_order() -> None:
    world, replay = filled(7, 180)
    needs = {"choices": Need("fresh_decisions", 1, length=4)}
    replay.sample(needs)
    served = set(world.decisions)
    for ticks in (1, 11, 30):
        for _ in range(ticks):
            replay.add(*world.tick())
        new = [[key for key in order if key in world.decisions and key not in served] for order in world.order]
        batch = replay.sample(needs)["choices"]
        assert isinstance(batch, Batch) and batch["mask"].shape == (3, max(map(len, new)))
        for env, keys in enumerate(new):
            mask = batch["mask"][env]
            assert mask.tolist() == [i < len(keys) for i in range(len(mask))]
            assert keys_of(batch["obs"][env][mask]) == keys
            for i, key in enumerate(keys):
                decision = world.decisions[key]
                for name in ("z", "duration", "reward", "discount", "score"):
                    assert batch[name][env, i] == torch.tensor(decision[name]), name
                assert batch["step_mask"][env, i].tolist() == [t < decision["duration"] for t in range(4)]
                assert batch["next_obs"][env, i, 2] == key[2] + decision["duration"]
        assert all(value.float().isfinite().all() for value in batch.values())
        served = set(world.decisions)
        assert not replay.ready(needs)


def test_a_batch_of_rollouts_is_flattened_and_put_back() -> None:
    mask = torch.tensor([[True, True, False], [True, False, False]])
    batch = Batch(x=torch.arange(6.0).reshape(2, 3), y=torch.arange(12).reshape(2, 3, 2), mask=mask)
    flat = batch.flat()
    assert flat["x"].tolist() == [0, 1, 3] and flat["y"].tolist() == [[0, 1], [2, 3], [6, 7]] and "mask" not in flat
    assert batch.unflat(torch.tensor([5.0, 6.0, 7.0])).tolist() == [[5, 6, 0], [7, 0, 0]]
    assert batch.unflat(flat["y"]).shape == (2, 3, 2)
    assert flat.flat() is flat and flat.unflat(mask) is mask


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("ticks", [30, 300])
def test_decisions_with_their_steps(ticks: int, waits: bool) -> None:
    world, replay = filled(ticks, 180, waits=waits)
    batch = replay.sample_one(Need("decisions", 3000, 4))
    starts = keys_of(batch["obs"])
    for i, key in enumerate(starts):
        decision = world.decisions[key]
        k = decision["duration"]
        for name in ("z", "duration", "reward", "discount", "score"):
            assert batch[name][i] == torch.tensor(decision[name]), name
        last = world.log[(*key[:2], key[2] + k - 1)]
        for name in ("next_obs", "terminated", "truncated"):
            assert torch.equal(batch[name][i], last[name]), name
        assert batch["first"][i] == (key[2] == 0)
        assert batch["step_mask"][i].tolist() == [t < k for t in range(4)]
        assert keys_of(batch["step_obs"][i])[:k] == [(*key[:2], key[2] + t) for t in range(k)]
        assert torch.equal(batch["step_obs"][i, k:], batch["step_obs"][i, k - 1].expand(4 - k, -1))  # padding
        assert [a.item() for a in batch["step_action"][i, :k]] == [
            world.log[(*key[:2], key[2] + t)]["action"].item() for t in range(k)
        ]
    assert set(starts) == set(world.decisions) & live(world, 60)
    assert {world.decisions[key]["duration"] for key in starts} == {1, 2, 3}
    assert "step_obs" not in replay.sample_one(Need("decisions", 5))


def test_a_decision_whose_start_was_never_added_is_dropped() -> None:
    world = World([[2, 50]])
    replay = Replay(100, 1)
    world.tick()
    replay.add(*world.tick())  # its decision began a step before
    assert not replay.ready({"d": Need("decisions", 1)})
    for _ in range(3):
        replay.add(*world.tick())
    assert set(keys_of(replay.sample_one(Need("decisions", 50))["obs"])) == {(0, 1, 0)}


def test_future_goals_are_truncated_geometric() -> None:
    world, replay = filled(100, 3 * 300, [[12], [30], [200]])
    future = 0.8
    batch = replay.sample_one(Need("transitions", 60_000, future=future))
    seen: dict[tuple[int, int, int], list[int]] = {}
    for start, goal in zip(keys_of(batch["obs"]), keys_of(batch["goal"])):
        assert start[:2] == goal[:2]
        seen.setdefault(start, []).append(goal[2] - start[2])
    for start, ahead in seen.items():
        env, episode, t = start
        left = (world.length(env, episode) if episode < world.episode[env] else world.t[env]) - t
        assert min(ahead) >= 1 and max(ahead) <= left
    # in a closed episode; at its last step; in the open one, up to its newest observation
    for env, t, left in ((0, 2, 10), (0, 11, 1), (2, 95, 5)):
        ahead = [seen[key] for key in seen if key[0] == env and key[2] == t and (env == 2 or key[1] < world.episode[0])]
        steps = torch.tensor([k for some in ahead for k in some])
        weights = future ** torch.arange(left, dtype=torch.float64)
        counts = torch.bincount(steps - 1, minlength=left).double()
        expected = len(steps) * weights / weights.sum()
        assert len(counts) == left and len(steps) > 150
        assert ((counts - expected) ** 2 / expected).sum() <= (left - 1) + 4 * (2 * (left - 1)) ** 0.5
    nearest = replay.sample_one(Need("transitions", 500, future=0.0))
    assert torch.equal(nearest["goal"], nearest["next_obs"])


def test_future_goals_after_a_wrap_stay_in_their_episode() -> None:
    world, replay = filled(500, 180)
    batch = replay.sample_one(Need("transitions", 4000, future=0.97))
    for (env, episode, t), goal in zip(keys_of(batch["obs"]), keys_of(batch["goal"])):
        newest = world.length(env, episode) if episode < world.episode[env] else world.t[env]
        assert goal[:2] == (env, episode) and t < goal[2] <= newest
