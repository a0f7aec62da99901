"""Four rooms, counted: shortest ways, data of a random walk, and where skills lead."""

from typing import Any

import numpy as np
import torch
from directed_skills import Aim
from torch import Tensor

from envs.rooms import MOVES, STATES, Rooms, index, moved
from skillrl.data.replay import Replay
from skillrl.evaluation.rollouts import rollout
from skillrl.learners.base import Learner
from skillrl.learners.primitive import Primitive
from skillrl.selector import Prior, Selector
from skillrl.spec import Batch, Need, Spec
from skillrl.training import Schedule, State, train

NEXT = np.stack([index(moved(STATES, np.broadcast_to(move, STATES.shape))) for move in MOVES], 1)  # (24, 5)
CELLS = torch.eye(len(NEXT))  # the observation of each state


def shortest_ways() -> np.ndarray:
    """Steps from state to state, (24, 24), by Floyd and Warshall."""
    steps = np.full((len(NEXT), len(NEXT)), np.inf)
    for to in NEXT.T:
        steps[np.arange(len(NEXT)), to] = 1
    np.fill_diagonal(steps, 0)
    for via in range(len(NEXT)):
        steps = np.minimum(steps, steps[:, [via]] + steps[[via]])
    return steps


def rank_correlation(left: np.ndarray, right: np.ndarray) -> float:
    """Spearman's, ties sharing their mean rank."""

    def ranks(values: np.ndarray) -> np.ndarray:
        _, which, count = np.unique(values, return_inverse=True, return_counts=True)
        return (count.cumsum() - (count - 1) / 2)[which]

    return float(np.corrcoef(ranks(left), ranks(right))[0, 1])


def agreement(phi: Tensor) -> float:
    """Of ‖φ(s) − φ(g)‖ with the shortest ways, over all pairs of states. phi: (24, dim)."""
    pairs = np.triu_indices(len(NEXT), 1)
    return rank_correlation(torch.cdist(phi, phi).numpy()[pairs], shortest_ways()[pairs])


class Walk(Primitive):
    """Any action, at every step."""

    def prior(self) -> Selector:
        return Prior(self.behaviour().space, hold=1)


def random_walk(spec: Spec, gamma: float, seed: int, env_steps: int = 20_000) -> Replay:
    """Episodes of 100 steps from the corner, every action as likely as the others."""
    env = Rooms(num_envs=16, horizon=100, observe=["cell"])
    data = Replay(2 * env_steps, 16, gamma=gamma, seed=seed)
    return train(env=env, learner=Walk(spec), data=data, schedule=Schedule(env_steps, collect=16), seed=seed).data


def learnt_offline(learner: Learner, seed: int, updates: int) -> State:
    learner.generator.manual_seed(seed)
    data = random_walk(learner.spec, learner.gamma, seed)
    return train(env=None, learner=learner, data=data, schedule=Schedule(updates))


def rewards_earned(policy: Any, data: Replay) -> float:
    """The share of states for which the skill for a reward of 1 there, and 0 elsewhere, stands there after 20 steps."""
    batch = data.sample_one(Need("transitions", 10_000))
    assert isinstance(batch, Batch)
    obs = batch["next_obs"]
    with torch.no_grad():
        z = torch.stack([policy.reward_to_skill(obs, paid) for paid in obs.T])
    told = rollout(Rooms(num_envs=len(CELLS), horizon=20, observe=["cell"]), policy, z, seed=0)
    return float((told.coordinates[:, -1] == STATES).all(-1).mean())


def rooms_kept_to(policy: Any, data: Replay) -> float:
    """Of skills for a reward of 1 in one of the rooms: the share of steps 21 to 40 spent in it, the four's mean."""
    batch = data.sample_one(Need("transitions", 10_000))
    assert isinstance(batch, Batch)
    east, north = (STATES.mean(0) < STATES).T
    rooms = np.eye(4)[2 * east + north]  # (24, 4)
    with torch.no_grad():
        paid = (batch["next_obs"] @ torch.as_tensor(rooms, dtype=torch.float32)).T
        z = torch.stack([policy.reward_to_skill(batch["next_obs"], of_room) for of_room in paid])
    told = rollout(Rooms(num_envs=4, horizon=40, observe=["cell"]), policy, z, seed=0)
    where = index(told.coordinates[:, 21:].reshape(-1, 2)).reshape(4, 20)
    return float(rooms[where, np.arange(4)[:, None]].mean())


def cells_reached(policy: torch.nn.Module) -> float:
    """The share of states that are come to within 20 steps of the corner, aimed at anew every step."""
    told = rollout(Rooms(num_envs=len(CELLS), horizon=20, observe=["cell"]), policy, Aim(policy, CELLS), seed=0)
    return float((told.coordinates == STATES[:, None]).all(-1).any(1).mean())
