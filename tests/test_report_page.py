"""The report in a real browser: it shows, plays together, obeys the keyboard, and stays on this machine."""

import base64
import json

import browser
import numpy as np
import pytest
from compass import compass

from envs.goal import PointGoal
from envs.point import Point
from skillrl.evaluation import build_report, evaluate
from skillrl.selector import Prior

SKILLS = 16


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of 16 skills and a controller, evaluated as any other; its training's metrics are written by hand."""
    folder = tmp_path_factory.mktemp("run")
    policy = compass(SKILLS)
    lines = ["env_steps,phase,discriminator/accuracy,episode/return,episode/success"]
    for phase in ("pretrain", "control"):
        lines += [f"{i * 1000},{phase},{1 - 1 / (i + 1)},{i / 30},{i / 40}" for i in range(30)]
    (folder / "metrics.csv").write_text("\n".join(lines))
    (folder / "run.json").write_text(json.dumps({"command": ["train.py", "seed=3"], "versions": {"torch": "2"}}))
    (folder / "config.yaml").write_text("seed: 3\n" + "".join(f"line_{i}: {i}\n" for i in range(80)))
    evaluate(
        make_env=lambda n: Point(num_envs=n, horizon=20),
        policy=policy,
        run_dir=folder,
        controller=Prior(policy.space, hold=5),
        make_task_env=lambda n: PointGoal(num_envs=n, horizon=20),
    )
    return build_report(folder)


@pytest.fixture
def opened(run, request):
    """(page, **wishes) by ``request.param``: a browser that shows the report."""
    if browser.find() is None:
        pytest.skip(f"no Chromium: none of {', '.join(browser.NAMES)} is on PATH")
    with browser.Browser(**getattr(request, "param", {})) as page:
        page.open(run)
        page.until("[...document.querySelectorAll('video')].every(video => video.readyState == 4)")
        yield page


def clocks(page):
    return np.array(page.eval("[...document.querySelectorAll('video')].map(video => video.currentTime)"))


def paused(page):
    return page.eval("[...document.querySelectorAll('video')].map(video => video.paused)")


def test_sixteen_skills_stay_under_25_mb(run):
    """The point's videos are light, so each is also counted as 0.5 MB: five times a body's."""
    size = run.stat().st_size
    videos = sum(file.stat().st_size for file in (run.parent / "eval" / "videos").glob("*-*.mp4"))
    rest = size - videos * 4 / 3
    assert size < 25e6 and rest + 20 * 0.5e6 * 4 / 3 < 25e6
    text = run.read_text(encoding="utf-8")
    assert text.count("<video") == SKILLS + 4
    first = (run.parent / "eval" / "videos" / "skills-0.mp4").read_bytes()
    assert base64.b64encode(first).decode() in text


@pytest.mark.parametrize(
    "opened", [{"width": 1280}, {"width": 390, "dark": True}], ids=["wide", "narrow"], indirect=True
)
def test_it_shows_without_an_error_or_a_request(opened):
    said = [*opened.told("Log.entryAdded"), *opened.told("Runtime.exceptionThrown")]
    assert said + opened.told("Runtime.consoleAPICalled") == []
    asked = {event["request"]["url"].split(":")[0] for event in opened.told("Network.requestWillBeSent")}
    assert asked <= {"file", "data"}
    assert opened.told("Network.webSocketCreated") == []
    files = [e for e in opened.told("Network.requestWillBeSent") if e["request"]["url"].startswith("file")]
    assert len(files) == 1  # the page itself
    images = "[...document.images].map(image => image.complete && image.naturalWidth > 0 && image.alt.length > 20)"
    assert len(opened.eval(images)) >= 6 and all(opened.eval(images))
    assert opened.eval("document.documentElement.scrollWidth <= innerWidth")  # nothing sticks out
    cut = "[...document.querySelectorAll('main td, .card *, figcaption')].filter(e => e.scrollWidth > e.clientWidth + 1"
    assert opened.eval(cut + " && e.clientWidth > 0 && !e.closest('.scroll')).length") == 0


@pytest.mark.parametrize("opened", [{}, {"dark": True}], ids=["light", "dark"], indirect=True)
def test_figures_are_those_of_the_theme(opened, run):
    dark = opened.eval("matchMedia('(prefers-color-scheme: dark)').matches")
    wanted = run.parent / "eval" / "figures" / ("trajectories.dark.png" if dark else "trajectories.png")
    shown = opened.eval("[...document.images].map(image => image.currentSrc)")
    assert "data:image/png;base64," + base64.b64encode(wanted.read_bytes()).decode() in shown
    ground = opened.eval("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert max(ground) < 60 if dark else min(ground) > 200


def test_videos_play_together(opened):
    opened.until("[...document.querySelectorAll('video')].every(video => video.currentTime > 0.3)")
    assert not any(paused(opened))
    opened.eval("videos[3].currentTime = 2")  # one that lost the beat
    opened.until("Math.abs(videos[3].currentTime - videos[0].currentTime) < 0.15")
    opened.press("Tab")  # with the keyboard alone: the button comes after the links
    while opened.eval("document.activeElement.id") != "play":
        opened.press("Tab")
    opened.press(" ")
    assert all(paused(opened)) and "Play" in opened.eval("document.activeElement.textContent")
    for group in (slice(0, SKILLS), slice(SKILLS, None)):
        opened.until("videos.every(video => !video.seeking)")
        assert np.ptp(clocks(opened)[group]) < 1e-3  # at rest all of a group show the same moment
    before = clocks(opened)
    assert (clocks(opened) == before).all()
    opened.press("Enter")
    assert not any(paused(opened))
    opened.eval("document.querySelector('video').click()")
    assert all(paused(opened))


@pytest.mark.parametrize("opened", [{"still": True}], ids=["still"], indirect=True)
def test_who_asked_for_less_motion_presses_play(opened):
    opened.until("videos.every(video => !video.seeking)")
    assert all(paused(opened)) and (clocks(opened) == 0).all()
    opened.eval("document.getElementById('play').click()")
    opened.until("videos.every(video => video.currentTime > 0.1)")


@pytest.mark.parametrize("opened", [{"still": True}], ids=["still"], indirect=True)
def test_the_slider_shows_a_moment_of_all_of_its_videos(opened):
    opened.eval("groups[0].slider.value = 1.5; groups[0].slider.dispatchEvent(new Event('input'))")
    opened.until(
        f"videos.slice(0, {SKILLS}).every(video => !video.seeking && Math.abs(video.currentTime - 1.5) < 0.05)"
    )
    assert clocks(opened)[:SKILLS] == pytest.approx(1.5, abs=0.05) and (clocks(opened)[SKILLS:] == 0).all()
    assert opened.eval("groups[0].slider.getAttribute('aria-valuetext')").startswith("1.5 of")


def test_the_keyboard_goes_through_the_page_and_out_of_it(opened):
    """In the order in which things stand, each seen to have the focus; from the last it leaves, and back again."""
    seen = []
    for _ in range(40):
        opened.press("Tab")
        about = opened.eval(
            "(e => [e.tagName, e.textContent, getComputedStyle(e).outlineStyle, "
            "parseFloat(getComputedStyle(e).outlineWidth), e.getBoundingClientRect().bottom + scrollY]"
            ")(document.activeElement)"
        )
        if about[0] == "BODY":
            break
        seen.append(about)
    assert about[0] == "BODY"  # no trap
    tags = [tag for tag, *_ in seen]
    assert tags.count("A") == 5 and tags.count("BUTTON") == 1 and tags.count("INPUT") == 2
    assert tags.count("SUMMARY") >= 4 and "VIDEO" not in tags
    assert all(style == "solid" and width >= 2 for _, _, style, width, _ in seen)
    below = [bottom for tag, *_, bottom in seen if tag not in ("A", "BUTTON")]
    assert below == sorted(below)
    opened.press("Tab", shift=True)
    assert opened.eval("document.activeElement.tagName") == "SUMMARY"
    opened.press("Enter")
    assert opened.eval("document.activeElement.parentElement.open")
