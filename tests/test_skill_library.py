"""Skills on disk: what comes back is what was saved, and nothing in a file runs code."""

import json
import os
import pickle
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from skillrl import skill_library
from skillrl.agents.ppo import PPO
from skillrl.agents.sac import SAC
from skillrl.atomic import write_tensors
from skillrl.learners.diayn import DIAYN
from skillrl.learners.primitive import Primitive
from skillrl.networks import OnPolicyActor
from skillrl.skill_library import NotAllowed, load, resolve, save
from skillrl.skill_policy import ActorPolicy, SkillPolicy, ValuePolicy
from skillrl.skill_spaces import Box, Discrete, Gaussian, Sphere
from skillrl.spec import Discrete as Choice
from skillrl.spec import Field, Spec

OBS = Field((5,), "float64", {"xy": (0, 2), "joints": (2, 5)}, {"xy": ("xy",)})
ARM = Field((3,))


def policies() -> list[SkillPolicy]:
    spaces = [Discrete(4), Gaussian(2), Sphere(3), Box(2, -2.0, 0.5)]
    made: list[SkillPolicy] = [ActorPolicy(obs=OBS, action=ARM, space=space, hidden_dims=(8, 8)) for space in spaces]
    made.append(ValuePolicy(obs=OBS, action=Choice(6), space=Discrete(4), hidden_dims=(8,)))
    made.append(ActorPolicy(obs=OBS, action=ARM, space=Discrete(4), hidden_dims=(8,), actor=OnPolicyActor))
    made.append(ActorPolicy(obs=OBS, action=Choice(6), space=Gaussian(2), hidden_dims=(8,), actor=OnPolicyActor))
    for space in (Discrete(4), Gaussian(2)):
        for agent in (SAC, PPO):
            learner = DIAYN(Spec(OBS, ARM), skill_space=space, hidden_dims=(8,), discriminator_view="xy", agent=agent)
            made.append(learner.behaviour())
    return [*made, Primitive(Spec(OBS, ARM)).behaviour()]


@pytest.mark.parametrize(
    "policy", policies(), ids=lambda policy: f"{type(policy).__name__}-{type(policy.space).__name__}"
)
def test_what_comes_back_acts_bit_for_bit_alike(policy: SkillPolicy, tmp_path: Path):
    about = {"env_steps": 3, "learner": {"_target_": "a.B"}}
    save(policy, tmp_path / "skills", about=about)
    for path in (tmp_path, tmp_path / "skills"):  # a run's folder, or the skills' own
        loaded = load(path)
        assert type(loaded) is type(policy) and loaded.space == policy.space
        assert (loaded.obs, loaded.action) == (policy.obs, policy.action)
        obs, z = torch.randn(7, 5, dtype=torch.float64), policy.space.sample(7)
        for deterministic in (True, False):
            acts = [
                p.act(obs, z, deterministic=deterministic, generator=torch.Generator().manual_seed(0))[0]
                for p in (policy, loaded)
            ]
            assert torch.equal(*acts)
        assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    assert skill_library.about(tmp_path)["about"] == about
    assert sorted(path.name for path in (tmp_path / "skills").iterdir()) == ["config.json", "model.safetensors"]


def test_saving_again_replaces(tmp_path: Path):
    first, second = (ActorPolicy(obs=OBS, action=ARM, space=Discrete(2), hidden_dims=[4]) for _ in range(2))
    save(first, tmp_path)
    save(second, tmp_path)
    ours, theirs = second.state_dict(), load(tmp_path).state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_nothing_is_pickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load"), (torch, "save")):
        monkeypatch.setattr(module, name, None)
    save(policies()[0], tmp_path)
    load(tmp_path)


def test_shared_tensors_are_written_under_each_name(tmp_path: Path):
    layer = torch.nn.Linear(2, 2)
    write_tensors(tmp_path / "model.safetensors", torch.nn.ModuleList([layer, layer]))
    tensors = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert torch.equal(tensors["0.weight"], tensors["1.weight"])


# ---- what may be built


def test_classes_of_the_list_are_found():
    assert resolve("skillrl.skill_spaces.Discrete") is Discrete
    assert resolve("envs.point.Point").__name__ == "Point"
    assert resolve("torch.nn.Linear") is torch.nn.Linear  # defined in torch.nn.modules.linear


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "skillrl.checkpoint.os.remove",  # by way of a module that a module of ours imports
        "skillrl.checkpoint.random.Random",
        "skillrl.checkpoint.Path",  # ours by name, defined elsewhere
        "skillrl.run.partial",
        "skillrl.checkpoint.module_state",  # a function
        "skillrl.run.json",
        "gymnasium.make",
        "stable_baselines3.common.save_util.load_from_pkl",
        "skillrlish.Policy",
        "torch.nnx.Policy",
        "torch.load",
        "system",
        "",
    ],
)
def test_what_is_not_on_the_list_is_refused(target: str, tmp_path: Path):
    with pytest.raises(ValueError, match=r"is not allowed|does not exist"):
        resolve(target)
    save(policies()[0], tmp_path)
    for change in (
        lambda config: config["policy"].update(_target_=target),
        lambda config: config["policy"]["space"].update(_target_=target),
        lambda config: config["policy"].update(actor={"_class_": target}),
        lambda config: config["policy"].update(hidden_dims=[{"_target_": target, "command": f"touch {tmp_path}/ran"}]),
    ):
        edit(tmp_path, change)
        with pytest.raises(ValueError, match=r"is not allowed|does not exist|corrupt") as error:
            load(tmp_path)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()


def test_skills_name_policies_and_dataclasses_alone(tmp_path: Path):
    """A class on the list may still do something when it is made; a policy and a dataclass hold values."""
    save(policies()[0], tmp_path)
    edit(tmp_path, lambda config: config["policy"]["space"].update(_target_="skillrl.loggers.Logger", directory="."))
    with pytest.raises(NotAllowed, match="no policy and no dataclass"):
        load(tmp_path)


@pytest.mark.parametrize("target", ["skillrl.loggers.Logger", "torch.nn.Linear", "envs.point.Point"])
def test_an_actor_is_a_network_of_ours(target: str, tmp_path: Path):
    save(policies()[0], tmp_path)
    edit(tmp_path, lambda config: config["policy"].update(actor={"_class_": target}))
    with pytest.raises(NotAllowed, match="it is no network of ours"):
        load(tmp_path)


def test_skills_from_before_they_named_their_actor_load(tmp_path: Path):
    policy = policies()[0]
    save(policy, tmp_path)
    edit(tmp_path, lambda config: config["policy"].pop("actor"))
    ours, theirs = policy.state_dict(), load(tmp_path).state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_class_from_elsewhere_needs_trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = tmp_path / "elsewhere.py"
    package.write_text("from skillrl.skill_policy import ActorPolicy\nclass Mine(ActorPolicy):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    elsewhere = __import__("elsewhere")
    save(elsewhere.Mine(obs=OBS, action=ARM, space=Discrete(2), hidden_dims=[4]), tmp_path / "skills")
    del sys.modules["elsewhere"]
    with pytest.raises(NotAllowed, match=r"lies outside .* \(runtime\.trusted\)"):
        load(tmp_path)
    assert "elsewhere" not in sys.modules, "it was not even imported"
    assert type(load(tmp_path, trusted=["elsewhere"])).__name__ == "Mine"


@dataclass(frozen=True)
class Foreign:
    n: int


def test_a_foreign_class_put_into_our_module_is_refused(monkeypatch: pytest.MonkeyPatch):
    import skillrl.skill_spaces

    monkeypatch.setattr(skillrl.skill_spaces, "Foreign", Foreign, raising=False)
    with pytest.raises(NotAllowed, match="it is defined in "):
        resolve("skillrl.skill_spaces.Foreign")


# ---- what is broken


def edit(folder: Path, change: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


BROKEN = {
    "no config": (lambda f: (f / "config.json").unlink(), "no skills at"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "are incomplete: model.safetensors is missing"),
    "half a config": (lambda f: cut(f / "config.json"), "is corrupt: it is not a skill's config"),
    "binary config": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), "is corrupt"),
    "a list as config": (lambda f: (f / "config.json").write_text("[1]"), "is corrupt"),
    "another format": (lambda f: edit(f, lambda c: c.update(format=99)), "has format 99, this version reads 1"),
    "half the weights": (lambda f: cut(f / "model.safetensors"), "corrupt or of another version"),
    "empty weights": (lambda f: (f / "model.safetensors").write_bytes(b""), "corrupt or of another version"),
    "no policy": (lambda f: edit(f, lambda c: c.pop("policy")), "corrupt or of another version"),
    "other widths": (lambda f: edit(f, lambda c: c["policy"].update(hidden_dims=[9])), "corrupt or of another version"),
    "a wrong type": (lambda f: edit(f, lambda c: c["policy"].update(hidden_dims=3)), "corrupt or of another version"),
    "no space": (lambda f: edit(f, lambda c: c["policy"]["space"].update(n=0)), "corrupt or of another version"),
    "text as policy": (lambda f: edit(f, lambda c: c.update(policy="x")), "corrupt or of another version"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_broken_skills_are_told_in_one_line(broken: str, tmp_path: Path):
    save(policies()[0], tmp_path)
    spoil, message = BROKEN[broken]
    spoil(tmp_path)
    with pytest.raises(ValueError, match=message) as error:
        load(tmp_path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400
