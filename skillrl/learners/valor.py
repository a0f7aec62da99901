"""VALOR: Variational Option Discovery Algorithms (Achiam et al. 2018, arXiv:1807.10299).

Objective: max E[log P_D(c | τ)] + β H(π), where a decoder P_D reads the context c from the whole trajectory, and never
from actions: it is a bidirectional LSTM over how the state changes between 11 states spread evenly over the episode.

On-policy: whole fresh episodes, from which the policy learns once. Curriculum: K starts small, and whenever the decoder
gives the right context an average probability of at least 0.86, K ← min(⌊1.5 K + 1⌋, K_max). Policy and decoder are
made for K_max at once; of the contexts above K none is drawn, and none is decoded.

What differs from the paper, which came without code, and why:
- The agent is PPO with a critic instead of the vanilla policy gradient, as any on-policy agent here can be.
- log P_D(c | τ) is paid at the episode's end, the one form for which the objective is the return; the reward is centred
  by log K, which is no more than a baseline, and lets one critic outlive a change of K.
- An episode that ends early is read at 11 states of its own. Episodes of which only the end is fresh are not learnt
  from: ``batch_size`` should hold several whole ones.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from skillrl.agents.base import Agent, check, check_whole
from skillrl.agents.ppo import PPO
from skillrl.learners.base import Batches, RewardLearner
from skillrl.optim import Adam, descend
from skillrl.selector import Selector
from skillrl.skill_policy import columns_on
from skillrl.skill_spaces import Discrete
from skillrl.spec import Batch, Carry, Metrics, Selection, Spec

PAPER_AGENT = partial(PPO, ent_coef=1e-3)
GROWTH = 1.5


class Decoder(nn.Module):
    """P_D(c | τ): a bidirectional LSTM over changes of state, whose two last outputs are read."""

    def __init__(self, obs_dim: int, hidden_dim: int, num_skills: int):
        super().__init__()
        self.lstm = nn.LSTM(obs_dim, hidden_dim, batch_first=True, bidirectional=True)
        self.read = nn.Linear(2 * hidden_dim, num_skills)

    def forward(self, changes: Tensor, count: Tensor) -> Tensor:
        """changes (E, T, obs_dim), how many contexts there are () → log P_D (E, num_skills), −∞ from ``count`` on."""
        _, (last, _) = self.lstm(changes)  # (2, E, hidden_dim)
        logits = self.read(torch.cat([last[0], last[1]], -1))
        there = torch.arange(logits.shape[-1], device=logits.device) < count
        return logits.masked_fill(~there, -torch.inf).log_softmax(-1)


class Growing(Selector):
    """Uniform over the contexts that there are by now."""

    def __init__(self, learner: "VALOR", hold: int | None = None):
        self.learner, self.hold = learner, hold

    def select(
        self, obs: Tensor, carry: Carry, policy_carry: Carry, first: Tensor, generator: Generator, deterministic: bool
    ) -> Selection:
        count = int(self.learner.count)
        return Selection(torch.randint(count, (len(first),), generator=generator, device=generator.device))


class VALOR(RewardLearner):
    """Skills that can be told apart by their whole trajectory.

    Args:
        skill_space: K_max skills.
        agent: an on-policy one.
        decoder_view: what the decoder sees; None is all of the observation. decoder_dim: width of its LSTM.
        decoder_lr: Adam's. decoder_updates: its gradient steps an update, on all episodes.
        states: how many of a trajectory the decoder reads.
        first_count: K at the start. threshold: of the right context's mean probability, from which on K grows.
        batch_size: fresh env steps an update: several whole episodes.
    """

    count: Tensor
    decoded: Tensor

    def __init__(
        self,
        spec: Spec,
        *,
        skill_space: Discrete = Discrete(64),
        agent: Callable[..., Agent] = PAPER_AGENT,
        hidden_dims: Sequence[int] = (64, 64),
        policy_view: str | None = None,
        decoder_view: str | None = None,
        decoder_dim: int = 64,
        decoder_lr: float = 1e-3,
        decoder_updates: int = 10,
        states: int = 11,
        first_count: int = 2,
        threshold: float = 0.86,
        batch_size: int = 4096,
    ):
        check("learner", decoder_lr=(decoder_lr, "(0, inf)"), threshold=(threshold, "(0, 1]"))
        check_whole("learner", decoder_dim=decoder_dim, decoder_updates=decoder_updates, first_count=first_count)
        if not isinstance(skill_space, Discrete) or skill_space.n < first_count:
            raise ValueError(f"learner.first_count is {first_count}: skill_space must be Discrete, of at least as many")
        check("learner", states=(states, "[2, inf)"))
        super().__init__(
            spec,
            skill_space=skill_space,
            agent=agent,
            hidden_dims=hidden_dims,
            policy_view=policy_view,
            batch_size=batch_size,
            hold=None,
        )
        if not self.agent.need("transitions", batch_size).fresh:
            raise ValueError("learner valor needs an agent that learns from fresh episodes: take agent ppo")
        seen = spec.obs.select(decoder_view)
        self.decoder_columns = spec.obs.columns(seen)
        self.decoder = Decoder(seen.dim, decoder_dim, skill_space.n)
        self.decoder_optimizer = Adam(self.decoder.parameters(), decoder_lr)
        self.decoder_updates, self.states, self.threshold = decoder_updates, states, threshold
        self.most = skill_space.n
        self.register_buffer("count", torch.tensor(first_count))  # K
        self.register_buffer("decoded", torch.zeros(()))  # of the newest update: the right context's mean probability
        self.selector = Growing(self)

    def update(self, batches: Batches) -> Metrics:
        """The policy on what the decoder thinks of its episodes, then the decoder on them, as in algorithm 1."""
        batch = batches["batch"]
        assert isinstance(batch, Batch)
        start, end, whole = episodes(batch)
        if not whole.any():
            raise ValueError(f"learner.batch_size is {self.batch_size}: no episode ended in so many fresh steps")
        changes, z = self.changes(batch, start, whole), batch["z"][whole]
        with torch.no_grad():
            log_p = self.decoder(changes, self.count).gather(-1, z.unsqueeze(-1)).squeeze(-1)  # (E,)
        reward = torch.zeros_like(batch["reward"])
        reward[whole] = log_p + self.count.float().log()
        columns = columns_on(self.columns, reward.device)
        relabelled = batch.replace(
            obs=batch["obs"][..., columns],
            next_obs=batch["next_obs"][..., columns],
            reward=reward,
            discount=torch.where(whole, 0.0, batch["discount"]),  # the trajectory is judged: nothing follows
            mask=batch["mask"] & (start >= 0) & (end < batch["mask"].shape[1]),
            next_z=batch["z"],
        )
        metrics = self.agent.update(relabelled, self.generator)
        self.decoded.copy_(log_p.exp().mean())
        loss = self.fit_decoder(changes, z)
        return metrics | {
            "decoder/loss": loss,
            "decoder/probability": self.decoded.clone(),
            "reward/intrinsic": reward[whole].mean(),
            "skills/count": self.count.float(),
        }

    def changes(self, batch: Batch, start: Tensor, whole: Tensor) -> Tensor:
        """Of each whole episode, how the state changes between ``states`` of it, (E, states − 1, obs_dim)."""
        row, last = whole.nonzero(as_tuple=True)  # (E,)
        first = start[whole]
        part = torch.linspace(0, 1, self.states, device=first.device, dtype=torch.float64)
        at = first[:, None] + (part * (last - first + 1)[:, None]).round().long()  # (E, states); last + 1 is the end
        columns = columns_on(self.decoder_columns, first.device)
        obs = batch["obs"][row[:, None], at.minimum(last[:, None])]
        final = batch["next_obs"][row, last].unsqueeze(1)
        read = torch.where((at > last[:, None]).unsqueeze(-1), final, obs)[..., columns].float()
        return read.diff(dim=1)

    def fit_decoder(self, changes: Tensor, z: Tensor) -> Tensor:
        """Cross-entropy, ``decoder_updates`` steps of it; the loss before the last."""
        for _ in range(self.decoder_updates):
            loss = F.nll_loss(self.decoder(changes, self.count), z)
            descend(self.decoder_optimizer, loss)
        return loss.detach()

    def maintain(self, env_steps: int) -> Metrics:
        """K grows where the decoder knows the contexts that there are."""
        if self.decoded >= self.threshold and self.count < self.most:
            self.count.copy_((GROWTH * self.count + 1).long().clamp(max=self.most))
            self.decoded.zero_()  # of other contexts than there are now
        return {}


def episodes(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Of fresh rollouts (N, T): where each entry's episode began (−1: before) and ends (T: later); and which entries
    are the last of an episode that is here as a whole."""
    mask = batch["mask"]
    length = mask.shape[1]
    t = torch.arange(length, device=mask.device).expand_as(mask)
    ends = (batch["terminated"] | batch["truncated"]) & mask
    start = torch.where(batch["first"] & mask, t, -1).cummax(1).values
    end = torch.where(ends, t, length).flip(1).cummin(1).values.flip(1)
    return start, end, ends & (start >= 0)
