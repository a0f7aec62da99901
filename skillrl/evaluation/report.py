"""``report.html``: what a run's skills do, at a glance. It is made from the files of the run's folder alone."""

import json
import os
import shlex
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from skillrl.evaluation.curves import MEANING, STEPS, USES, axis_of, baselines, curves_of, read_curves, slug, smooth
from skillrl.evaluation.embedded import image, videos
from skillrl.evaluation.headline import cards, user
from skillrl.evaluation.metrics import displacement
from skillrl.evaluation.readable import number, percent, plain
from skillrl.evaluation.report_page import bar, figure, folded, page, section, skill_table, table
from skillrl.evaluation.theme import skill_colours

IN_USE = {  # by whom the skills were used
    "with the controller": "A controller chooses among the skills, which stay as they are; it sees the task's "
    "observation and reward.",
    "finetuned": "One skill was chosen and then trained further on the task's reward.",
    "the fitted skill": "The skill that a regression of the task's reward asks for, as it is.",
    "imitating": "The skill that the expert's observations speak of, as it is.",
}
OF = {
    "pretrain": "of pretraining",
    "control": "of control",
    "finetune": "of finetuning",
    "zero_shot": "of sampling a reward",
}
MEASURED = {  # by a use, beside success and return
    "choice_skill": "skill",
    "choice_rollouts": "rollouts to choose it",
    "choice_rollouts_uniform": "rollouts that a uniform trial would have needed",
    "choice_env_steps": "env steps of the choice",
    "fit_env_steps": "env steps of the reward's samples",
    "fit_rewarded": "share of them that paid",
    "imitation_skill": "skill that imitates",
    "imitation_nearest": "skill nearest to the expert",
    "imitation_posterior": "its posterior probability",
    "imitation_distance": "its distance to the expert, mean over steps",
    "imitation_distance_others": "the others' distance",
}


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
        ("foresight", "What their world model foresees", _foresight(run, scores)),
        ("use", "Put to use", _use(run, scores, config)),
        ("learning", "How they were learnt", _learning(run)),
        ("record", "The record", _record(scores, config, record)),
    ]
    shown = [(name, heading, part) for name, heading, part in parts if part]
    body = (
        f"<header><h1>{escape(title)}</h1><p class='soft'>{escape(_subtitle(run, config, record))}</p></header>\n"
        f"{bar([(name, heading) for name, heading, _ in shown])}\n<main>\n"
        f"<ul class='cards' aria-label='Headline numbers'>{''.join(cards(scores))}</ul>\n"
        + "\n".join(section(name, heading, *part) for name, heading, part in shown)
        + "\n</main>\n<footer>Made by skillrl from this run's own files. Everything on this page is inside it.</footer>"
    )
    target, partial = run / "report.html", run / "report.partial.html"
    partial.write_text(page(f"{title}: skillrl report", body), encoding="utf-8")
    os.replace(partial, target)
    return target


# ---- sections: (text, HTML), or None where there is nothing to show


def _skills(run: Path, scores: dict[str, Any]) -> tuple[str, str] | None:
    film = videos(run, "skills", "Every skill from the same kind of start. A small map shows the path in the plane.")
    ways = image(
        run, "trajectories", "All evaluation rollouts, coloured by skill; dots are ends (other marks: other agents of "
        "a team), + is the median start.",
        f"Paths of the rollouts. Median distance from start to end: {number(scores.get('displacement_median'))}.",
    )  # fmt: skip
    visited = image(
        run, "coverage", "Coverage: cells that any of 48 rollouts has visited by then. Dashed: untrained networks.",
        f"Distinct cells visited over the steps of an episode: {plain(scores.get('state_coverage'))} at the end, by "
        f"untrained networks {number(scores.get('state_coverage_untrained'))}.",
    )  # fmt: skip
    of_skills, table_of_skills = _skill_by_skill(run)
    earned = image(
        run, "returns", "Return of each skill by the env's own reward, which the skills were not taught. Dots: "
        "rollouts. Bars: their mean.",
        "Mean return of each skill: " + ", ".join(f"{name} {values[0]}" for name, _, values in of_skills),
    )  # fmt: skip
    notes = "".join(f"<p class='note'>{escape(note)}</p>" for note in scores.get("notes", []))
    if not ways and not notes:
        notes = "<p class='note'>No trajectories: this env states no coordinates.</p>"
    stack = f"<div class='stack'>{visited}{earned}</div>" if visited or earned else ""
    pictures = f"<div class='pair'>{ways}{stack}</div>" if ways or stack else ""
    text = "The policy acts deterministically; each rollout has its own random start."
    return text, film + notes + pictures + table_of_skills


def _skill_by_skill(run: Path) -> tuple[list[tuple[str, str, list[str]]], str]:
    """A line for each skill, (name, colour, values), and the table of them; nothing where there are no skills."""
    path = run / "eval" / "trajectories.npz"
    arrays = dict(np.load(path)) if path.is_file() else {}
    labels = arrays.get("label", np.zeros(0, int))
    if "returns" not in arrays or not (labels >= 0).any():
        return [], ""
    agents = int(arrays.get("agents", 1))
    far = displacement(arrays["coordinates"], arrays["length"], agents) if arrays["coordinates"].shape[-1] else None
    heads = ["return, mean", "return, sd", "env steps"]
    heads += ["" if far is None else "distance, median", "recognised" if "confusion" in arrays else ""]
    lines = []
    for skill, colour in enumerate(skill_colours(int(labels.max()) + 1)):
        mine = labels == skill
        earned = arrays["returns"][mine]
        values = [number(float(earned.mean())), number(float(earned.std(ddof=1))) if len(earned) > 1 else "one rollout"]
        values.append(number(float(arrays["length"][mine].mean())))
        values += [] if far is None else [number(float(np.median(far[mine])))]
        values += [percent(float(arrays["confusion"][skill, skill]))] if "confusion" in arrays else []
        lines.append((f"skill {skill}", colour, values))
    count = int((labels == 0).sum())
    shown = skill_table([head for head in heads if head], lines)
    return lines, folded(f"Skill by skill, {count} rollouts each", shown)


def _apart(run: Path, scores: dict[str, Any]) -> tuple[str, str] | None:
    matrix = image(
        run, "confusion", "Confusion of the fresh classifier. Rows: the skill that acted. Columns: what it was taken "
        "for. All on the diagonal is perfect.",
        f"Confusion matrix: {percent(scores.get('discriminability'))} of the held-out rollouts lie on the diagonal.",
    )  # fmt: skip
    if not matrix:
        return None
    text = (
        "A fresh classifier is trained on half of the rollouts and asked about the other half. It sees positions "
        f"floored to cells of side {scores['coverage_cell']:g}: a finer eye can tell even an untrained network's."
    )
    rows = [
        ("these skills", percent(scores["discriminability"])),
        (
            "control: an untrained network of the same shape, mean of 3",
            percent(scores.get("discriminability_untrained")),
        ),
        ("control: labels shuffled over rollouts, mean of 3", percent(scores.get("discriminability_permuted"))),
        *_agents(scores),
        ("chance", percent(scores.get("chance"))),
        ("from all of the observation (no fair test)", percent(scores.get("discriminability_obs"))),
    ]
    facts = figure(table(rows), "Share of held-out rollouts whose skill the classifier names.")
    return text, f"<div class='pair'>{matrix}{facts}</div>"


def _foresight(run: Path, scores: dict[str, Any]) -> tuple[str, str] | None:
    if scores.get("reconstruction_error") is None:
        return None
    ahead = scores["foresight_error"]
    made = image(
        run, "foresight", "Episodes as they were, and as the model has them: pictures above each other, or paths, "
        "dashed from the last moment that it saw.",
        f"The model beside what was. Squared error of what it foresees: {number(ahead)}.",
    )  # fmt: skip
    error = image(
        run, "foresight_error", "Squared error over the steps of an episode, its mean over 16 rollouts. Dashed: the "
        "mean of their observations.",
        f"Squared error of the model, {number(ahead)} ahead, beside {number(scores['mean_obs_error'])} of the mean.",
    )  # fmt: skip
    rows = [
        ("of what it sees", number(scores["reconstruction_error"])),
        ("of what it foresees", number(ahead)),
        ("control: of the mean observation", number(scores["mean_obs_error"])),
    ]
    facts = figure(table(rows), "Squared error of an observation; a picture's colours go from 0 to 1.")
    text = (
        "Fresh rollouts of the skills, which the model did not learn from. It sees the first few moments; from there "
        "on it is told the actions and nothing else."
    )
    return text, f"{made}<div class='pair'>{error}{facts}</div>"


def _agents(scores: dict[str, Any]) -> list[tuple[str, str]]:
    """What each agent of a team tells alone."""
    told = scores.get("discriminability_agents") or []
    return [(f"from agent {i} alone", percent(accuracy)) for i, accuracy in enumerate(told)]


def _use(run: Path, scores: dict[str, Any], config: dict[str, Any]) -> tuple[str, str] | None:
    if scores.get("return_mean_random") is None:
        return None
    film = videos(run, "control", "Episodes of the task: the label is the skill in use, and at the end how it went.")
    ways = image(
        run, "control_trajectories", "48 episodes, coloured by the skill in use. Rings: goals, green where "
        "most of their episodes reached them, with the share of these where there are several.",
        f"Paths of 48 episodes of the task. Success: {percent(scores.get('success_rate'))}.",
    )  # fmt: skip
    rows = [("controller", _name(config["controller"]))] if config.get("controller") else []
    rows.append(("task", _name(config.get("task")) or "the same env"))
    arms = {"": "", ", skills by chance": "_random", ", the skill before": "_before"}
    for what, key, show in (("success", "success_rate", percent), ("return, mean", "return_mean", number)):
        rows += [(what + arm, show(scores[key + of])) for arm, of in arms.items() if scores.get(key + of) is not None]
    rows += [("env steps of an episode, mean", number(scores["episode_length"]))]
    rows += [(label, plain(scores[key])) for key, label in MEASURED.items() if key in scores]
    facts = figure(table(rows), "Over 48 deterministic episodes of each.")
    alike = image(run, "imitation", "The skill that imitates, and the others.", "Each skill against the expert.")
    learnt = read_curves(run / "metrics.csv")
    main = rest = ""
    for phase in USES:
        found = list(curves_of(learnt, phase))
        compared = [name for name in found if baselines(name, scores)]
        main += _panels(run, phase, compared, " Dashed: what did not learn here, as evaluated.")
        rest += _panels(run, phase, [name for name in found if name not in compared])
    return IN_USE[user(scores)], f"{film}{main}{alike}<div class='pair'>{ways}{facts}</div>" + (
        folded("More of its curves", rest) if rest else ""
    )


def _learning(run: Path) -> tuple[str, str] | None:
    curves = _panels(run, "pretrain", list(curves_of(read_curves(run / "metrics.csv"), "pretrain")))
    return ("As logged during pretraining. Faint: every row. Strong: a running mean.", curves) if curves else None


def _panels(run: Path, phase: str, names: list[str], more: str = "") -> str:
    """Figures of columns of metrics.csv, each with what it is."""
    rows = read_curves(run / "metrics.csv")
    found, over = curves_of(rows, phase), STEPS[axis_of(rows, phase)]
    shown = ""
    for name in names:
        steps, values = found[name]
        ends = smooth(values)
        alt = f"{name}, from {number(float(ends[0]))} to {number(float(ends[-1]))} at {steps[-1]:,.0f} {over}."
        shown += image(run, f"{phase}_{slug(name)}", MEANING.get(name, f"{name} in metrics.csv.") + more, alt)
    return f"<div class='panels'>{shown}</div>" if shown else ""


def _record(scores: dict[str, Any], config: dict[str, Any], record: dict[str, Any]) -> tuple[str, str]:
    rows: list[tuple[str, str]] = []
    git = record.get("git") or {}
    if git.get("commit"):
        rows.append(("commit", git["commit"] + (" with local changes" if git.get("dirty") else "")))
    rows += [(name, str(record[name])) for name in ("started", "status") if record.get(name)]
    rows += [(f"machine: {name}", str(value)) for name, value in _items(record.get("machine"))]
    rows += [(name, str(value)) for name, value in _items(record.get("versions"))]
    measured = [(name, plain(value)) for name, value in sorted(scores.items()) if name != "notes"]
    content = ""
    if record.get("command"):
        content = f"<pre class='wrap command'>python {escape(shlex.join(map(str, record['command'])))}</pre>"
    content += folded("All measurements", table(measured))
    if config:
        text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
        content += folded("Config", f"<pre tabindex='0'>{escape(text)}</pre>")
    if rows:
        content += folded("Commit, versions, machine", table(rows, long=True))
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
    for phase, verb in OF.items():
        axis = axis_of(rows, phase)
        steps = [float(row[axis]) for row in rows if row.get("phase") == phase]
        facts += [f"{max(steps):,.0f} {STEPS[axis]} {verb}"] if steps else []
    facts += [f"{key} from {config[key]}" for key in ("skills", "data") if config.get(key)]
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
