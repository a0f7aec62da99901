"""Choreographer's meta-controller: it chooses skills, and learns to in the imagination of their own world model.

(Mazzaglia et al. 2023, arXiv:2211.13350, section 3.4.) At every choice it picks one of the codes. A head learns what
the task pays, and the choice climbs imagined returns R by REINFORCE with a baseline:

    max E[(R_{t+1} − V(s_t)) log π(z_t | s_t)] + entropy · H(π),   and the skills' own actor climbs R by the dynamics

It first plays skills by chance, each for ``random_hold`` steps: for ``random_steps`` env steps, and on until anything
was paid.

What differs from the paper or its code (mazpie/choreographer), and why:
- ``frozen``, which the code takes and ignores, is meant: model and skills then stay as they are, bit for bit, and act
  by their mode. Otherwise both are trained further, as in the paper; what is trained is a copy.
- What the task shows beyond what the skills see, such as a goal, is held as it is while imagining, for all that judges.
- A head for whether an episode is over, which DreamerV2 has: tasks here end.
- "Paid" is a reward that is not 0; the code waits for one above 0, which a cost never is.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from skillrl.agents.base import check, check_whole
from skillrl.agents.imagined import EPS, ImaginedValue
from skillrl.controllers.base import Controller
from skillrl.distributions import Categorical
from skillrl.layers import mlp
from skillrl.learners.base import Batches, measure
from skillrl.models.rssm import Latent, masked_mean
from skillrl.models.timeline import Timeline, timeline
from skillrl.moments import Standardizer
from skillrl.optim import Adam, descend
from skillrl.selector import Selector
from skillrl.skill_policy import Imagines, SkillPolicy, columns_on
from skillrl.spec import Batch, Carry, Metrics, Need, Selection, Spec

PAID = 1e-4  # a reward that counts as one


class Imagined(Controller):
    """Chooses skills that bring a world model along (choreographer).

    Args:
        frozen: whether model and skills stay as they are; else they are trained further.
        hold: env steps a choice. random_steps, random_hold: how it begins.
        hidden_dims: widths of its networks.
        model_lr: of the heads, and of the model. lr: of the choice, the critic, and the skills' actor.
        kl_balance, free_nats: of the model, if it is trained.
        horizon, gamma, trace, target_every: of imagination; see ``agents.imagined``. entropy: weight of all entropies.
        starts: states of a batch from which is imagined; None: all.
        max_grad_norm, weight_decay: of every step. batch_size, length: sequences an update, and their transitions.
    """

    paid: Tensor
    choosing: Tensor

    def __init__(
        self,
        spec: Spec,
        skills: SkillPolicy,
        *,
        frozen: bool = False,
        hold: int = 1,
        random_steps: int = 4000,
        random_hold: int = 125,
        hidden_dims: Sequence[int] = (400, 400, 400, 400),
        model_lr: float = 3e-4,
        lr: float = 8e-5,
        kl_balance: float = 0.8,
        free_nats: float = 1.0,
        horizon: int = 15,
        gamma: float = 0.99,
        trace: float = 0.95,
        target_every: int = 100,
        entropy: float = 1e-4,
        starts: int | None = None,
        max_grad_norm: float = 100.0,
        weight_decay: float = 1e-6,
        batch_size: int = 50,
        length: int = 50,
    ):
        super().__init__(spec, skills, hold=hold)
        if not isinstance(skills, Imagines) or skills.space.count is None:
            raise ValueError("controller imagined needs skills that can be counted, with a world model: choreographer")
        check("controller", model_lr=(model_lr, "(0, inf)"), lr=(lr, "(0, inf)"), kl_balance=(kl_balance, "[0, 1]"))
        check("controller", free_nats=(free_nats, "[0, inf)"), gamma=(gamma, "[0, 1)"), trace=(trace, "[0, 1]"))
        check("controller", entropy=(entropy, "[0, inf)"), weight_decay=(weight_decay, "[0, 1)"))
        check_whole("controller", random_hold=random_hold, target_every=target_every, starts=starts or 1)
        check_whole("controller", batch_size=batch_size, length=length)
        if horizon < 2:
            raise ValueError(f"controller.horizon is {horizon}: a choice is judged by what comes after, take 2 or more")
        self.frozen, self.deterministic = frozen, frozen
        self.random_steps, self.random_hold = random_steps, random_hold
        self.kl_balance, self.free_nats, self.horizon, self.starts = kl_balance, free_nats, horizon, starts
        self.gamma, self.entropy, self.batch_size, self.length = gamma, entropy, batch_size, length
        self.limits = {"max_norm": max_grad_norm, "weight_decay": weight_decay}
        self.columns, self.rest = spec.obs.columns(skills.obs), unseen(spec, skills)
        if not frozen:
            self.policy = trainable(skills)

        player = self.behaviour()
        in_dim = player.world_model.feat_dim + len(self.rest)
        self.actor = mlp(in_dim, hidden_dims, skills.space.count, nn.ELU)
        self.reward, self.end = (mlp(in_dim, hidden_dims, 1, nn.ELU) for _ in range(2))
        steps: dict[str, Any] = {"gamma": gamma, "trace": trace, "target_every": target_every, "lr": lr}
        self.value = ImaginedValue(in_dim, hidden_dims, **steps, max_grad_norm=max_grad_norm, weight_decay=weight_decay)
        learnt = [*self.reward.parameters(), *self.end.parameters()]
        self.model_optimizer = Adam(learnt if frozen else [*learnt, *player.world_model.parameters()], model_lr, EPS)
        self.optimizer = Adam(self.actor.parameters(), lr, EPS)
        if not frozen:
            self.skill_optimizer = Adam(player.actor.parameters(), lr, EPS)
        self.register_buffer("paid", torch.zeros((), dtype=torch.bool))
        self.register_buffer("choosing", torch.zeros((), dtype=torch.bool))

    def behaviour(self) -> Any:
        """The skills, or the copy of them that is trained further."""
        return self.skills if self.frozen else self.policy

    def prior(self) -> Selector:
        return Conducting(self)

    def look(self, data: Any) -> None:
        """Where nothing was pretrained, the model has no units yet."""
        units = self.behaviour().world_model.units
        if isinstance(units, Standardizer) and not self.frozen and not int(units.count):
            measure(data, [(units, self.columns)])

    def needs(self) -> dict[str, Need]:
        return {"sequences": Need("sequences", self.batch_size, length=self.length)}

    def logits(self, feat: Tensor, context: Tensor) -> Tensor:
        """Of the skills, (..., n), in states feat (..., feat_dim) with what the skills do not see."""
        return self.actor(torch.cat([feat, context], -1))

    def context(self, obs: Tensor) -> Tensor:
        """What of a task's observation the skills do not see, (..., len(rest))."""
        if not self.rest:
            return obs.new_zeros(*obs.shape[: obs.dim() - len(self.spec.obs.shape)], 0, dtype=torch.float32)
        return obs[..., columns_on(self.rest, obs.device)].float()

    def update(self, batches: Batches) -> Metrics:
        batch = batches["sequences"]
        assert isinstance(batch, Batch)
        self.paid.logical_or_((batch["reward"].abs() > PAID).any())
        line = timeline(batch)
        context = self.context(line.obs)
        own = line._replace(obs=line.obs[..., columns_on(self.columns, line.obs.device)])
        states, metrics = self.fit_model(own, context)
        return metrics | self.learn(states, context)

    # ---- the world, and what the task pays in it

    def fit_model(self, line: Timeline, context: Tensor) -> tuple[Latent, Metrics]:
        """A step of the heads, and of the model if it is trained. The states (B, T, ...), without gradient."""
        model = self.behaviour().world_model
        with torch.set_grad_enabled(not self.frozen):
            states = model.observe(line, self.generator)
        inputs = torch.cat([states.feat(), context], -1)
        reward, end = self.reward(inputs).squeeze(-1), self.end(inputs).squeeze(-1)
        paid = 0.5 * masked_mean((reward - line.reward).square(), line.mask & ~line.first)
        over = F.binary_cross_entropy_with_logits(end, line.terminal.float(), reduction="none")
        loss, metrics = paid + masked_mean(over, line.mask), {"reward/loss": paid.detach()}
        if not self.frozen:
            of_model, _, told = model.loss(line, states, balance=self.kl_balance, free=self.free_nats)
            loss, metrics = loss + of_model, metrics | told
        descend(self.model_optimizer, loss, **self.limits)
        return states.detach(), metrics

    # ---- the choice, learnt in it

    def learn(self, states: Latent, context: Tensor) -> Metrics:
        """A step of choice and critic, and of the skills if they are trained, from states (B, T, ...)."""
        start, context = self.some(states, context)
        imagined, chosen = self.imagine(start, context)
        inputs = torch.cat([imagined.feat(), context.expand(len(chosen) + 1, -1, -1)], -1)
        reward, goes_on = self.reward(inputs).squeeze(-1), torch.sigmoid(-self.end(inputs).squeeze(-1))
        returns, weight = self.value.returns(inputs, reward, goes_on)
        metrics = {"reward/imagined": reward.detach().mean(), "actor/return": returns.detach().mean()}
        metrics |= self.teach_choice(inputs.detach(), chosen, returns, weight)
        if not self.frozen:
            self.teach_skills(imagined.feat().detach(), chosen, returns, weight)
        return metrics | self.value.fit(inputs, returns, weight)

    def some(self, states: Latent, context: Tensor) -> tuple[Latent, Tensor]:
        """Where to imagine from, (N, ...)."""
        count, device = states.deter.shape[0] * states.deter.shape[1], states.deter.device
        if self.starts is None:
            index = torch.arange(count, device=device)
        else:
            index = torch.randint(count, (self.starts,), generator=self.generator, device=device)
        return states.take(index), context.flatten(0, 1)[index]

    def imagine(self, start: Latent, context: Tensor) -> tuple[Latent, Tensor]:
        """States (horizon + 1, N, ...), and the numbers of the skills that led there, (horizon, N)."""
        player, chosen = self.behaviour(), list[Tensor]()

        def act(feat: Tensor) -> Tensor:
            due = len(chosen) % self.hold == 0
            choice = Categorical(self.logits(feat, context)).sample(self.generator)[0] if due else chosen[-1]
            chosen.append(choice)
            dist = player.imagined_dist(feat, player.space.project(choice))
            return dist.mode() if self.frozen else dist.sample(self.generator)[0]

        imagined = player.world_model.imagine(start, act, self.horizon, self.generator)
        return imagined, torch.stack(chosen)

    def teach_choice(self, inputs: Tensor, chosen: Tensor, returns: Tensor, weight: Tensor) -> Metrics:
        """A step of REINFORCE on choices whose consequences were imagined; of entropy alone while nothing is paid."""
        policy = Categorical(self.actor(inputs[: -2 : self.hold]))
        advantage = self.value.advantage(inputs, returns)[:: self.hold] * self.paid
        gain = policy.log_prob(chosen[: -1 : self.hold]) * advantage + self.entropy * policy.entropy()
        loss = -(weight[: -1 : self.hold] * gain).mean()
        descend(self.optimizer, loss, **self.limits)
        return {"actor/loss": loss.detach(), "actor/entropy": policy.entropy().detach().mean()}

    def teach_skills(self, feat: Tensor, chosen: Tensor, returns: Tensor, weight: Tensor) -> None:
        """A step of the skills' actor along the dynamics."""
        player = self.behaviour()
        policy = player.imagined_dist(feat[:-2], player.space.project(chosen[:-1]))
        gain = returns[1:] * self.paid + self.entropy * policy.entropy()
        descend(self.skill_optimizer, -(weight[:-1] * gain).mean(), **self.limits)

    def maintain(self, env_steps: int) -> Metrics:
        """From when on it chooses itself."""
        self.choosing.copy_(self.paid & (env_steps >= self.random_steps))
        return {"actor/choosing": self.choosing.float()}


class Conducting(Selector):
    """The controller's side of the option loop: it reads the skills' carry, which is the model's state."""

    def __init__(self, controller: Imagined):
        self.controller, self.hold = controller, controller.hold

    @torch.no_grad()
    def select(
        self, obs: Tensor, carry: Carry, policy_carry: Carry, first: Tensor, generator: Generator, deterministic: bool
    ) -> Selection:
        controller = self.controller
        player = controller.behaviour()
        choice = Categorical(controller.logits(player.latent(policy_carry), controller.context(obs)))
        if deterministic:
            return Selection(player.space.project(choice.mode()))
        z = player.space.project(choice.sample(generator)[0])
        by_chance = player.space.sample(len(z), generator)
        return Selection(torch.where(controller.choosing, z, by_chance))

    def due(self, obs: Tensor, z: Tensor, skill_step: Tensor, stop: Tensor | None) -> Tensor:
        hold = torch.where(self.controller.choosing, self.controller.hold, self.controller.random_hold)
        return skill_step >= hold


def unseen(spec: Spec, skills: SkillPolicy) -> list[int]:
    """Columns of the task's observation that the skills do not see."""
    seen = spec.obs.columns(skills.obs)
    return [] if seen is None else sorted(set(range(spec.obs.dim)) - set(seen))


def trainable(skills: SkillPolicy) -> SkillPolicy:
    """A copy that can be trained."""
    copy = type(skills)(**skills.arguments)
    copy.load_state_dict(skills.state_dict())
    return copy
