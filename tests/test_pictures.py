"""A world model that sees pictures: what it reconstructs is the body, and not the mean picture."""

import sys
from contextlib import closing
from pathlib import Path

import pytest
import torch
from checks import Check

import train as train_script
from envs.half_cheetah import HalfCheetah
from skillrl.models.timeline import Timeline
from skillrl.skill_library import load
from skillrl.skill_policy import Imagines

ROWS, STEPS = 16, 49


def reconstruction(skills: Path, seed: int) -> float:
    """The squared error of the skills' model on fresh rollouts, as a share of what the mean of these pictures has.

    Actions are drawn uniformly: rollouts of skills, some of which hold a pose, would say how still they are.
    """
    policy, generator = load(skills), torch.Generator().manual_seed(seed)
    assert isinstance(policy, Imagines)
    model, actions = policy.world_model, 2 * torch.rand(STEPS, ROWS, 6, generator=generator) - 1
    with closing(HalfCheetah(num_envs=ROWS, observe=["pixels"], horizon=STEPS + 1)) as env:
        seen = [env.reset(seed=1000 + seed)[0].copy(), *(env.step(action.numpy())[0].copy() for action in actions)]
    obs = torch.stack([torch.from_numpy(pictures) for pictures in seen], 1)  # (R, T, 64, 64, 3)
    led = torch.cat([torch.zeros(1, ROWS, 6), actions]).transpose(0, 1)
    nothing = torch.zeros(led.shape[:2])
    first = nothing.bool()
    first[:, 0] = True
    with torch.no_grad():
        states = model.observe(Timeline(obs, led, nothing, nothing.bool(), first, ~nothing.bool()), generator)
        truth = model.told(obs)
        error = model.decoder.error(states.feat(), truth).mean()
    return float(error / (truth - truth.mean((0, 1))).square().mean())


@pytest.mark.proof
@pytest.mark.learning("skillrl/models/*.py", "skillrl/learners/choreographer.py")
def test_reconstructions_are_of_the_body(seed: int, check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Beside a model that has learnt nothing."""

    def trained(name: str, *budget: str) -> float:
        run = ["experiment=choreographer/half_cheetah_pixels", f"seed={seed}", "evaluate=false", *budget]
        monkeypatch.setattr(sys, "argv", ["train.py", *run, f"hydra.run.dir={tmp_path / name}"])
        assert train_script.main() == 0
        return reconstruction(tmp_path / name, seed)

    check(
        {
            "error of reconstruction, of the mean picture's": (trained("learnt"), "<= 0.8"),
            "its twin, untrained": (trained("fresh", "pretrain.env_steps=0"), "> 1"),
        }
    )
