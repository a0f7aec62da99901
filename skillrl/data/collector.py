"""The one option loop: each env on its own clock, a selector asked for the rows that are due.

Pretraining, control, evaluation and ``SkillEnv`` all step through here. A tick is one env step of every active row:

    due rows get z → policy acts → env steps → decisions that ended are closed → who is due next?

On a GPU only what networks see or give lives there (observations, z, actions, carries). The books (flags, clocks,
rewards) stay on the host, where the env's answers come from: kept on the GPU, each of their many small sums would be a
kernel of its own, and each question about them a wait.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from skillrl.data.infos import numeric, of_step
from skillrl.selector import Selector
from skillrl.skill_policy import SkillPolicy, columns_on
from skillrl.spec import Batch, Carry, Spec


class Collector:
    """Steps a vector env with a skill policy whose z a selector chooses.

    Args:
        env: a ``VectorEnv`` with ``SAME_STEP`` autoreset whose ``step`` takes ``active``.
        gamma: discount within a decision, Σ γ^i r_i; a tensor (agents,) where agents differ.
        seed: of the skills' and the policy's generators; ``reset`` takes the env's.
        deterministic: the policy's mode instead of a sample. greedy: the selector's best choice, without exploration.
    """

    def __init__(
        self,
        env: Any,
        policy: SkillPolicy,
        selector: Selector,
        *,
        spec: Spec | None = None,
        gamma: float | Tensor = 0.99,
        seed: int = 0,
        deterministic: bool = False,
        greedy: bool = False,
        device: str | torch.device = "cpu",
    ):
        self.env, self.policy, self.selector = env, policy, selector
        self.act: Callable[..., tuple[Tensor, dict[str, Tensor]]] = policy.act  # or what does the same faster
        self.spec = spec or Spec.from_env(env)
        self.gamma = gamma.cpu() if isinstance(gamma, Tensor) else gamma
        self.deterministic, self.greedy = deterministic, greedy
        self.device = torch.device(device)
        self.num_envs: int = env.num_envs
        self.everyone = torch.ones(env.num_envs, dtype=torch.bool)
        self.columns = columns_on(self.spec.obs.columns(policy.obs), self.device)
        skills, acts = np.random.SeedSequence(seed).generate_state(2)
        self.skill_generator = Generator(self.device).manual_seed(int(skills))
        self.policy_generator = Generator(self.device).manual_seed(int(acts))

    # -- an episode's start -------------------------------------------------------------------------------------

    def reset(self, seed: int | None) -> None:
        """Fresh episodes everywhere; nothing of the past is kept. None goes on with the env's own generators."""
        obs, info = self.env.reset(seed=seed)
        n = self.num_envs
        self.obs = self._to(obs)
        self.info = numeric(info, n)
        self.first = torch.ones(n, dtype=torch.bool)
        self.due = self.first.clone()
        self.skill_step = torch.zeros(n, dtype=torch.int64)
        self.z: Tensor | None = None
        self.decision_z: Tensor | None = None  # z as it was chosen; ``advance`` moves only self.z
        self.carry, self.selector_carry = self.policy.initial(n), self.selector.initial(n)
        self.prev_action = self._no_action(n)
        self.reward: Tensor | None = None  # Σ γ^i r_i of the open decision
        self.discount: Tensor | None = None  # γ^i of its next reward
        self.extras: dict[str, Tensor] = {}
        self.episode_return: Tensor | None = None
        self.episode_length = torch.zeros(n, dtype=torch.int64)
        self.finished: list[dict[str, float]] = []

    def tick(self, active: Tensor | None = None) -> tuple[Batch, Batch | None]:
        """One env step: the transitions (N, ...) and the decisions (M, ...) that ended with it, if any."""
        self.send(active)
        return self.receive()

    # -- half a tick: choose, act, start the physics -------------------------------------------------------------

    @torch.no_grad()
    def send(self, active: Tensor | None = None) -> None:
        """Choose z where it is due, act, and start the env's step."""
        self.active = self.everyone if active is None else active.cpu()
        seen = self.obs[..., self.columns]
        if self.carry or self.selector_carry:
            self._observe(seen)
        self._select(self._among_active(self.due))
        assert self.z is not None, "the first tick after a reset must be of every row"
        self.action, self.step_extras = self.act(
            seen, self.z, self.carry, deterministic=self.deterministic, generator=self.policy_generator
        )
        if self.carry:
            told = self.policy.remember(self.step_extras, self.carry)
            self.carry = _rows(self.active.to(self.device), told, self.carry)
        self.env.step_async(self.action.cpu().numpy(), None if active is None else self.active.numpy())

    def _observe(self, seen: Tensor) -> None:
        """Take what was seen into the carries, of the rows that go on."""
        first, on = self.first.to(self.device), self.active.to(self.device)
        self.carry = _rows(on, self.policy.observe(seen, self.prev_action, first, self.carry), self.carry)
        own = self.selector.observe(self.obs, self.prev_action, first, self.selector_carry)
        self.selector_carry = _rows(on, own, self.selector_carry)

    def _select(self, rows: Tensor) -> None:
        """Ask the selector for ``rows`` and open a decision in each."""
        if not rows.numpy().any():
            return
        index = rows.nonzero().squeeze(-1)
        there = index.to(self.device)
        choice = self.selector.select(
            self.obs[there],
            tuple(c[there] for c in self.selector_carry),
            tuple(c[there] for c in self.carry),
            self.first[index].to(self.device),
            self.skill_generator,
            self.greedy,
        )
        self.z = _put(self.z, there, choice.z, self.num_envs)
        for key, value in choice.extras.items():
            self.extras[key] = _put(self.extras.get(key), there, value, self.num_envs)
        for carry, new in zip(self.selector_carry, choice.carry, strict=bool(choice.carry)):
            carry[there] = new
        self.decision_z = _put(self.decision_z, there, choice.z, self.num_envs)
        self.skill_step = self.skill_step.index_fill(0, index, 0)  # another one: the old one was handed out
        if self.reward is not None and self.discount is not None:
            self.reward[index], self.discount[index] = 0.0, 1.0

    # -- the other half: take the result, close decisions --------------------------------------------------------

    @torch.no_grad()
    def receive(self) -> tuple[Batch, Batch | None]:
        """Take the env's step and do the books."""
        obs, reward, terminated, truncated, info = self.env.step_wait()
        n = self.num_envs
        assert self.z is not None
        ended, cut, paid = _host(terminated), _host(truncated), torch.from_numpy(reward.astype(np.float32))
        either = terminated | truncated
        done, any_done, obs = torch.from_numpy(either), bool(either.any()), self._to(obs)
        next_obs = self._to(info["final_obs"]) if any_done else obs
        step = Batch(
            obs=self.obs,
            next_obs=next_obs,
            action=self.action,
            reward=paid,
            terminated=ended,
            truncated=cut,
            first=self.first,
            z=self.z,
            skill_step=self.skill_step,
            active=self.active,
            **self.step_extras,
        )
        for key, value in of_step(info, n).items():
            step[f"info/{key}"] = _host(value)
        self.info = numeric(info, n)
        decisions = self._close(step, done)
        self._count(paid, done if any_done else None, step)
        self.prev_action = self._on(self.action, self.prev_action)
        if any_done:
            self.prev_action = _where(done.to(self.device), self._no_action(n), self.prev_action)
        self.first = self._on(done, self.first)
        self.obs = obs
        return step, decisions

    def _close(self, step: Batch, done: Tensor) -> Batch | None:
        """Pay the open decisions, find out which ended, and move z on in the others."""
        next_obs, reward = step["next_obs"], step["reward"]
        if self.reward is None or self.discount is None:
            self.reward, self.discount = torch.zeros_like(reward), torch.ones_like(reward)
        self.reward = self._on(self.reward + self.discount * reward, self.reward)
        self.discount = self._on(self.discount * self.gamma, self.discount)
        self.skill_step = self._on(self.skill_step + 1, self.skill_step)
        seen = next_obs[..., self.columns]
        held = self.skill_step.to(self.device)
        ends = self.policy.stop(seen, step["z"], held)
        if ends is not None:
            ends = torch.rand(ends.shape, generator=self.skill_generator, device=self.device) < ends
        moved = self.selector.advance(self.obs, step["z"], next_obs)
        due = self._among_active(self.selector.due(next_obs, moved, held, ends).cpu() | done)
        self.due = self._on(due, self.due)
        if moved is not step["z"]:
            self.z = _where((self.active & ~done).to(self.device), moved, step["z"])
        if not due.numpy().any():
            return None
        index = due.nonzero().squeeze(-1)
        assert self.decision_z is not None
        there = index.to(self.device)
        return Batch(
            row=index,
            z=self.decision_z[there],
            reward=self.reward[index],
            discount=self.discount[index] * _like(~step["terminated"][index], self.discount[index]),
            duration=self.skill_step[index],
            terminated=step["terminated"][index],
            **{key: value[there] for key, value in self.extras.items()},
        )

    def _count(self, reward: Tensor, done: Tensor | None, step: Batch) -> None:
        """Returns and lengths of the episodes that ended, for ``metrics``. done: None where none did."""
        per_env = reward if reward.ndim == 1 else reward.sum(-1)
        total = torch.zeros_like(per_env) if self.episode_return is None else self.episode_return
        self.episode_return = self._on(total + per_env, total)
        self.episode_length = self._on(self.episode_length + 1, self.episode_length)
        ended = () if done is None else self._among_active(done).nonzero().squeeze(-1).tolist()
        for i in ended:
            told = {"episode/return": self.episode_return[i].item(), "episode/length": self.episode_length[i].item()}
            if "info/success" in step:
                told["episode/success"] = float(step["info/success"][i])
            self.finished.append(told)
            self.episode_return[i], self.episode_length[i] = 0.0, 0

    def drain(self) -> list[dict[str, float]]:
        """The episodes that ended since the last call."""
        finished, self.finished = self.finished, []
        return finished

    # -- small things --------------------------------------------------------------------------------------------

    def _to(self, value: np.ndarray) -> Tensor:
        return torch.as_tensor(np.array(value), device=self.device)

    def _no_action(self, n: int) -> Tensor:
        space = self.env.single_action_space
        dtype = torch.int64 if hasattr(space, "n") else torch.float32
        return torch.zeros((n, *space.shape), dtype=dtype, device=self.device)

    def _on(self, new: Tensor, old: Tensor) -> Tensor:
        """``new`` in the rows that went on, ``old`` in the others; both (N, ...)."""
        return new if self.active is self.everyone else _where(self.active.to(new.device), new, old)

    def _among_active(self, rows: Tensor) -> Tensor:
        """Those of ``rows`` (N,) that go on."""
        return rows if self.active is self.everyone else rows & self.active

    _SAVED = (
        "obs", "first", "due", "skill_step", "z", "decision_z", "carry", "selector_carry", "prev_action", "reward",
        "discount", "extras", "episode_return", "episode_length", "finished",
    )  # fmt: skip

    _BOOKS = ("first", "due", "skill_step", "reward", "discount", "episode_return", "episode_length")

    def state_dict(self) -> dict[str, Any]:
        """Everything, between ticks: a resumed collector goes on bit for bit where the env can."""
        state = {key: getattr(self, key, None) for key in self._SAVED}
        generators = {"skills": self.skill_generator.get_state(), "policy": self.policy_generator.get_state()}
        return state | {"generators": generators, "env": self.env.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse. An env whose physics cannot be saved begins fresh episodes, and so does the option loop."""
        self.env.load_state_dict(state["env"])
        if self.env.metadata.get("exact_resume", True):
            for key in self._SAVED:
                setattr(self, key, state[key].cpu() if key in self._BOOKS and state[key] is not None else state[key])
            self.info = {}
        else:
            self.reset(None)  # the env's generators are those of the checkpoint, and go on
        self.skill_generator.set_state(state["generators"]["skills"].cpu())
        self.policy_generator.set_state(state["generators"]["policy"].cpu())


def _host(value: np.ndarray) -> Tensor:
    """A copy: the env writes its next answer where this one was."""
    return torch.as_tensor(np.array(value))


def _like(mask: Tensor, value: Tensor) -> Tensor:
    """``mask`` (N,) with trailing axes, to broadcast against ``value`` (N, ...)."""
    return mask.reshape(mask.shape + (1,) * (value.ndim - mask.ndim))


def _where(rows: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """``new`` in ``rows`` (N,), ``old`` in the others; all on one device."""
    return torch.where(_like(rows, new), new, old)


def _rows(mask: Tensor, new: Carry, old: Carry) -> Carry:
    return tuple(_where(mask, a, b) for a, b in zip(new, old, strict=True))


def _put(whole: Tensor | None, index: Tensor, part: Tensor, n: int) -> Tensor:
    """``whole`` (n, ...) with rows ``index`` set; made on the first call. A copy, since the old one was handed out."""
    whole = part.new_zeros((n, *part.shape[1:])) if whole is None else whole.clone()
    whole[index] = part
    return whole
