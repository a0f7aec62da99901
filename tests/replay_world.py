"""A world that remembers what really happened: every observation says whose, which episode's and when it is."""

import torch

from skillrl.data.replay import Replay
from skillrl.spec import Batch

GAMMA = 0.9


class World:
    """Envs whose observation is (env, episode, t), whose skill is held for 3 steps, and which remember everything.

    lengths: the episode lengths of each env, in turn. Every second episode is truncated, the others terminate.
    """

    def __init__(self, lengths: list[list[int]]):
        self.lengths, self.num_envs = lengths, len(lengths)
        self.episode, self.t, self.held = ([0] * self.num_envs for _ in range(3))
        self.z = [0] * self.num_envs
        self.log: dict[tuple[int, int, int], dict] = {}  # (env, episode, t) → the step that began there
        self.order: list[list[tuple[int, int, int]]] = [[] for _ in lengths]
        self.decisions: dict[tuple[int, int, int], dict] = {}
        self.count = 0

    def length(self, env: int, episode: int) -> int:
        return self.lengths[env][episode % len(self.lengths[env])]

    def tick(self, active: list[bool] | None = None) -> tuple[Batch, Batch | None]:
        rows, decisions = [], []
        for env in range(self.num_envs):
            if active is not None and not active[env]:
                rows.append({key: torch.full_like(value, 99) for key, value in rows[0].items()})
                continue
            rows.append(self._step(env, decisions))
        batch = Batch({key: torch.stack([row[key] for row in rows]) for key in rows[0]})
        if active is not None:
            batch["active"] = torch.tensor(active)
        stacked = {key: torch.tensor([d[key] for d in decisions]) for key in decisions[0]} if decisions else None
        return batch, Batch(stacked) if stacked else None

    def _step(self, env: int, decisions: list[dict]) -> dict[str, torch.Tensor]:
        key = (env, self.episode[env], self.t[env])
        if self.held[env] == 0:
            self.z[env] += 7
        end = key[2] + 1 == self.length(env, key[1])
        self.count += 1
        step = {
            "obs": torch.tensor(key, dtype=torch.float32),
            "next_obs": torch.tensor((*key[:2], key[2] + 1), dtype=torch.float32),
            "action": torch.tensor([float(self.count)]),
            "reward": torch.tensor(self.count / 8),
            "terminated": torch.tensor(end and key[1] % 2 == 0),
            "truncated": torch.tensor(end and key[1] % 2 == 1),
            "first": torch.tensor(key[2] == 0),
            "z": torch.tensor(self.z[env]),
            "skill_step": torch.tensor(self.held[env]),
        }
        self.log[key] = step
        self.order[env].append(key)
        self.t[env], self.held[env] = key[2] + 1, self.held[env] + 1
        if end or self.held[env] == 3:
            start = (env, key[1], self.t[env] - self.held[env])
            decision = {
                "row": env, "z": self.z[env], "duration": self.held[env], "reward": float(self.count),
                "discount": GAMMA ** self.held[env] * (1 - float(step["terminated"])), "score": self.count * 2,
            }  # fmt: skip
            self.decisions[start] = decision
            decisions.append(decision)
            self.held[env] = 0
        if end:
            self.episode[env], self.t[env] = key[1] + 1, 0
        return step


UNEVEN = [[5, 1, 9], [40], [1, 2]]


def filled(ticks: int, capacity: int, lengths: list[list[int]] = UNEVEN, waits: bool = False) -> tuple[World, Replay]:
    world = World(lengths)
    replay = Replay(capacity, world.num_envs, gamma=GAMMA, seed=1)
    coin = torch.Generator().manual_seed(0)
    for _ in range(ticks):
        active = [True, *(torch.rand(world.num_envs - 1, generator=coin) < 0.6).tolist()] if waits else None
        replay.add(*world.tick(active))
    return world, replay


def keys_of(obs: torch.Tensor) -> list[tuple[int, int, int]]:
    return [tuple(int(x) for x in row) for row in obs.reshape(-1, obs.shape[-1]).tolist()]


def check_steps(world: World, batch: Batch, mask: torch.Tensor | None = None) -> None:
    """Every (masked) entry is a step of the log, as a whole."""
    lead = batch["reward"].dim()
    flat = {key: value.flatten(0, lead - 1) for key, value in batch.items()}
    for i, key in enumerate(keys_of(batch["obs"])):
        if mask is None or mask.flatten()[i]:
            for name, true in world.log[key].items():
                assert torch.equal(flat[name][i], true), (key, name)
            assert flat["discount"][i] == torch.tensor(GAMMA) * (1 - world.log[key]["terminated"].float())


def live(world: World, slots: int) -> set[tuple[int, int, int]]:
    """What a ring of this many observations an env must still hold, by the definition: the newest that fit."""
    kept = set()
    for env, order in enumerate(world.order):
        room = slots - 1  # the newest next_obs
        if world.t[env] == 0:
            room -= 1  # is a final one, and the slot after it awaits the reset's
        for key in reversed(order):
            ended = key[2] + 1 == world.length(env, key[1])
            room -= 2 if ended and key != order[-1] else 1  # a final observation further back takes a slot as well
            if room < 0:
                break
            kept.add(key)
    return kept
