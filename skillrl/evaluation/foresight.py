"""What a world model makes of episodes that it never learnt from: what it sees, and what it foresees without looking.

Some observations of each episode are seen; from there on the model is told the actions alone (as the videos of
DreamerV2, Hafner et al. 2021). All of it is held against the mean observation, the best for who knows nothing.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from skillrl.data.collector import Collector
from skillrl.models.rssm import Latent
from skillrl.models.timeline import Timeline
from skillrl.selector import Fixed
from skillrl.skill_policy import Imagines, SkillPolicy
from skillrl.spec import Field

ROLLOUTS, SEEN, STEPS = 16, 5, 50
SHOWN = 3  # rollouts whose observations are kept


@torch.no_grad()
def foresight(env: Any, policy: SkillPolicy, *, seed: int) -> tuple[dict[str, float | None], dict[str, np.ndarray]]:
    """Scores and arrays of a policy that ``Imagines``, on its skills in ``env``, a rollout a row.

    ``reconstruction_error``: the squared error of what is seen, its mean over an observation; a picture's colours go
    from 0 to 1, a state is in the units that the model sees it in. ``foresight_error``: of what was foreseen, over all
    steps that were. ``mean_obs_error``: of the mean of these very observations, the twin. What is foreseen is a draw
    and no expectation: a model that knows no more than the mean scores worse. Steps after a row's end don't count; None
    where no episode gets so far.
    """
    assert isinstance(policy, Imagines)
    line, generator = watched(env, policy, seed), Generator().manual_seed(seed)
    model, known = policy.world_model, min(SEEN, line.first.shape[1] - 1)
    states = model.observe(line, generator)
    moves = iter(line.action[:, known:].unbind(1))
    start = Latent(*(part[:, known - 1] for part in states))
    ahead = model.imagine(start, lambda feat: next(moves), line.first.shape[1] - known, generator)
    ahead = Latent(*(part[1:].transpose(0, 1) for part in ahead))  # (R, T − known, ...)
    truth = model.told(line.obs)
    seen_error = _where(line.mask, model.decoder.error(states.feat(), truth))  # (R, T)
    ahead_error = _where(line.mask[:, known:], model.decoder.error(ahead.feat(), truth[:, known:]))
    mean = truth[line.mask].mean(0)
    of_mean = _where(line.mask, (truth - mean).square().flatten(2).mean(-1))
    error = torch.cat([seen_error[:, :known], ahead_error], 1)
    kept = place(policy.obs)
    model_saw = torch.cat([model.decoder(states.feat()[:SHOWN, :known]), model.decoder(ahead.feat()[:SHOWN])], 1)
    arrays = {
        # (K, T, ...): pictures, or the coordinates of states, if they have any
        "foresight_obs": line.obs[:SHOWN][..., kept].numpy(),
        "foresight_model": model.shown(model_saw)[..., kept].numpy(),
        "foresight_steps": line.mask[:SHOWN].sum(1).numpy(),  # (K,) of these T, that were
        "foresight_error": error.nanmean(0).numpy(),  # (T,)
        "foresight_mean_error": of_mean.nanmean(0).numpy(),  # (T,)
        "foresight_seen": np.array(known),
    }
    scores = {"reconstruction_error": seen_error, "foresight_error": ahead_error, "mean_obs_error": of_mean}
    means = {name: float(value.nanmean()) for name, value in scores.items()}
    return {name: mean if math.isfinite(mean) else None for name, mean in means.items()}, arrays


def watched(env: Any, policy: SkillPolicy, seed: int) -> Timeline:
    """The first moments of an episode in each row, (R, T, ...), as the policy sees them; skills are dealt evenly."""
    z = policy.space.enumerate(env.num_envs)
    play = Collector(env, policy, Fixed(z), seed=seed, deterministic=True, greedy=True)
    play.reset(seed)
    steps = [play.tick()[0] for _ in range(min(STEPS, play.spec.horizon))]
    ends = torch.stack([step["terminated"] | step["truncated"] for step in steps], 1).long()
    before = torch.zeros_like(ends[:, :1], dtype=torch.bool)
    mask = torch.cat([~before, (ends.cumsum(1) - ends) == 0], 1)  # (R, T): not yet ended when the moment's step began
    obs = torch.stack([steps[0]["obs"], *[step["next_obs"] for step in steps]], 1)[..., play.columns]
    led = torch.stack([torch.zeros_like(steps[0]["action"]), *[step["action"] for step in steps]], 1)
    first = torch.zeros_like(mask)
    first[:, 0] = True
    nothing = torch.zeros(mask.shape)
    return Timeline(obs, led, nothing, nothing.bool(), first, mask)


def place(obs: Field) -> slice | list[int]:
    """Which columns of an observation are shown: all of a picture; of a state where the body is, by the view ``xy``."""
    if len(obs.shape) == 3:
        return slice(None)
    if "xy" not in obs.views and "xy" not in obs.names:
        return []
    columns = obs.columns(obs.select("xy"))
    columns = list(range(obs.dim)) if columns is None else columns
    return columns if len(columns) <= 2 else []


def _where(mask: Tensor, value: Tensor) -> Tensor:
    return value.masked_fill(~mask, float("nan"))
