"""Datasets: out of a replay and into another without loss, other people's layouts, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from replay_world import UNEVEN, check_steps, filled, keys_of, live
from same import assert_same

from skillrl.data.dataset import Dataset, deal
from skillrl.data.replay import Replay
from skillrl.spec import Discrete, Field, Need, Spec

SPEC = Spec(Field((3,), names={"key": (0, 3)}, views={"key": ("key",)}), Field((1,)), horizon=40)


def through_a_file(replay: Replay, folder: Path) -> Dataset:
    return Dataset.load(Dataset.of(replay, SPEC).save(folder / "data.npz", about={"seed": 0}))


# ---- out of a replay, into another


@pytest.mark.parametrize(("ticks", "capacity", "waits"), [(60, 600, False), (60, 600, True), (500, 180, False)])
@pytest.mark.parametrize("rows", [None, 1, 2, 7])
def test_every_step_comes_through_as_it_was(ticks: int, capacity: int, waits: bool, rows: int | None, tmp_path: Path):
    """The third replay has forgotten the beginnings of some episodes; all have episodes that are under way."""
    world, replay = filled(ticks, capacity, waits=waits)
    dataset = through_a_file(replay, tmp_path)
    assert dataset.spec == SPEC and dataset.digest() == Dataset.of(replay, SPEC).digest()
    again = dataset.replay(gamma=0.9, num_envs=rows, seed=3)
    batch, lengths = again.contents()
    check_steps(world, batch.replace(first=batch["obs"][:, 2] == 0))
    steps = keys_of(batch["obs"])
    assert len(steps) == len(set(steps)) and set(steps) == live(world, capacity // 3)
    starts = lengths.cumsum(0) - lengths
    for start, length in zip(starts.tolist(), lengths.tolist()):  # whole stretches of one episode, in order
        env, episode, t = steps[start]
        assert steps[start : start + length] == [(env, episode, t + i) for i in range(length)]
        assert batch["first"][start : start + length].tolist() == [True] + [False] * (length - 1)
    assert sorted(lengths.tolist()) == sorted(dataset.lengths.tolist())


def test_sequences_episodes_and_goals_of_a_filled_replay(tmp_path: Path):
    world, replay = filled(90, 900)
    again = through_a_file(replay, tmp_path).replay(gamma=0.9)
    sequences = again.sample_one(Need("sequences", 200, length=6))
    check_steps(world, sequences, sequences["mask"])
    for row, first, mask in zip(sequences["obs"], sequences["first"], sequences["mask"]):
        keys = keys_of(row)
        for before, after, begins, real in zip(keys, keys[1:], first[1:], mask[1:]):
            assert not real or begins or after == (*before[:2], before[2] + 1)
    episodes = again.sample_one(Need("episodes", 100, length=40))
    for row, mask in zip(episodes["obs"], episodes["mask"]):
        env, episode, t = keys_of(row)[0]
        under_way = episode == world.episode[env]  # in data, an episode is as long as it is
        assert (t, int(mask.sum())) == (0, world.t[env] if under_way else world.length(env, episode))
    goals = again.sample_one(Need("transitions", 500, future=0.9))
    for (env, episode, t), goal in zip(keys_of(goals["obs"]), keys_of(goals["goal"])):
        assert goal[:2] == (env, episode) and goal[2] > t


def test_the_file_is_plain_arrays_that_explain_themselves(tmp_path: Path):
    _, replay = filled(60, 600)
    path = Dataset.of(replay, SPEC).save(tmp_path / "new" / "data.npz", about={"env": {"_target_": "x"}})
    with np.load(path, allow_pickle=False) as file:
        assert set(file.files) == {
            *("observations", "actions", "rewards", "terminated", "truncated", "z", "skill_step"),
            *("final_observations", "episode_lengths", "metadata"),
        }
        metadata = json.loads(str(file["metadata"]))
        lengths, ends = file["episode_lengths"], file["episode_lengths"].cumsum() - 1
        assert len(file["observations"]) == len(file["actions"]) == lengths.sum() == len(replay)
        expected = file["observations"][ends] + [0, 0, 1]  # the world counts on
        assert np.array_equal(file["final_observations"], expected)
    assert metadata["format"] == "skillrl dataset" and metadata["about"] == {"env": {"_target_": "x"}}
    assert metadata["spec"]["obs"]["names"] == {"key": [0, 3]} and metadata["spec"]["action"]["shape"] == [1]


def test_filling_is_deterministic_and_even(tmp_path: Path):
    loads = [sum([5, 9, 2, 7, 7, 3][e] + 1 for e in row) for row in deal([5, 9, 2, 7, 7, 3], 3)]
    assert max(loads) - min(loads) <= 3
    dataset = through_a_file(filled(60, 600)[1], tmp_path)
    draws = [dataset.replay(seed=1).sample_one(Need("transitions", 64)) for _ in range(2)]
    assert_same(draws[0], draws[1])


def test_a_smaller_replay_keeps_the_newest(tmp_path: Path):
    dataset = through_a_file(filled(60, 600)[1], tmp_path)
    small = Replay(60, 2)
    dataset.fill(small)
    assert 20 < len(small) < 60 < len(dataset)


def test_an_empty_replay_is_no_dataset():
    with pytest.raises(ValueError, match="holds no transitions"):
        Dataset.of(Replay(100, 2), SPEC)


# ---- what is refused


def arrays() -> dict[str, np.ndarray]:
    _, replay = filled(12, 600, UNEVEN)
    dataset = Dataset.of(replay, SPEC)
    names = {"obs": "observations", "action": "actions", "reward": "rewards"}
    found = {names.get(name, name): value.numpy().copy() for name, value in dataset.steps.items()}
    found["actions"] /= 100
    found |= {"final_observations": dataset.final_obs.numpy(), "episode_lengths": dataset.lengths.numpy()}
    told = {"format": "skillrl dataset", "version": 1, "spec": None, "about": {}}
    return found | {"metadata": np.array(json.dumps(told))}


def changed(name: str, index: Any, value: Any) -> dict[str, np.ndarray]:
    whole = arrays()
    whole[name][index] = value
    return whole


def as_type(dtype: type) -> dict[str, np.ndarray]:
    """With observations of another type."""
    whole = arrays()
    return whole | {name: whole[name].astype(dtype) for name in ("observations", "final_observations")}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: {k: v for k, v in arrays().items() if k != "rewards"}, "rewards missing: it has actions"),
        (lambda: changed("rewards", 3, np.nan), "rewards is not finite at entry 3"),
        (lambda: changed("final_observations", 0, np.inf), "final_observations is not finite at entry 0"),
        (lambda: changed("terminated", 0, True), "terminated is true at step 0, which is not the last"),
        (lambda: arrays() | {"z": np.zeros(3)}, r"z has shape \(3,\): the episodes have"),
        (lambda: arrays() | {"episode_lengths": np.ones(2)}, "must be int64"),
        (lambda: arrays() | {"final_observations": np.zeros((1, 3), np.float32)}, "need one each"),
        (lambda: arrays() | {"terminated": np.zeros(36)}, "it must be bool"),
        (lambda: arrays() | {"note": np.array(["text"])}, "note is of type <U4: it must hold numbers"),
        (lambda: arrays() | {"metadata": np.array("{}")}, "this version reads 'skillrl dataset' 1"),
        (lambda: arrays() | {"metadata": np.array("[")}, "metadata are no JSON object"),
        (lambda: arrays() | {"actions": arrays()["actions"] * 100}, r"reach 36: they must be scaled to \[-1, 1\]"),
        (lambda: arrays() | {"actions": np.zeros((36, 2), np.float32)}, r"float32 \(2,\), env wants float32 \(1,\)"),
        (lambda: as_type(np.uint8), "are torch.uint8, those of env torch.float32"),
        (lambda: {"observations": np.zeros((4, 3))}, "actions, terminals missing"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(make: Any, said: str, tmp_path: Path):
    np.savez(tmp_path / "data.npz", **make())
    with pytest.raises(ValueError, match=said) as error:
        Dataset.load(tmp_path / "data.npz", SPEC)
    assert str(error.value).startswith(f"{tmp_path / 'data.npz'}: ") and "\n" not in str(error.value)


def test_another_env_is_refused(tmp_path: Path):
    dataset = Dataset.of(filled(12, 600)[1], SPEC)
    with pytest.raises(ValueError, match=r"shape \(3,\), those of env \(4,\)"):
        dataset.fit(Spec(Field((4,)), Field((1,))))
    with pytest.raises(ValueError, match=r"made up of key \(3\), those of env of a \(1\), b \(2\)"):
        dataset.fit(Spec(Field((3,), names={"a": (0, 1), "b": (1, 3)}), Field((1,))))
    with pytest.raises(ValueError, match=r"env wants int64 \(\) of 0 to 2"):
        dataset.fit(Spec(Field((3,)), Discrete(3)))


def test_a_file_runs_no_code(tmp_path: Path):
    np.savez(tmp_path / "evil.npz", **arrays(), evil=np.array([{"a": 1}], dtype=object))
    (tmp_path / "text.npz").write_text("no zip")
    for name in ("evil", "text", "none"):
        with pytest.raises(ValueError, match=r"is no (\.npz|file)") as error:
            Dataset.load(tmp_path / f"{name}.npz")
        assert "\n" not in str(error.value)


# ---- other people's layouts

OBS = np.arange(8.0)[:, None] * [1.0, 10.0]  # (8, 2), float64
FLAT = {"observations": OBS, "actions": np.linspace(-1, 1, 8)[:, None]}
PLANE = Spec(Field((2,)), Field((1,)))


def of(tmp_path: Path, **more: Any) -> Dataset:
    np.savez(tmp_path / "data.npz", **FLAT, **{name: np.asarray(value) for name, value in more.items()})
    return Dataset.load(tmp_path / "data.npz", PLANE)


def test_ogbench(tmp_path: Path):
    """The last entry of a trajectory is the state in which it ended, and no more."""
    dataset = of(tmp_path, terminals=[0, 0, 0, 1, 0, 0, 0, 1], qpos=np.zeros((8, 9)))
    assert dataset.lengths.tolist() == [3, 3] and dataset.absent == {"reward"}
    assert dataset.steps["obs"][:, 0].tolist() == [0, 1, 2, 4, 5, 6] and dataset.steps["obs"].dtype == torch.float32
    assert dataset.final_obs[:, 1].tolist() == [30, 70]
    assert not dataset.steps["terminated"].any() and dataset.steps["truncated"].tolist() == [False, False, True] * 2
    assert torch.allclose(dataset.steps["action"][:, 0], torch.tensor(FLAT["actions"][[0, 1, 2, 4, 5, 6], 0]).float())


def test_ogbench_with_masks_ends_an_episode_inside_a_trajectory(tmp_path: Path):
    dataset = of(tmp_path, terminals=[0, 0, 0, 0, 0, 0, 0, 1], masks=[1, 1, 0, 1, 1, 1, 1, 1], rewards=range(8))
    assert dataset.lengths.tolist() == [3, 4] and dataset.final_obs[:, 0].tolist() == [3, 7]
    assert dataset.steps["terminated"].tolist() == [False, False, True, False, False, False, False]
    assert dataset.steps["truncated"].nonzero().tolist() == [[6]]
    assert dataset.steps["reward"].tolist() == [0, 1, 2, 3, 4, 5, 6] and not dataset.absent


def test_d4rl_with_next_observations_keeps_every_step(tmp_path: Path):
    following = OBS + np.array([1.0, 10.0])
    flags = {"terminals": [0, 0, 1, 0, 0, 0, 0, 0], "timeouts": [0, 0, 0, 0, 0, 1, 0, 0]}
    dataset = of(tmp_path, next_observations=following, rewards=range(8), **flags)
    assert dataset.lengths.tolist() == [3, 3, 2] and dataset.final_obs[:, 0].tolist() == [3, 6, 8]
    assert dataset.steps["terminated"].nonzero().tolist() == [[2]]
    assert dataset.steps["truncated"].nonzero().tolist() == [[5], [7]]
    following[3] += 100  # that step led elsewhere than to the entry after it
    jumped = of(tmp_path, next_observations=following, rewards=range(8), **flags)
    assert jumped.lengths.tolist() == [3, 1, 2, 2] and jumped.final_obs[1].tolist() == [104, 140]


def test_d4rl_without_next_observations(tmp_path: Path):
    flags = {"rewards": range(8), "timeouts": [0, 0, 0, 1, 0, 0, 0, 0]}
    dataset = of(tmp_path, terminals=[0] * 8, **flags)
    assert dataset.lengths.tolist() == [3, 3] and dataset.final_obs[:, 0].tolist() == [3, 7]
    with pytest.raises(ValueError, match="terminates at entry 6, and there are no next_observations"):
        of(tmp_path, terminals=[0, 0, 0, 0, 0, 0, 1, 0], **flags)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"terminals": [0] * 8, "rewards": range(8)}, "terminals alone do not say"),
        ({"terminals": [0] * 7}, r"terminals has shape \(7,\)"),
        ({"terminals": [0, 2] * 4}, "it must be"),
        ({"terminals": [1] * 8}, "each of its trajectories is a single state"),
        ({"terminals": [0] * 8, "next_observations": np.zeros((8, 3))}, r"next_observations has shape \(8, 3\)"),
    ],
)
def test_a_layout_that_does_not_say_enough(more: dict[str, Any], said: str, tmp_path: Path):
    with pytest.raises(ValueError, match=said):
        of(tmp_path, **more)


def test_the_python_use_in_the_docs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    text = (Path(__file__).parents[1] / "docs" / "data.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(code.replace("50_000", "400").replace("Schedule(10_000)", "Schedule(3)"), "data.md", "exec"), names)
    assert len(names["data"]) == 400
