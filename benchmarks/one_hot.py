"""Would it pay to look a one-hot z up instead of multiplying it?"""

from typing import Any

from alternate import Benchmark, Column, Contender, Measure, main, timed

SIZES = [(width, n) for width in (256, 128) for n in (50, 8)]
BATCH = 256


def state_and_batch(width: int, n: int) -> tuple[Any, Any]:
    import ours
    import torch

    from skillrl.spec import Batch

    wide = [f"learner.hidden_dims=[{width},{width}]", f"learner.skill_space.n={n}", "pretrain.capacity=1000"]
    state = ours.begun(["learner=diayn", "env=half_cheetah", *wide])
    spec = state.learner.spec
    return state, Batch(
        obs=torch.randn(BATCH, spec.obs.dim),
        next_obs=torch.randn(BATCH, spec.obs.dim),
        action=2 * torch.rand(BATCH, spec.action.dim) - 1,
        discount=torch.full((BATCH,), 0.99),
        z=torch.randint(n, (BATCH,)),
    )


def multiplied(width: int, n: int) -> Measure:
    """As it is: the one-hot z stands beside what else a network takes, and all goes through one product."""
    state, batch = state_and_batch(width, n)
    return timed(lambda: bool(state.learner.update({"batch": batch})))


def looked_up(width: int, n: int) -> Measure:
    """With the same parameters: a product without z, and to it the column of the first layer's weights that is z's."""
    import torch
    from torch.nn import functional as F

    from skillrl.networks import LOG_STD_MAX, LOG_STD_MIN, TanhNormal

    def through(net: Any, x: Any, z: Any) -> Any:
        first, known = net[0], x.shape[-1]
        columns = first.weight[:, known:].t().contiguous()
        return net[1:](F.linear(x, first.weight[:, :known], first.bias) + F.embedding(z, columns))

    def acting(obs: Any, z: Any) -> Any:
        mean, log_std = through(agent.actor.net, obs, z).chunk(2, -1)
        return TanhNormal(mean, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX))

    def judging(critic: Any) -> Any:
        def forward(obs: Any, z: Any, action: Any) -> Any:
            x = torch.cat([obs, action], -1)
            return torch.stack([through(net, x, z) for net in critic.nets])

        return forward

    state, batch = state_and_batch(width, n)
    agent = state.learner.agent
    of_all = batch["obs"], batch["z"], batch["action"]
    before = agent.critic(*of_all), agent.actor(*of_all[:2]).mode()
    agent.actor.forward = acting
    for critic in (agent.critic, agent.target_critic):
        critic.forward = judging(critic)
    after = agent.critic(*of_all), agent.actor(*of_all[:2]).mode()
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(before, after))
    return timed(lambda: bool(state.learner.update({"batch": batch})))


def case(width: int, n: int) -> list[Contender]:
    of = {"width": width, "n": n}
    return [Contender(how.__name__.replace("_", " "), how, of, cores=1) for how in (looked_up, multiplied)]


BENCHMARK = Benchmark(
    script=__file__,
    question=__doc__,
    notes=(
        "It does not pay, so z stays where it is: beside the observation, in one product. An update of DIAYN at "
        f"HalfCheetah's sizes, batch {BATCH}, on one core with one thread, in CPU time. *Looked up* adds the column of "
        "the first layer's weights that belongs to z to a product without z, with the same parameters: what the "
        "smaller products save is spent on gathering columns and on adding up their gradient."
    ),
    cases={f"two layers of {width}, {n} skills": case(width, n) for width, n in SIZES},
    columns=[Column("cpu_ms", "CPU ms an update", "{:.2f}")],
    seconds=2.0,
)

if __name__ == "__main__":
    main(BENCHMARK)
