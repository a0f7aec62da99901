"""docs/performance.md is what its CSVs say, and the turns that are behind them are taken as they should be."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import page
import pytest
import sac_update
import torch
from alternate import (  # fmt: skip
    Benchmark,
    Column,
    Contender,
    Goal,
    alternate,
    cpu_seconds,
    timed,
)
from least import alone, asked, gflop, multiplying, products, stepping
from measured import Results, Row
from tables import each_round, goals, listing, ratios, table
from torch.utils.flop_counter import FlopCounterMode

from skillrl.optim import Adam, descend, frozen_copy, polyak

FOLDER = Path(page.__file__).parent
DATA = FOLDER / "data"
BENCHMARKS = {name: __import__(name).BENCHMARK for name in page.SCRIPTS}


def made_up(columns: list[Column], **contenders: Goal | None) -> Benchmark:
    found = [Contender(name, lambda: timed(lambda: 1), goal=goal) for name, goal in contenders.items()]
    return Benchmark("made_up.py", "How?", "Notes.", {"a": found}, columns)


def rows(**speeds: list[float | None]) -> list[Row]:
    return [
        {"case": "a", "contender": name, "round": number, "rate": value}
        for name, of_rounds in speeds.items()
        for number, value in enumerate(of_rounds)
        if value is not None
    ]


def test_the_page_is_made_from_the_data() -> None:
    assert page.PAGE.read_text() == page.page(DATA), "python benchmarks/page.py"


def test_the_page_has_every_benchmark() -> None:
    with_one = {path.stem for path in FOLDER.glob("*.py") if "\nBENCHMARK = " in path.read_text()}
    assert with_one == set(page.SCRIPTS)


@pytest.mark.parametrize("path", sorted(DATA.glob("*.csv")), ids=lambda path: path.stem)
def test_measurements_are_of_the_benchmark_as_it_is(path: Path) -> None:
    results, benchmark = Results.read(path), BENCHMARKS[path.stem]
    known = {(case, each.name) for case, found in benchmark.cases.items() for each in found}
    measured = {(row["case"], row["contender"]) for row in results.rows}
    left_out = {pair for pair in known if pair[1] in results.about["skipped"]}
    assert measured == known - left_out
    assert min(max(int(r["round"]) for r in results.rows if (r["case"], r["contender"]) == p) for p in measured) >= 4
    assert all(path.with_suffix(suffix).exists() for suffix in (".png", ".dark.png"))


def test_a_measurement_gets_tables_goals_and_what_it_depends_on(tmp_path: Path) -> None:
    machine = {"cpu": "a core", "cores": 2, "memory_gib": 4.0}
    about = {"command": "python benchmarks/jobs.py", "date": "2026-01-02T03:04:05", "commit": "0123456789abcdef"}
    about |= {"dirty": True, "machine": machine, "versions": {"torch": "9.9"}, "load": 0.25, "skipped": ["Peer"]}
    speeds = {"each of eight": 1.2, "each of two": 1.1, "alone": 1.0}  # and with turns as usual
    found = [
        {"case": case, "contender": each.name, "round": number, "cpu_ms": speeds.get(each.name, 2.0), "rate": 1.0}
        for case, contenders in BENCHMARKS["jobs"].cases.items()
        for each in contenders
        for number in range(5)
    ]
    Results(about, found).write(tmp_path / "jobs.csv")
    text = page.page(tmp_path)
    assert "| eight at once: core ms an env step, each of eight / alone | 1.20 | ≤ 1.15, missed |  |" in text
    assert "| two at once: core ms an env step, each of two / alone | 1.10 | ≤ 1.15, met |  |" in text
    assert "| alone | 1.000 | 1 | 1.10 | 1.10 to 1.10 |" in text
    assert '<img src="../benchmarks/data/jobs.png"' in text and f"(#{page.anchor(BENCHMARKS['jobs'])})" in text
    assert "    python benchmarks/jobs.py\n\n2026-01-02, 5 rounds. a core, 2 cores, 4.0 GiB; load before 0.25." in text
    assert "Commit 0123456789ab with uncommitted changes; torch 9.9." in text and "not installed: Peer." in text
    assert text.count("Not measured yet") == len(BENCHMARKS) - 1


def test_a_ratio_is_taken_within_its_round() -> None:
    # the machine halves its speed after the second round: ratios stay, where medians of all would be mixed up
    found = rows(ours=[20.0, 22.0, 10.0, 11.0], peer=[10.0, 11.0, 5.0, None])
    assert ratios(found, "a", "ours", "peer", "rate") == [2.0, 2.0, 2.0]
    benchmark = made_up([Column("rate", "steps/s")], ours=None, peer=Goal(1.5))
    head, lines = table(benchmark, found, "a")
    assert head == ["", "steps/s", "ours / it", "lowest to highest"]
    assert lines == [["ours", "16", "", ""], ["peer", "10", "2.00", "2.00 to 2.00"]]


@pytest.mark.parametrize(
    ("goal", "verdict"),
    [
        (Goal(2.0), "≥ 2, met"),
        (Goal(2.1), "≥ 2.1, missed"),
        (Goal(2.0, at_most=True), "≤ 2, met"),
        (Goal(1.9, at_most=True), "≤ 1.9, missed"),
    ],
)
def test_goals_are_judged_by_the_median(goal: Goal, verdict: str) -> None:
    found = rows(ours=[1.0, 2.0, 9.0], peer=[1.0, 1.0, 1.0])
    benchmark = made_up([Column("rate", "steps/s", goal=goal)], ours=None, peer=goal)
    assert goals(benchmark, found, "a") == [
        ["a: steps/s", "2.00", verdict, ""],
        ["a: steps/s, ours / peer", "2.00", verdict, ""],
    ]


def test_beside_a_goal_stands_what_the_limit_comes_to() -> None:
    column = Column("rate", "steps/s", goal=Goal(1.0))
    benchmark = made_up([column], ours=None, peer=Goal(3.0), least=None)
    ours, peer, least = benchmark.cases["a"]
    benchmark = replace(benchmark, cases={"a": [ours, peer, replace(least, limit=True)]})
    found = rows(ours=[1.0, 4.0, 9.0], peer=[1.0, 2.0, 3.0], least=[2.0, 5.0, 8.0])
    assert goals(benchmark, found, "a") == [
        ["a: steps/s", "4.00", "≥ 1, met", "5.00"],
        ["a: steps/s, ours / peer", "2.00", "≥ 3, missed", "2.50"],
    ]


def test_what_was_not_measured_is_not_judged() -> None:
    benchmark = made_up([Column("rate", "steps/s", goal=Goal(1.0))], ours=None, peer=Goal(1.0))
    assert goals(benchmark, [], "a") == []
    assert table(benchmark, rows(ours=[1.0]), "a")[1] == [["ours", "1", "", ""], ["peer", "–", "", ""]]


def test_a_list_has_the_largest_first() -> None:
    benchmark = Benchmark("b.py", "", "", {"a": [Contender("ours", dict)]}, [], listed=("op ", "ms"))
    about = {"case": "a", "contender": "ours"}
    found = [about | {"round": 0, "op mm": 3.0, "op add": 1.0}, about | {"round": 1, "op mm": 5.0}]
    assert listing(benchmark, found, "a") == [["`mm`", "4.00"], ["`add`", "1.00"]]


def test_rounds_that_stand_for_something_are_shown_each() -> None:
    benchmark = replace(made_up([Column("rate", "score", "{:.1f}")], ours=None, peer=None), rounds_are="seed")
    head, lines = each_round(benchmark, rows(ours=[1.0, 2.0], peer=[3.0, None, 5.0]), "a")
    assert head == ["seed", "score, ours", "score, peer"]
    assert lines == [["0", "1.0", "3.0"], ["1", "2.0", "–"], ["2", "–", "5.0"]]


def test_results_come_back_from_a_file(tmp_path: Path) -> None:
    results = Results({"command": "x, y"}, [{"case": "a, b", "round": 0.0, "rate": 0.1}, {"case": "c", "bytes": 3.5}])
    results.write(tmp_path / "r.csv")
    found = Results.read(tmp_path / "r.csv")
    assert found.about == results.about
    assert found.rows == [
        {"case": "a, b", "round": 0.0, "rate": 0.1, "bytes": ""},
        {"case": "c", "round": "", "rate": "", "bytes": 3.5},
    ]


SCRIPT = """
import os, sys, time
sys.path.insert(0, {folder!r})
from alternate import Benchmark, Column, Contender, main

def prepare(value):
    print("a library says hello")
    calls = []
    def measure(seconds):
        calls.append(seconds)
        cores, threads = len(os.sched_getaffinity(0)), int(os.environ["OMP_NUM_THREADS"])
        return dict(value=value, pid=os.getpid(), cores=cores, threads=threads, calls=len(calls), at=time.time())
    return measure

def breaks():
    raise ValueError("no such luck")

BENCHMARK = Benchmark(__file__, "?", "", {{
    "turns": [
        Contender("one", prepare, {{"value": 1}}, cores=1),
        Contender("two", prepare, {{"value": 2}}, threads=2),
        Contender("three at once", prepare, {{"value": 3}}, copies=3),
        Contender("absent", prepare, {{"value": 4}}, needs="no_such_package"),
    ],
    "broken": [Contender("broken", breaks)],
}}, [Column("value", "value")])
if __name__ == "__main__":
    main(BENCHMARK)
"""


@pytest.fixture
def turns(tmp_path: Path) -> Benchmark:
    path = tmp_path / "turns.py"
    path.write_text(dedent(SCRIPT).format(folder=str(FOLDER)))
    names: dict = {"__file__": str(path), "__name__": "turns"}
    exec(path.read_text(), names)
    return names["BENCHMARK"]


def only(benchmark: Benchmark, case: str) -> Benchmark:
    return Benchmark(benchmark.script, "", "", {case: benchmark.cases[case]}, benchmark.columns)


@pytest.mark.skipif(sys.platform != "linux", reason="cores are pinned and children counted on Linux only")
def test_contenders_take_turns_in_processes_of_their_own(turns: Benchmark) -> None:
    found, failed = alternate(only(turns, "turns"), 3, 0.01)
    assert not failed
    assert [row["contender"] for row in sorted(found, key=lambda row: row["at"])] == [
        "one", "two", "three at once", "three at once", "two", "one", "one", "two", "three at once"
    ]  # fmt: skip
    assert {row["contender"]: row["value"] for row in found} == {"one": 1, "two": 2, "three at once": 3}
    pids = {name: {row["pid"] for row in found if row["contender"] == name} for name in ("one", "two")}
    assert all(len(of_one) == 1 for of_one in pids.values())
    assert os.getpid() not in pids["one"] | pids["two"] and pids["one"] != pids["two"]
    assert {row["cores"] for row in found if row["contender"] == "one"} == {1}
    assert {row["threads"] for row in found if row["contender"] == "two"} == {2}
    assert [row["calls"] for row in found if row["contender"] == "one"] == [2, 3, 4]  # the first one warmed up


def test_a_peer_that_cannot_start_is_left_out_with_its_reason(turns: Benchmark) -> None:
    one, broken = turns.cases["turns"][0], replace(turns.cases["broken"][0], needs="sys")
    case = Benchmark(turns.script, "", "", {"turns": [one], "broken": [broken]}, turns.columns)
    found, failed = alternate(case, 1, 0.01)
    assert {row["contender"] for row in found} == {"one"}
    assert list(failed) == ["broken"] and "no such luck" in failed["broken"]


def test_a_contender_that_breaks_says_why(turns: Benchmark) -> None:
    with pytest.raises(RuntimeError, match=r"contender broken ended:[\s\S]*no such luck"):
        alternate(only(turns, "broken"), 1, 0.01)


def test_what_is_timed_is_counted() -> None:
    calls = []
    row = timed(lambda: calls.append(sum(range(10_000))) or 3)(0.05)
    assert row["count"] == 3 * len(calls) and row["wall_s"] >= 0.05
    assert row["rate"] == pytest.approx(row["count"] / row["wall_s"])
    assert row["cpu_ms"] == pytest.approx(1e3 * row["cpu_s"] / row["count"]) and 0 < row["cpu_s"] <= cpu_seconds()


def test_an_update_is_counted_with_the_products_that_it_has() -> None:
    """Against a count of what our own update multiplies: it has a z of one column, and nothing else, on top."""
    _, update = sac_update.begun()
    with FlopCounterMode(display=False) as counter:
        update()
    assert counter.get_total_flops() / 1e9 == pytest.approx(gflop(sac_update.products()), rel=0.02)


def test_products_are_those_that_were_asked_for() -> None:
    layer, x = torch.nn.Linear(3, 5), torch.randn(7, 3, requires_grad=True)
    work = lambda: torch.tanh(layer(x)).sum().backward()  # noqa: E731
    found = products(work)
    assert sorted(found) == [(5, 7, 3), (7, 3, 5), (7, 5, 3)], "of the weights, forward, of the inputs"
    with FlopCounterMode(display=False) as counter:
        work()
    assert counter.get_total_flops() / 1e9 == pytest.approx(gflop(found))


def test_steps_of_optimisers_are_done_again_and_to_copies() -> None:
    net = torch.nn.Linear(3, 5)
    target, optimizer = frozen_copy(net), Adam(net.parameters(), 0.1)

    def work() -> None:
        descend(optimizer, net(torch.ones(7, 3)).sum())
        polyak(target, net, 0.5)

    again = stepping(work)
    before = [value.clone() for one in (net, target) for value in one.parameters()]
    assert [op.overloadpacket.__name__ for op, _, _ in asked(again)] == ["_fused_adam_", "_foreach_lerp_"]
    assert all(map(torch.equal, before, [*net.parameters(), *target.parameters()]))


def test_what_is_left_of_a_training_are_its_products_optimisers_and_physics(monkeypatch: pytest.MonkeyPatch) -> None:
    multiplied, stepped = [], []
    monkeypatch.setattr("least.multiplying", lambda sizes: lambda: multiplied.append(sizes))
    monkeypatch.setattr("least.stepping", lambda work: lambda: stepped.append(work))
    tiny = ["learner.hidden_dims=[8,8]", "learner.batch_size=4", "pretrain.capacity=1000", "pretrain.updates=2"]
    overrides = ["env=half_cheetah", "env.num_envs=2", "pretrain.collect=4", "pretrain.warmup=16", *tiny]
    row = alone(overrides)(0.01)
    assert row["count"] == 4 * len(multiplied) == 4 * len(stepped) > 0
    acting = [shape for shape in multiplied[0] if shape[0] == 2]
    assert len(acting) == 2 * 3, "two rows act twice in a round of four env steps, three layers each"
    assert sum(shape[0] == 4 for shape in multiplied[0]) > 2 * 20, "and a batch of four is learnt from twice"


def test_products_alone_are_of_their_shapes() -> None:
    sizes = [(2, 3, 4), (5, 6, 7)]
    assert products(multiplying(sizes)) == sizes
