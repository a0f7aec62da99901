"""The numbers that say whether it worked, each with what it means and what it has to beat."""

from typing import Any

from skillrl.evaluation.readable import number, percent
from skillrl.evaluation.report_page import card

Scores = dict[str, Any]


def cards(scores: Scores) -> list[str]:
    """The HTML of each; what was not measured has none."""
    shown = (_told_apart, _outcome, _how_far, _effective, _coverage)
    return [text for text in (make(scores) for make in shown) if text]


def _told_apart(scores: Scores) -> str:
    if scores.get("discriminability") is None:
        return ""
    arms = [("these skills", "discriminability"), ("untrained network", "discriminability_untrained")]
    arms += [("labels shuffled", "discriminability_permuted"), ("chance", "chance")]
    bars = [(name, scores[key], percent(scores[key])) for name, key in arms if scores.get(key) is not None]
    told = "of unseen rollouts are assigned to the right skill by a classifier that sees coarse position only."
    return card("Told apart", percent(scores["discriminability"]), "", told, bars)


def _outcome(scores: Scores) -> str:
    """What a controller, or the skills by themselves, achieve on the env's own terms."""
    used = scores.get("return_mean_random") is not None
    who = user(scores) if used else "the policy" if scores["num_skills"] == 1 else "skills dealt evenly"
    if scores.get("success_rate") is not None:
        rate, by_chance = scores["success_rate"], scores.get("success_rate_random")
        bars = [(who, rate, percent(rate))]
        arms = (("skills by chance", by_chance), ("the skill before", scores.get("success_rate_before")))
        bars += [(arm, share, percent(share)) for arm, share in arms if share is not None]
        return card("Success", percent(rate), "", "of 48 episodes of the task end in success.", bars)
    text = f"Mean of the env's own reward summed over an episode, 48 episodes, {who}."
    if used:
        text += f" Skills by chance: {number(scores['return_mean_random'])}."
    if scores.get("return_mean_before") is not None:
        text += f" The skill before: {number(scores['return_mean_before'])}."
    return card("Return", number(scores["return_mean"]), "", text)


def user(scores: Scores) -> str:
    """What has used the skills."""
    if "choice_skill" in scores or "choice_env_steps" in scores:
        return "finetuned"
    if "fit_env_steps" in scores:
        return "the fitted skill"
    return "imitating" if "imitation_skill" in scores else "with the controller"


def _how_far(scores: Scores) -> str:
    if scores.get("displacement_median") is None:
        return ""
    text = "Median distance between where a rollout starts and where it ends, in the env's units."
    return card("How far", number(scores["displacement_median"]), "", text + _untrained(scores, "displacement_median"))


def _effective(scores: Scores) -> str:
    if scores.get("effective_skills") is None:
        return ""
    of = scores["num_skills"] or round(1 / scores["chance"])
    text = "How many skills the rollouts are worth: all of them if each is recognised with certainty, 1 if none is."
    if scores["num_skills"] is None:
        text += f" Of {of} fixed draws from a continuous space."
    return card("Effective skills", f"{scores['effective_skills']:.1f}", f"of {of}", text)


def _coverage(scores: Scores) -> str:
    if scores.get("state_coverage") is None:
        return ""
    text = f"Different cells of side {scores['coverage_cell']:g} that 48 rollouts visited, skills dealt evenly."
    return card("Coverage", f"{scores['state_coverage']:,}", "cells", text + _untrained(scores, "state_coverage"))


def _untrained(scores: Scores, key: str) -> str:
    value = scores.get(f"{key}_untrained")
    return "" if value is None else f" Untrained network: {number(value)}."
