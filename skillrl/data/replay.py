"""The replay: every env step once, on the learner's device, served as whatever a Need asks for.

Layout. Each env has a ring of slots. A step takes one slot, with the observation that it began at; its next_obs is
the observation of the slot after it. An episode's true final observation takes one slot of its own, at which no step
begins. Three indexes say what begins where: steps (``transitions``), finished ``episodes``, finished ``decisions``.
Since every episode costs exactly one extra slot, step j of an env that lies in slot s belongs to episode s − j.

Nothing is changed once written (the slot at ``pos`` holds the newest observation until its step arrives), so a
checkpoint saves only what is new. Sampling has fixed shapes, no branch on tensor values (what is fresh apart, whose
shape is the data's), and draws from ``generator`` alone.
"""

import math
from collections.abc import Mapping
from typing import get_args

import torch
from torch import Tensor

from skillrl.data.packing import moved
from skillrl.data.ring import Index, Ring, gather
from skillrl.spec import Batch, Need, Source

NOT_STORED = {"next_obs", "discount", "mask", "active"}  # of a step: found or computed when sampled
FLAGS = {"first", "terminated", "truncated", "active"}
NOT_STORED_DECISION = {"row", "obs", "next_obs", "first", "terminated", "truncated"}  # of a decision: its steps tell


class Replay:
    """See the module.

    Args:
        capacity: observations kept over all envs: env steps, and one more for each episode that ended.
        num_envs: rows of what ``add`` is given.
        gamma: per env step; a tensor (A,) when each agent has its own.
        device: where it is stored and sampled.
        seed: of the sampling.
    """

    def __init__(
        self,
        capacity: int,
        num_envs: int,
        *,
        gamma: float | Tensor = 0.99,
        device: str | torch.device = "cpu",
        seed: int = 0,
    ):
        slots = capacity // num_envs
        if slots < 4:
            raise ValueError(f"replay capacity {capacity} leaves {slots} steps for each of {num_envs} envs: at least 4")
        self.num_envs, self.slots, self.device = num_envs, slots, torch.device(device)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.gamma = torch.as_tensor(gamma, dtype=torch.float32, device=self.device)
        self.steps = Ring(num_envs, slots, self.device)
        self.transitions = Index(num_envs, slots, self.device)
        self.episodes = Index(num_envs, slots // 2 + 2, self.device)  # an episode takes at least two slots
        self.decisions = Index(num_envs, slots, self.device)
        self.episode_slot = torch.zeros_like(self.steps.pos)  # where the current episode began, or the next one will
        self.fresh_from = torch.zeros_like(self.steps.pos)  # the first transition that `fresh` has not served
        self.fresh_decisions_from = torch.zeros_like(self.steps.pos)  # likewise
        self._rows = torch.arange(num_envs, device=self.device)
        none = self._rows[:0]  # these two exist from the start: what is captured in a graph may not appear later
        self.transitions.put(none, none, {"slot": none.int()})
        self.episodes.put(none, none, {"slot": none.int(), "end": none.int()})
        self._window = torch.arange(3, device=self.device)  # one add moves on by three slots at most
        self._moved = 0  # no env has moved on by more slots than this

    def __len__(self) -> int:
        """Transitions that can be sampled."""
        return int(self.transitions.live().sum())

    # ---- in

    def add(self, transitions: Batch, decisions: Batch | None = None) -> None:
        """One tick of the collector.

        transitions: (N, ...); next_obs is the true next observation, also where the episode ended. Rows that are False
            in ``active`` (N,), if it is there, waited and are not written.
        decisions: (M, ...), those that finished at this tick: ``row`` (M,) their env, ascending; duration (M,) in env
            steps, reward, discount, z and what else is to be kept. One whose first step is not here is dropped.
        """
        # asked of what came, which is on the host: on a GPU a question waits for all that was asked before
        told = {name: transitions[name].numpy() for name in FLAGS & transitions.keys()}
        begin, end = told["first"].any(), told["terminated"].any() or told["truncated"].any()
        rows, step = self._rows, moved(transitions, self.device)
        if "active" in told and not told["active"].all():
            rows = step["active"].nonzero().squeeze(1)
            step = {name: value[rows] for name, value in step.items()}
        if begin:  # an episode that was left without an end (a resumed env that starts afresh) keeps its last next_obs
            self._close(rows[step["first"] & (self.steps.pos[rows] > self.episode_slot[rows])])
        slot = self.steps.append(rows, {name: value for name, value in step.items() if name not in NOT_STORED})
        self.transitions.append(rows, {"slot": slot.int()})
        self.steps.put(rows, slot + 1, {"obs": step["next_obs"]}, some=True)
        if decisions is not None and len(decisions["row"]):
            self._add_decisions(decisions)
        if end:
            self._close(rows[step["terminated"] | step["truncated"]])
        self._evict()

    def _close(self, rows: Tensor) -> None:
        """End the episodes of ``rows``: what lies at pos is their final observation."""
        if len(rows):
            end = self.steps.pos[rows]
            self.episodes.append(rows, {"slot": self.episode_slot[rows].int(), "end": end.int()})
            self.steps.pos.index_copy_(0, rows, end + 1)
            self.episode_slot.index_copy_(0, rows, end + 1)

    def _evict(self) -> None:
        """Let the indexes forget what the newest step overwrote."""
        self._moved += len(self._window)
        if self._moved >= self.slots:  # before, nothing can have been
            first_slot = self.steps.pos - self.slots + 1  # the slot at pos already holds an observation
            for index in (self.transitions, self.episodes, self.decisions):
                index.evict(first_slot, self._window)

    def _add_decisions(self, decisions: Batch) -> None:
        here = moved(decisions, self.device)
        row = here["row"]
        slot = self.steps.pos[row] - here["duration"]
        known = slot >= self.episode_slot[row]
        entries = {name: value[known] for name, value in here.items() if name not in NOT_STORED_DECISION}
        self.decisions.append(row[known], entries | {"slot": slot[known].int()})

    def mark_fresh(self) -> None:
        """What is here now is no longer fresh."""
        self.fresh_from.copy_(self.transitions.pos)
        self.fresh_decisions_from.copy_(self.decisions.pos)

    # ---- out

    def ready(self, needs: Mapping[str, Need]) -> bool:
        """Whether every need can be served: there is at least one of what it asks for (drawn with replacement), and
        of what is fresh as much as it asks for."""
        return all(self._available(need) >= (need.batch_size if need.fresh else 1) for need in needs.values())

    def _available(self, need: Need) -> int:
        if need.source == "fresh":
            return int((self.transitions.pos - self.fresh_from).sum())
        if need.source == "fresh_decisions":
            return int((self.decisions.pos - self.fresh_decisions_from).sum())
        if need.source in ("transitions", "sequences"):
            return self._moved  # the newest is always there; known without a question to the device
        return int((self.episodes if need.source == "episodes" else self.decisions).live().sum())

    def sample(self, needs: Mapping[str, Need]) -> dict[str, Batch | list[Batch]]:
        """One entry a need, a list where it asks for repeats. What is fresh is served once: by one call of this."""
        batches: dict[str, Batch | list[Batch]] = {}
        for name, need in needs.items():
            drawn = [self.sample_one(need) for _ in range(need.repeats)]
            batches[name] = drawn if need.repeats > 1 else drawn[0]
        if any(need.fresh for need in needs.values()):
            self.mark_fresh()
        return batches

    def sample_one(self, need: Need) -> Batch:
        """A batch for one need (its ``repeats`` apart). Padding repeats the last real step and is False in ``mask``."""
        if need.future is not None and (need.source != "transitions" or not 0 <= need.future < 1):
            raise ValueError(f"future={need.future}, source {need.source!r}: it must be in [0, 1), of transitions")
        if not (self.decisions if need.decisions else self.steps).data:
            raise ValueError(f"no {need.source} can be sampled, the replay was given none")
        match need.source:
            case "transitions":
                env, at = self.transitions.draw(need.batch_size, self.generator)
                slot = self.transitions.get("slot", env, at)
                batch = self._read(env, slot)
                return batch if need.future is None else batch.replace(goal=self._goal(env, at, slot, need.future))
            case "sequences":
                env, at = self.transitions.draw(need.batch_size, self.generator, need.length)
                return self._stretch(env, at, self.transitions.pos[env], need.length)
            case "episodes":  # longer ones are cut to `length`
                env, episode = self.episodes.draw(need.batch_size, self.generator)
                slot, end = self.episodes.get("slot", env, episode), self.episodes.get("end", env, episode)
                return self._stretch(env, slot - episode, end - episode, need.length)
            case "fresh":
                start = torch.maximum(self.fresh_from, self.transitions.oldest)
                length = int((self.transitions.pos - start).max())
                return self._stretch(self._rows, start, self.transitions.pos, length)
            case "decisions":
                env, at = self.decisions.draw(need.batch_size, self.generator)
                return self._read_decisions(env, at, need.length)
            case "fresh_decisions":
                start = torch.maximum(self.fresh_decisions_from, self.decisions.oldest)
                at, mask = self._following(start, self.decisions.pos, int((self.decisions.pos - start).max()))
                return self._read_decisions(self._rows[:, None].expand_as(at), at, need.length).replace(mask=mask)
        raise ValueError(f"unknown source {need.source!r}: it must be one of {', '.join(get_args(Source))}")

    def _read(self, env: Tensor, slot: Tensor) -> Batch:
        """The steps that begin at these slots; env and slot of one shape, any."""
        where, following = self.steps.flat(env, slot), self.steps.flat(env, slot + 1)
        batch = Batch({name: gather(value, where) for name, value in self.steps.data.items()})
        batch["next_obs"] = gather(self.steps.data["obs"], following)
        batch["discount"] = self._discount(batch["terminated"], batch["reward"])
        return batch

    def _discount(self, terminated: Tensor, reward: Tensor) -> Tensor:
        """γ (1 − terminated), float32, of reward's shape: the one place where a step's discount is made."""
        goes_on = 1.0 - terminated.float()
        while goes_on.dim() < reward.dim():
            goes_on = goes_on.unsqueeze(-1)
        return (self.gamma * goes_on).expand(reward.shape)

    def _stretch(self, env: Tensor, start: Tensor, stop: Tensor, length: int) -> Batch:
        """Transitions start, start + 1, ... of env, all (B,), up to stop → (B, length) with mask."""
        at, mask = self._following(start, stop, length)
        rows = env[:, None].expand_as(at)
        return self._read(rows, self.transitions.get("slot", rows, at)).replace(mask=mask)

    def _following(self, start: Tensor, stop: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """start, start + 1, ..., both (B, length): where to read, which repeats the last below stop, and the mask."""
        at = start[:, None] + torch.arange(length, device=self.device)  # (B, length)
        return at.minimum(stop[:, None] - 1).clamp(min=0), at < stop[:, None]

    def _goal(self, env: Tensor, at: Tensor, slot: Tensor, future: float) -> Tensor:
        """An observation k ≥ 1 steps later, P(k) ∝ future^(k−1) up to the episode's final (or, if open, newest) one."""
        episode = slot - at
        closed = episode < self.episodes.pos[env]
        end = torch.where(closed, self.episodes.get("end", env, episode), self.steps.pos[env])
        left = (end - slot).double()
        uniform = torch.rand(left.shape, generator=self.generator, dtype=torch.float64, device=self.device)
        log_future = math.log(future) if future > 0 else -math.inf
        # the inverse of F(k) = (1 − future^k) / (1 − future^left)
        ahead = (torch.log1p(uniform * torch.expm1(left * log_future)) / log_future).ceil().clamp(min=1)
        return self.steps.get("obs", env, slot + ahead.minimum(left).long())

    def _read_decisions(self, env: Tensor, at: Tensor, length: int) -> Batch:
        """Decisions ``at`` of env, both of one shape, any; with the first ``length`` of their steps if it is over 1."""
        where = self.decisions.flat(env, at)
        batch = Batch({name: gather(value, where) for name, value in self.decisions.data.items()})
        slot, duration = batch.pop("slot").long(), batch["duration"]
        last = self.steps.flat(env, slot + duration - 1)
        batch["obs"] = self.steps.get("obs", env, slot)
        batch["next_obs"] = self.steps.get("obs", env, slot + duration)
        batch["first"] = self.steps.get("first", env, slot)
        for name in ("terminated", "truncated"):
            batch[name] = gather(self.steps.data[name], last)
        if length > 1:
            offset = torch.arange(length, device=self.device)  # longer ones are cut to `length`
            batch["step_mask"] = offset < duration[..., None]
            within = slot[..., None] + offset.minimum(duration[..., None] - 1)  # (B, length)
            for name in ("obs", "action"):
                batch[f"step_{name}"] = self.steps.get(name, env[..., None], within)
        return batch

    def contents(self) -> tuple[Batch, Tensor]:
        """All transitions (S, ...), env by env in order of time, and the lengths (E,) of the episodes in them.

        Errors: ValueError if there are none.
        """
        count = self.transitions.live()  # (N,)
        if not int(count.sum()):
            raise ValueError("the replay holds no transitions")
        env = self._rows.repeat_interleave(count)
        at = torch.arange(len(env), device=self.device) + (self.transitions.oldest - count.cumsum(0) + count)[env]
        slot = self.transitions.get("slot", env, at).long()
        episode = torch.stack([env, slot - at])  # (2, S)
        ends = torch.ones_like(env, dtype=torch.bool)
        ends[:-1] = (episode[:, 1:] != episode[:, :-1]).any(0)
        last = ends.nonzero().squeeze(1)
        return self._read(env, slot), last.diff(prepend=last.new_tensor([-1]))

    # ---- kept

    def _rings(self) -> dict[str, Ring]:
        indexes = {"transitions": self.transitions, "episodes": self.episodes, "decisions": self.decisions}
        return {"steps": self.steps, **indexes}

    def bytes_per_transition(self) -> float:
        """Bytes allocated, indexes included, over the slots they serve."""
        return sum(ring.nbytes() for ring in self._rings().values()) / (self.num_envs * self.slots)

    def _counters(self) -> dict[str, Tensor]:
        counters = {f"{name}/pos": ring.pos for name, ring in self._rings().items()}
        counters |= {f"{n}/oldest": ring.oldest for n, ring in self._rings().items() if isinstance(ring, Index)}
        fresh = {"fresh_from": self.fresh_from, "fresh_decisions_from": self.fresh_decisions_from}
        return counters | {"episode_slot": self.episode_slot, **fresh}

    def state_dict(self) -> dict[str, Tensor]:
        """All that is small: counters, generator, shape. The data itself is in segments."""
        shape = torch.tensor([self.num_envs, self.slots])
        counters = {name: value.cpu().clone() for name, value in self._counters().items()}
        return counters | {"shape": shape, "generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Of a replay of the same shape; its segments are to be loaded as well. Errors: another shape."""
        if state["shape"].tolist() != [self.num_envs, self.slots]:
            saved, here = tuple(state["shape"].tolist()), (self.num_envs, self.slots)
            raise ValueError(f"the saved replay has (num_envs, steps an env) {saved}, this one {here}")
        for name, value in self._counters().items():
            if name in state or name != "fresh_decisions_from":  # older states served no fresh decisions
                value.copy_(state[name])
        self._moved = int(self.steps.pos.max())
        self.generator.set_state(state["generator"].cpu())

    def segment(self, since: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """What was added since that ``state_dict()`` (None: ever) and is still here, as plain tensors.

        Load all segments in the order in which they were made; the state before or after them.
        """
        segment: dict[str, Tensor] = {}
        for name, ring in self._rings().items():
            start = torch.zeros_like(ring.pos) if since is None else since[f"{name}/pos"]
            stop = ring.pos + 1 if ring is self.steps else ring.pos  # the newest observation lies at pos
            segment |= {f"{name}/{key}": value for key, value in ring.segment(start, stop).items()}
        return segment

    def load_segment(self, segment: Mapping[str, Tensor]) -> None:
        """Put a segment back."""
        for name, ring in self._rings().items():
            prefix = f"{name}/"
            ring.load_segment({key.removeprefix(prefix): v for key, v in segment.items() if key.startswith(prefix)})

    def expired(self, state: Mapping[str, Tensor]) -> bool:
        """Whether nothing of what was here at that ``state_dict()`` is left: segments up to it can be deleted."""
        return bool((self.steps.pos - self.slots + 1 > state["steps/pos"].to(self.device)).all())
