"""The report: all that the run says, nothing from outside, and nothing that a config could smuggle in."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest
import yaml
from PIL import Image

from skillrl.evaluation import build_report
from skillrl.evaluation.readable import number

SCORES = {
    "num_skills": 8, "chance": 0.125, "coverage_cell": 0.5, "state_coverage": 37, "discriminability": 0.96,
    "discriminability_permuted": 0.11, "discriminability_untrained": 0.23, "discriminability_obs": 0.99,
    "effective_skills": 7.31, "displacement_median": 1.23, "displacement_median_untrained": 0.21, "success_rate": None,
    "success_rate_random": None, "return_mean": -1.5, "return_mean_random": None, "episode_length": 200.0, "notes": [],
}  # fmt: skip


class Page(HTMLParser):
    """Text, addresses and ids of a page, and whether its tags close in order."""

    EMPTY = ("meta", "link", "img", "source", "br", "input")

    def __init__(self, html):
        super().__init__()
        self.open, self.addresses, self.ids, self.words, self.tags = [], [], [], [], []
        self.feed(html)
        self.text = " ".join(" ".join(self.words).split())
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.addresses += [value for name, value in attributes if name in ("src", "href", "srcset", "action")]
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)


def make_run(folder, scores=SCORES, config=None, record=None, pictures=()):
    (folder / "eval" / "figures").mkdir(parents=True)
    (folder / "eval" / "videos").mkdir()
    (folder / "eval" / "metrics.json").write_text(json.dumps(scores))
    if config is not None:
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
    if record is not None:
        (folder / "run.json").write_text(json.dumps(record))
    for name in pictures:
        Image.fromarray(np.zeros((170, 340, 3), np.uint8)).save(folder / "eval" / "figures" / name)
    return folder


def add_video(run):
    (run / "eval" / "videos" / "skills-0.mp4").write_bytes(b"not really")
    about = {"note": "6× speed", "videos": [{"file": "skills-0.mp4", "name": "skill 0, fell"}]}
    (run / "eval" / "videos" / "skills.json").write_text(json.dumps(about))


def report(run):
    return build_report(run).read_text(encoding="utf-8")


def test_the_headline_stands_beside_its_controls(tmp_path):
    config = {"seed": 3, "skills": None, "env": {"_target_": "envs.swimmer.Swimmer"}}
    config |= {"learner": {"_target_": "skillrl.learners.diayn.DIAYN", "agent": {"_target_": "skillrl.agents.sac.SAC"}}}
    text = Page(report(make_run(tmp_path, config=config))).text
    assert "DIAYN (SAC) on Swimmer" in text and "seed 3" in text
    for words in ("96 %", "untrained network 23 %", "labels shuffled 11 %", "7.3 of 8", "1.23", "network: 0.21"):
        assert words in text
    assert "37 cells" in text and "cells of side 0.5" in text.lower() and "-1.5" in text
    assert "Put to use" not in text


def test_a_controller_is_held_against_chance(tmp_path):
    scores = SCORES | {"success_rate": 0.875, "success_rate_random": 0.125, "return_mean_random": 0.125}
    html = report(make_run(tmp_path, scores, {"controller": {"_target_": "skillrl.controllers.rl.RL"}}))
    text = Page(html).text
    assert "with the controller 88 %" in text and "skills by chance 12 %" in text and "Put to use" in text


def test_nothing_is_asked_of_the_network_and_every_link_leads_somewhere(tmp_path):
    run = make_run(tmp_path, pictures=("trajectories.png", "trajectories.dark.png", "confusion.png"))
    add_video(run)
    page = Page(report(run))
    assert len(page.addresses) >= 8
    for address in page.addresses:
        assert address.startswith("data:") or (address[0] == "#" and address[1:] in page.ids)
    assert len(page.ids) == len(set(page.ids))
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and a.get("http-equiv"))
    assert policy.startswith("default-src 'none'") and "http" not in policy


def test_pictures_are_sized_described_and_made_for_both_themes(tmp_path):
    run = make_run(tmp_path, pictures=("trajectories.png", "trajectories.dark.png"))
    add_video(run)
    page = Page(report(run))
    (image,) = [a for tag, a in page.tags if tag == "img"]
    assert (image["width"], image["height"]) == ("200", "100") and len(image["alt"]) > 20
    assert [a["media"] for tag, a in page.tags if tag == "source"] == ["(prefers-color-scheme: dark)"]
    (video,) = [a for tag, a in page.tags if tag == "video"]
    assert {"muted", "loop", "playsinline", "controls"} <= set(video) and "autoplay" not in video
    assert video["aria-label"] == "skill 0, fell" and "6× speed" in page.text


def test_values_are_escaped(tmp_path):
    evil = "<script>alert('x')</script>"
    config = {"seed": evil, "skills": f'"{evil}', "env": {"_target_": f"a.{evil}"}, "learner": {"note": evil}}
    record = {"command": ["train.py", evil], "versions": {evil: evil}, "machine": {"cpu": evil}}
    record["git"] = {"commit": evil, "dirty": True, "diff": f"+ {evil}"}
    page = Page(report(make_run(tmp_path, SCORES | {"notes": [evil]}, config, record)))
    assert [tag for tag, _ in page.tags].count("script") == 1  # the page's own
    assert page.text.count("alert('x')") >= 8


def test_what_is_missing_is_said_in_a_line(tmp_path):
    nothing = dict.fromkeys(SCORES) | {"num_skills": 1, "return_mean": 2.0, "episode_length": 5.0}
    text = Page(report(make_run(tmp_path, nothing | {"notes": ["No video: no off-screen OpenGL"]}))).text
    assert "No video: no off-screen OpenGL" in text and "Told apart" not in text
    assert "the policy" in text and "does not apply" in text


def test_the_record_can_be_repeated(tmp_path):
    record = {"command": ["train.py", "note=a b"], "started": "2030-01-02T03:04:05", "versions": {"torch": "2.13.0"}}
    record["git"] = {"commit": "0123abcd", "dirty": False, "diff": ""}
    text = Page(report(make_run(tmp_path, config={"pretrain": {"env_steps": 80000}}, record=record))).text
    for words in ("train.py 'note=a b'", "0123abcd", "torch 2.13.0", "env_steps: 80000", "2030-01-02"):
        assert words in text
    assert "local changes" not in text.lower()


def test_a_run_that_was_not_evaluated_is_refused(tmp_path):
    with pytest.raises(ValueError, match="evaluate the run first"):
        build_report(tmp_path)


def test_each_skill_has_its_return_its_distance_and_who_knew_it(tmp_path):
    run = make_run(tmp_path)
    coordinates = np.zeros((4, 3, 2))
    coordinates[:, -1, 0] = [1.0, 2.0, 3.0, 4.0]
    arrays = {"coordinates": coordinates, "length": np.full(4, 2), "label": np.array([0, 1, 0, 1])}
    arrays |= {"returns": np.array([1.0, 10.0, 3.0, 1234.0]), "confusion": np.array([[1.0, 0.0], [0.5, 0.5]])}
    np.savez(run / "eval" / "trajectories.npz", **arrays)
    text = Page(report(run)).text
    assert "Skill by skill, 2 rollouts each" in text
    assert "skill return, mean return, sd env steps distance, median recognised" in text
    assert "skill 0 2.00 1.41 2.00 2.00 100 %" in text and "skill 1 622 865 2.00 3.00 50 %" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0625, "0.0625"), (-1.5, "-1.50"), (1234.5, "1,234"), (0, "0"), (3e-9, "3.00e-09"), (None, "not measured")],
)
def test_numbers_have_three_digits(value, text):
    assert number(value) == text
