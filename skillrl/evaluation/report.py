"""``report.html``: what a run's skills do, at a glance. It is made from the files of the run's folder alone."""

import base64
import json
import os
import shlex
import struct
from html import escape
from pathlib import Path
from typing import Any

import yaml

from skillrl.evaluation.curves import read_curves
from skillrl.evaluation.figures import DPI
from skillrl.evaluation.report_page import card, figure, folded, page, section, table

USED = {  # what a use may have measured beside success and return
    "choice_skill": "skill",
    "choice_rollouts": "rollouts to choose it",
    "choice_rollouts_uniform": "rollouts that a uniform trial would have needed",
    "choice_env_steps": "env steps of the choice",
    "imitation_skill": "skill that imitates",
    "imitation_nearest": "skill nearest to the expert",
    "imitation_posterior": "its posterior probability",
    "imitation_distance": "its distance to the expert, mean over steps",
    "imitation_distance_others": "the others' distance",
}
CSS_PIXELS = 100 / DPI  # an inch of a figure is 100 pixels of the page


def build_report(run_dir: str | Path) -> Path:
    """Writes ``run_dir/report.html`` and returns its path.

    Reads config.yaml, run.json, metrics.csv and eval/; of these only eval/metrics.json must be there.
    Errors: ValueError if it is not.
    """
    run = Path(run_dir)
    if not (run / "eval" / "metrics.json").is_file():
        raise ValueError(f"{run} has no eval/metrics.json to report on: evaluate the run first")
    scores = json.loads((run / "eval" / "metrics.json").read_text())
    config = _read(run / "config.yaml")
    record = _read(run / "run.json")
    title = _title(config)
    parts = [
        ("skills", "What the skills do", _skills(run, scores)),
        ("apart", "Can they be told apart?", _apart(run, scores)),
        ("use", "Put to use", _use(run, scores, config)),
        ("learning", "How they were learnt", _learning(run)),
        ("record", "The record", _record(scores, config, record)),
    ]
    shown = [(name, heading, part) for name, heading, part in parts if part]
    links = "".join(f'<a href="#{name}">{escape(heading)}</a>' for name, heading, _ in shown)
    body = (
        f"<header><h1>{escape(title)}</h1><p class='soft'>{escape(_subtitle(run, config, record))}</p>"
        f"<nav aria-label='Contents'>{links}</nav></header>\n<main>\n<ul class='cards' aria-label='Headline numbers'>"
        f"{''.join(_cards(scores))}</ul>\n"
        + "\n".join(section(name, heading, *part) for name, heading, part in shown)
        + "\n</main>\n<footer>Made by skillrl from this run's own files. Everything on this page is inside it.</footer>"
    )
    target, partial = run / "report.html", run / "report.partial.html"
    partial.write_text(page(f"{title}: skillrl report", body), encoding="utf-8")
    os.replace(partial, target)
    return target


# ---- headline


def _cards(scores: dict[str, Any]) -> list[str]:
    """The numbers that say whether it worked, each beside what it has to beat."""
    cards = []
    if scores.get("discriminability") is not None:
        arms = [("these skills", "discriminability"), ("untrained network", "discriminability_untrained")]
        arms += [("labels shuffled", "discriminability_permuted"), ("chance", "chance")]
        bars = [(name, scores[key], _percent(scores[key])) for name, key in arms if scores.get(key) is not None]
        told = "of unseen rollouts are assigned to the right skill by a classifier that sees coarse position only."
        cards.append(card("Told apart", _percent(scores["discriminability"]), "", told, bars))
    cards.append(_outcome_card(scores))
    if scores.get("displacement_median") is not None:
        own, other = scores["displacement_median"], scores.get("displacement_median_untrained")
        text = "Median distance between where a rollout starts and where it ends, in the env's units."
        text += f" Untrained network: {other:.2f}." if other is not None else ""
        cards.append(card("How far", f"{own:.2f}", "", text))
    if scores.get("effective_skills") is not None:
        of = scores["num_skills"] or round(1 / scores["chance"])
        text = "How many skills the rollouts are worth: all of them if each is recognised with certainty, 1 if none is."
        if scores["num_skills"] is None:
            text += f" Of {of} fixed draws from a continuous space."
        cards.append(card("Effective skills", f"{scores['effective_skills']:.1f}", f"of {of}", text))
    if scores.get("state_coverage") is not None:
        text = f"Different cells of side {scores['coverage_cell']:g} that 48 rollouts visited, skills dealt evenly."
        cards.append(card("Coverage", f"{scores['state_coverage']}", "cells", text))
    return cards


def _outcome_card(scores: dict[str, Any]) -> str:
    """What a controller, or the skills by themselves, achieve on the env's own terms."""
    used = scores.get("return_mean_random") is not None
    who = _who(scores) if used else "the policy" if scores["num_skills"] == 1 else "skills dealt evenly"
    if scores.get("success_rate") is not None:
        rate, by_chance = scores["success_rate"], scores.get("success_rate_random")
        bars = [(who, rate, _percent(rate))]
        arms = (("skills by chance", by_chance), ("the skill before", scores.get("success_rate_before")))
        bars += [(arm, share, _percent(share)) for arm, share in arms if share is not None]
        return card("Success", _percent(rate), "", "of 48 episodes of the task end in success.", bars)
    own, by_chance = scores["return_mean"], scores.get("return_mean_random")
    text = f"Mean of the env's own reward summed over an episode, 48 episodes, {who}."
    if by_chance is not None:
        text += f" Skills by chance: {by_chance:.3g}."
    if scores.get("return_mean_before") is not None:
        text += f" The skill before: {scores['return_mean_before']:.3g}."
    return card("Return", f"{own:.3g}", "", text)


def _who(scores: dict[str, Any]) -> str:
    """What has used the skills."""
    if "choice_skill" in scores:
        return "finetuned"
    return "imitating" if "imitation_skill" in scores else "with the controller"


# ---- sections: (text, HTML), or None where there is nothing to show


def _skills(run: Path, scores: dict[str, Any]) -> tuple[str, str] | None:
    video = _video(run, "skills", "Every skill from the same kind of start. The small map shows the path so far.")
    ways = _image(run, "trajectories", "All evaluation rollouts, coloured by skill; dots are ends, + the median start.")
    notes = "".join(f"<p class='note'>{escape(note)}</p>" for note in scores.get("notes", []))
    if not ways and not notes:
        notes = "<p class='note'>No trajectories: this env states no coordinates.</p>"
    return "The policy acts deterministically; each rollout has its own random start.", video + notes + ways


def _apart(run: Path, scores: dict[str, Any]) -> tuple[str, str] | None:
    image = _image(run, "confusion", "Rows: the skill that acted. Columns: what the classifier took it for.")
    if not image:
        return None
    permuted, full = scores.get("discriminability_permuted"), scores.get("discriminability_obs")
    text = (
        "A fresh classifier is trained on half of the rollouts and asked about the other half. It sees positions "
        f"floored to cells of side {scores['coverage_cell']:g}: a finer eye can tell even an untrained network's."
    )
    rows = [
        ("these skills", _percent(scores["discriminability"])),
        ("an untrained network of the same shape", _percent(scores.get("discriminability_untrained"))),
        ("labels shuffled over rollouts", _percent(permuted)),
        ("chance", _percent(scores.get("chance"))),
        ("all of the observation (not a fair test)", _percent(full)),
    ]
    return text, f"<div class='pair'>{image}{figure(table(rows), 'Rollouts named rightly.')}</div>"


def _use(run: Path, scores: dict[str, Any], config: dict[str, Any]) -> tuple[str, str] | None:
    if scores.get("return_mean_random") is None:
        return None
    video = _video(run, "control", "Four episodes: the label is the skill in use, and at the end how it went.")
    ways = _image(run, "control_trajectories", "48 episodes, coloured by the skill in use. Rings: goals, with success.")
    curves = "".join(
        _image(run, f"{phase}_curves", "What was logged while it was trained on the task, over env steps.")
        for phase in ("control", "finetune")
    )
    curves += _image(run, "imitation", "The skill that imitates, in blue, and the others.")
    rows = [("controller", _name(config["controller"]))] if config.get("controller") else []
    rows.append(("task", _name(config.get("task")) or "the same env"))
    arms = (("", ""), (", skills by chance", "_random"), (", the skill before", "_before"))
    for what, key, show in (("success", "success_rate", _percent), ("mean return", "return_mean", _plain)):
        rows += [(what + arm, show(scores[key + of])) for arm, of in arms if key + of in scores]
    rows.append(("mean episode length", f"{scores['episode_length']:.4g}"))
    rows += [(label, _plain(scores[key])) for key, label in USED.items() if key in scores]
    facts = figure(table(rows), "Over 48 deterministic episodes.")
    return _how(scores), f"{video}<div class='pair'>{ways}{facts}</div>{curves}"


def _how(scores: dict[str, Any]) -> str:
    """In what way the skills are used, as the scores tell."""
    if "imitation_skill" in scores:
        return (
            "The skill that explains an expert's observations best, by the posterior that was learnt with the skills."
        )
    if "choice_rollouts" in scores:
        certain = "told from all others by its bounds" if scores["choice_decided"] else "not yet told from all others"
        return (
            f"The best skill was found by {scores['choice_rollouts']} rollouts ({certain}; a uniform trial would have "
            f"needed {scores['choice_rollouts_uniform']}), then trained further on the task's reward."
        )
    if "choice_skill" in scores:
        return "One skill was trained further on the task's reward, or from scratch where nothing was kept."
    return "A controller chooses among the skills, which stay as they are; it sees the task's observation and reward."


def _learning(run: Path) -> tuple[str, str] | None:
    curves = _image(run, "pretrain_curves", "Faint: as logged. Strong: a running mean.")
    return ("What was logged during pretraining, over env steps.", curves) if curves else None


def _record(scores: dict[str, Any], config: dict[str, Any], record: dict[str, Any]) -> tuple[str, str]:
    rows = [("command", shlex.join(map(str, record["command"])))] if record.get("command") else []
    git = record.get("git") or {}
    if git.get("commit"):
        rows.append(("commit", git["commit"] + (" with local changes" if git.get("dirty") else "")))
    rows += [(name, str(record[name])) for name in ("started", "status") if record.get(name)]
    rows += [(f"machine: {name}", str(value)) for name, value in _items(record.get("machine"))]
    rows += [(name, str(value)) for name, value in _items(record.get("versions"))]
    measured = [(name, _plain(value)) for name, value in sorted(scores.items()) if name != "notes"]
    content = folded("All measurements", table(measured))
    if config:
        text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
        content += folded("Config", f"<pre tabindex='0'>{escape(text)}</pre>")
    if rows:
        content += folded("Command, commit, versions, machine", table(rows))
    if git.get("diff"):
        content += folded("Local changes", f"<pre class='wrap'>{escape(git['diff'])}</pre>")
    return "Enough to do it again.", content


# ---- small things


def _title(config: dict[str, Any]) -> str:
    learner = "Loaded skills" if config.get("skills") else _name(config.get("learner")) or "Skills"
    env = _name(config.get("env"))
    return f"{learner} on {env}" if env else learner


def _subtitle(run: Path, config: dict[str, Any], record: dict[str, Any]) -> str:
    rows = read_curves(run / "metrics.csv")
    facts = [f"seed {config['seed']}"] if "seed" in config else []
    for phase, verb in (("pretrain", "of pretraining"), ("control", "of control"), ("finetune", "of finetuning")):
        steps = [float(row["env_steps"]) for row in rows if row.get("phase") == phase]
        facts += [f"{max(steps):,.0f} env steps {verb}"] if steps else []
    if config.get("skills"):
        facts.append(f"skills from {config['skills']}")
    return " · ".join([*facts, *([str(record["started"])[:10]] if record.get("started") else [])])


def _name(node: Any) -> str:
    """What a config node is called: the class that it names, or its Gymnasium id, and the agent inside if any."""
    if not isinstance(node, dict) or "_target_" not in node:
        return ""
    name = str(node.get("id") or node["_target_"].rsplit(".", 1)[-1])
    agent = _name(node.get("agent"))
    return f"{name} ({agent})" if agent else name


def _read(path: Path) -> dict[str, Any]:
    return (yaml.safe_load(path.read_text()) or {}) if path.is_file() else {}


def _items(value: Any) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _percent(share: float | None) -> str:
    return "not measured" if share is None else f"{100 * share:.0f} %"


def _plain(value: Any) -> str:
    return "does not apply" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _data(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _image(run: Path, name: str, caption: str) -> str:
    light = run / "eval" / "figures" / f"{name}.png"
    if not light.is_file():
        return ""
    dark = light.with_suffix(".dark.png")
    source = ""
    if dark.is_file():
        source = f'<source media="(prefers-color-scheme: dark)" srcset="{_data(dark, "image/png")}">'
    width, height = struct.unpack(">II", light.read_bytes()[16:24])  # of the PNG's header: the page does not jump
    size = f'width="{round(width * CSS_PIXELS)}" height="{round(height * CSS_PIXELS)}"'
    image = f'<img src="{_data(light, "image/png")}" {size} alt="{escape(caption)}">'
    return figure(f"<picture>{source}{image}</picture>", caption)


def _video(run: Path, name: str, caption: str) -> str:
    path = run / "eval" / "videos" / f"{name}.mp4"
    if not path.is_file():
        return ""
    source = f'aria-label="{escape(caption)}" src="{_data(path, "video/mp4")}"'
    return figure(f"<video autoplay muted loop playsinline controls {source}></video>", caption)
