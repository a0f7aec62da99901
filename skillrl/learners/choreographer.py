"""Choreographer: Learning and Adapting Skills in Imagination (Mazzaglia et al. 2023, arXiv:2211.13350).

Objective: max I(deter; z) = H(deter) − H(deter | z) of states that are imagined, where z is one of N codes of a VQ-VAE
over the deterministic states of a world model (eqs. 3 to 5):

    r(s, z) = mean distance of deter to its k nearest neighbours − ‖d(code_z) − deter‖

The data come from someone else: an explorer that is paid for what the world model would learn, its KL(posterior ‖
prior) as a head foresees it (latent Bayesian surprise, Mazzaglia et al. 2022), or any dataset (``data=``). No skill
acts in the env before it is used. Explorer and skills learn in imagination alone, by the gradient of the dynamics.

What differs from the paper or its code (mazpie/choreographer), and why:
- The code's k nearest neighbours count the state itself; here they are others. Its cut of 1e-4 at each distance is left
  out: it changes nothing else.
- In the code a code that is never used drifts to the origin (its sum decays, its count is held at 1); here it stays.
- While acting, stoch is its likeliest value instead of a draw: whoever uses skills has no generator to hand them.
- Goals are compared with what the decoder makes of each code: the code of its goal-reaching runs was not released.
- ``normalize_obs`` is ours: of states in units of their own the decoder sees those alone that vary by more than 1.
- ``squash=False`` is ours: skills drive their tanh so far that training them further hardly moves them (``kept``).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from skillrl.agents.base import check, check_whole
from skillrl.agents.imagined import EPS, Climber, ImaginedValue
from skillrl.distributions import NoisyMode
from skillrl.estimators import neighbour_distance
from skillrl.layers import mlp
from skillrl.learners.base import Batches, Learner, measure, refuse_teams
from skillrl.models.codes import Codes
from skillrl.models.rssm import Latent
from skillrl.models.timeline import Timeline, timeline
from skillrl.models.world_model import WorldModel
from skillrl.moments import Standardizer
from skillrl.networks import WideActor
from skillrl.optim import Adam, descend
from skillrl.skill_policy import SkillPolicy, columns_on
from skillrl.skill_spaces import Codebook, Discrete
from skillrl.spec import Batch, Carry, Field, Metrics, Need, Spec


class ChoreographerPolicy(SkillPolicy):
    """Skills that act from a world model's state, which is their carry, (deter, stoch). With the world model itself
    (``Imagines``) and the codes, which say what skill a goal wants (``ReachesGoals``).

    hidden_dims: widths of every network but the recurrent model, whose sizes are deter, stoch, classes and hidden;
    depth: of pictures' convolutions. squash: of its actor. normalize: whether the model sees states in units of their
    spread.
    """

    def __init__(
        self,
        *,
        obs: Field,
        action: Field,
        space: Codebook,
        hidden_dims: Sequence[int],
        depth: int,
        deter: int,
        stoch: int,
        classes: int,
        hidden: int,
        squash: bool = True,
        normalize: bool = False,
    ):
        sizes: dict[str, Any] = {"depth": depth, "deter": deter, "stoch": stoch, "classes": classes, "hidden": hidden}
        sizes |= {"normalize": normalize}
        super().__init__(obs=obs, action=action, space=space, hidden_dims=list(hidden_dims), squash=squash, **sizes)
        self.goal_obs = obs
        self.world_model = WorldModel(obs, action.dim, hidden_dims=hidden_dims, **sizes)
        self.actor = WideActor(Field((self.world_model.feat_dim,)), action, space, hidden_dims, squash=squash)
        self.codes = Codes(space.n, space.dim, deter, hidden_dims)

    def initial(self, n: int) -> Carry:
        return self.world_model.rssm.initial(n)[:2]

    def observe(self, obs: Tensor, prev_action: Tensor, first: Tensor, carry: Carry) -> Carry:
        """What the model makes of the observation: (deter, stoch)."""
        (deter, stoch), embed = carry, self.world_model.embed(obs)
        return self.world_model.rssm.observe_step(deter, stoch, prev_action, embed, first)[:2]

    def latent(self, carry: Carry) -> Tensor:
        """What the model's heads read, (N, feat_dim)."""
        deter, stoch = carry
        return Latent(deter, stoch, stoch).feat()

    def dist(self, obs: Tensor, z: Tensor, carry: Carry = ()) -> NoisyMode:
        return self.imagined_dist(self.latent(carry), z)

    def imagined_dist(self, feat: Tensor, z: Tensor) -> NoisyMode:
        """What is done in a state of the model, feat (..., feat_dim)."""
        return self.actor(feat, z)

    def pictured(self) -> Tensor:
        """What the decoder makes of each code, as the world model's ``told`` has it, (n, ...)."""
        return self.world_model.decoder(self.world_model.rssm.expected(self.codes.decoded()).feat())

    def goal_to_skill(self, obs: Tensor, goal: Tensor) -> Tensor:
        """The code that looks most like the goal, wherever one is."""
        wanted = self.world_model.told(goal)
        return torch.cdist(wanted.flatten(1), self.pictured().flatten(1)).argmin(-1)


class Explorer(SkillPolicy):
    """What collects: it acts from the same model as the skills, and has but one skill."""

    def __init__(self, skills: ChoreographerPolicy, action: Field, hidden_dims: Sequence[int]):
        super().__init__(obs=skills.obs, action=action, space=Discrete(1))
        self._skills = (skills,)  # their learner's
        squash = skills.actor.squash
        self.actor = WideActor(Field((skills.world_model.feat_dim,)), action, Discrete(1), hidden_dims, squash=squash)

    def initial(self, n: int) -> Carry:
        return self._skills[0].initial(n)

    def observe(self, obs: Tensor, prev_action: Tensor, first: Tensor, carry: Carry) -> Carry:
        return self._skills[0].observe(obs, prev_action, first, carry)

    def dist(self, obs: Tensor, z: Tensor, carry: Carry = ()) -> NoisyMode:
        return self.actor(self._skills[0].latent(carry), z)


class Choreographer(Learner):
    """A world model, codes of its states, and for each code a way there.

    Args:
        skill_space: how many codes, of how many axes.
        hidden_dims: widths of every network but the recurrent model. policy_view: what the model sees; None is all.
        deter, stoch, classes, hidden: sizes of the recurrent model. depth: channels of the first layer for pictures.
        squash: whether what actors do is squashed by a tanh; else it is held in its box by turning the gradient.
        normalize_obs: whether the model sees each column of a state in units of its spread in what was collected before
            the first update; skills keep these units.
        model_lr: of the model, and of the head that foresees surprise. lr: of codes, actors and critics.
        kl_balance, free_nats: see ``balanced_divergence``.
        horizon, gamma, trace, target_every: of imagination; see ``agents.imagined``.
        starts: states of a batch from which is imagined; None: all.
        neighbours: k. reward_momentum: of the running size by which the explorer's reward is divided.
        resample_every: updates after which codes that were not used are moved; None: never.
        max_grad_norm, weight_decay: of every step.
        batch_size, length: sequences an update, and their transitions.
    """

    policy: ChoreographerPolicy
    encoded: Tensor

    def __init__(
        self,
        spec: Spec,
        *,
        skill_space: Codebook = Codebook(64),
        hidden_dims: Sequence[int] = (400, 400, 400, 400),
        policy_view: str | None = None,
        deter: int = 200,
        stoch: int = 32,
        classes: int = 32,
        hidden: int = 200,
        depth: int = 48,
        squash: bool = True,
        normalize_obs: bool = False,
        model_lr: float = 3e-4,
        lr: float = 8e-5,
        kl_balance: float = 0.8,
        free_nats: float = 1.0,
        horizon: int = 15,
        gamma: float = 0.99,
        trace: float = 0.95,
        target_every: int = 100,
        starts: int | None = None,
        neighbours: int = 30,
        reward_momentum: float = 0.95,
        resample_every: int | None = 200,
        max_grad_norm: float = 100.0,
        weight_decay: float = 1e-6,
        batch_size: int = 50,
        length: int = 50,
    ):
        super().__init__(spec)
        refuse_teams(self, spec)
        if not isinstance(spec.action, Field):
            raise ValueError("learner choreographer needs a box action: it climbs along the model's dynamics")
        check("learner", model_lr=(model_lr, "(0, inf)"), lr=(lr, "(0, inf)"), kl_balance=(kl_balance, "[0, 1]"))
        check("learner", free_nats=(free_nats, "[0, inf)"), gamma=(gamma, "[0, 1)"), trace=(trace, "[0, 1]"))
        check("learner", reward_momentum=(reward_momentum, "[0, 1]"), weight_decay=(weight_decay, "[0, 1)"))
        check_whole("learner", depth=depth, deter=deter, stoch=stoch, classes=classes, hidden=hidden, horizon=horizon)
        check_whole("learner", neighbours=neighbours, target_every=target_every, batch_size=batch_size, length=length)
        check_whole("learner", starts=starts or 1, resample_every=resample_every or 1)
        if horizon < 2:
            raise ValueError(f"learner.horizon is {horizon}: an action is judged by what comes after, take 2 or more")
        obs = spec.obs.select(policy_view)
        sizes: dict[str, Any] = {"depth": depth, "deter": deter, "stoch": stoch, "classes": classes, "hidden": hidden}
        sizes |= {"squash": squash, "normalize": normalize_obs}
        self.columns, self.gamma = spec.obs.columns(obs), gamma
        self.policy = ChoreographerPolicy(
            obs=obs, action=spec.action, space=skill_space, hidden_dims=hidden_dims, **sizes
        )
        self.explorer = Explorer(self.policy, spec.action, hidden_dims)
        self.kl_balance, self.free_nats, self.horizon, self.starts = kl_balance, free_nats, horizon, starts
        self.neighbours, self.resample_every = neighbours, resample_every
        self.batch_size, self.length = batch_size, length
        self.limits = {"max_norm": max_grad_norm, "weight_decay": weight_decay}

        feat_dim = self.policy.world_model.feat_dim
        self.surprise = mlp(feat_dim, hidden_dims, 1, nn.ELU)
        steps: dict[str, Any] = {"gamma": gamma, "trace": trace, "target_every": target_every}
        steps |= {"lr": lr, "max_grad_norm": max_grad_norm, "weight_decay": weight_decay}

        def climber(actor: nn.Module, in_dim: int, momentum: float) -> Climber:
            value = ImaginedValue(in_dim, hidden_dims, **steps)
            return Climber(actor, value, entropy=0.0, momentum=momentum, lr=lr)

        self.exploring = climber(self.explorer.actor, feat_dim, reward_momentum)
        self.skilled = climber(self.policy.actor, feat_dim + skill_space.embed_dim, 1.0)
        self.model_optimizer = Adam(self.policy.world_model.parameters(), model_lr, EPS)
        self.surprise_optimizer = Adam(self.surprise.parameters(), model_lr, EPS)
        self.codes_optimizer = Adam(self.policy.codes.parameters(), lr, EPS)
        self.register_buffer("encoded", torch.zeros(batch_size * length, skill_space.dim))  # the newest, for resampling
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.register_buffer("resampled", torch.zeros((), dtype=torch.int64))  # updates when it was done

    def behaviour(self) -> SkillPolicy:
        return self.explorer

    def look(self, data: Any) -> None:
        units = self.policy.world_model.units
        if isinstance(units, Standardizer):
            measure(data, [(units, self.columns)])

    def needs(self) -> dict[str, Need]:
        return {"sequences": Need("sequences", self.batch_size, length=self.length)}

    def update(self, batches: Batches) -> Metrics:
        batch = batches["sequences"]
        assert isinstance(batch, Batch)
        columns = columns_on(self.columns, batch["obs"].device)
        own = batch.replace(obs=batch["obs"][..., columns], next_obs=batch["next_obs"][..., columns])
        states, kl, metrics = self.fit_model(timeline(own))
        metrics |= self.fit_surprise(states, kl) | self.explore(self.some(states))
        metrics |= self.fit_codes(states.deter.flatten(0, 1))
        self.get_buffer("updates").add_(1)
        return metrics | self.learn_skills(self.some(states))

    # ---- the world

    def fit_model(self, line: Timeline) -> tuple[Latent, Tensor, Metrics]:
        """A step of the world model. The states that it saw, how much each surprised it, (B, T), without gradient."""
        model = self.policy.world_model
        states = model.observe(line, self.generator)
        loss, kl, metrics = model.loss(line, states, balance=self.kl_balance, free=self.free_nats)
        descend(self.model_optimizer, loss, **self.limits)
        return states.detach(), kl, metrics

    def some(self, states: Latent) -> Latent:
        """Where to imagine from, (N, ...)."""
        count, device = states.deter.shape[0] * states.deter.shape[1], states.deter.device
        if self.starts is None:
            return states.take(torch.arange(count, device=device))
        return states.take(torch.randint(count, (self.starts,), generator=self.generator, device=device))

    def imagine(self, start: Latent, actor: nn.Module, z: Tensor) -> Latent:
        """States (horizon + 1, N, ...) that ``actor`` leads to."""

        def act(feat: Tensor) -> Tensor:
            return actor(feat, z).sample(self.generator)[0]

        return self.policy.world_model.imagine(start, act, self.horizon, self.generator)

    # ---- exploration

    def fit_surprise(self, states: Latent, kl: Tensor) -> Metrics:
        """The head foresees the model's surprise at states (B, T)."""
        loss = 0.5 * (self.surprise(states.feat()).squeeze(-1) - kl).square().mean()
        descend(self.surprise_optimizer, loss, **self.limits)
        return {"surprise/loss": loss.detach()}

    def explore(self, start: Latent) -> Metrics:
        """A step of the explorer."""
        z = torch.zeros(len(start.deter), dtype=torch.int64, device=start.deter.device)
        feat = self.imagine(start, self.explorer.actor, z).feat()
        metrics = self.exploring.update(feat, z, feat, self.surprise(feat).squeeze(-1))
        return {f"explorer_{name}": value for name, value in metrics.items()}

    # ---- skills

    def fit_codes(self, deter: Tensor) -> Metrics:
        """A step of the codes on deter (N, deter)."""
        codes = self.policy.codes
        loss, encoded, metrics = codes.loss(deter)
        descend(self.codes_optimizer, loss, **self.limits)
        codes.follow(encoded)
        self.encoded.copy_(encoded)
        return metrics | {"codes/perplexity": codes.perplexity()}

    def learn_skills(self, start: Latent) -> Metrics:
        """A step of the skills, each start with a code of its own."""
        z = self.policy.space.sample(len(start.deter), self.generator).to(start.deter.device)
        imagined = self.imagine(start, self.policy.actor, z)
        feat, reward = imagined.feat(), self.skill_reward(imagined.deter, z)
        skill = self.policy.space.embed(z).expand(len(feat), -1, -1)
        metrics = self.skilled.update(feat, z, torch.cat([feat, skill], -1), reward)
        return metrics | {"reward/intrinsic": reward.detach().mean()}

    def skill_reward(self, deter: Tensor, z: Tensor) -> Tensor:
        """(H + 1, N), of states deter (H + 1, N, deter) with the skills z (N,)."""
        alone = neighbour_distance(deter.flatten(0, 1), self.neighbours).reshape(deter.shape[:2])
        with torch.no_grad():
            there = self.policy.codes.decoded()[z]  # (N, deter)
        return alone - (deter - there).norm(dim=-1)

    def maintain(self, env_steps: int) -> Metrics:
        """Move codes that are of no use, when it is time."""
        updates, resampled = self.get_buffer("updates"), self.get_buffer("resampled")
        if self.resample_every is None or int(updates - resampled) < self.resample_every:
            return {}
        resampled.copy_(updates)
        moved = self.policy.codes.resample(self.encoded, self.generator)
        return {"codes/moved": torch.tensor(float(moved))}
