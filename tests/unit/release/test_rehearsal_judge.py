"""The judge of a rehearsal finds what is failed, mixed, out of its time or another user's, and nothing else."""

import ast
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from release.rehearsal import judge as judging
from release.rehearsal.history import (
    RecordedAnswer,
    RecordedMove,
    RehearsalHistory,
    ReleaseIdentity,
    read_lines,
    write_lines,
)
from release.rehearsal.judge import RehearsalVerdict, judge
from release.rehearsal.plan import Fault, plan_flips

RELEASES = {
    "r0001": ReleaseIdentity(
        mapping_version=1,
        read_plan_sha256="p1",
        models={"today": "m1"},
        scores={"ann": {"a": 1.0, "b": 0.0}, "bob": {"a": 0.0, "b": 1.0}},
    ),
    "r0002": ReleaseIdentity(
        mapping_version=2,
        read_plan_sha256="p2",
        models={"today": "m2"},
        scores={"ann": {"a": 2.0, "b": 0.0}, "bob": {"a": 0.0, "b": 2.0}},
    ),
}
TO_SECOND = RecordedMove(release="r0002", generation=2, began=10.0, ended=11.0)
AND_BACK = RecordedMove(release="r0001", generation=3, began=20.0, ended=21.0)


def answer(**changes: Any) -> RecordedAnswer:
    began = changes.pop("began", 1.0)
    values: dict[str, Any] = {
        "began": began,
        "ended": began + 0.01,
        "seconds": 0.01,
        "user_id": "ann",
        "status": 200,
        "releases": ("r0001", "r0001"),
        "mapping_version": 1,
        "read_plan_sha256": "p1",
        "models": {"today": "m1"},
        "source": "model",
        "scores": {"a": 1.0, "b": 0.0},
    }
    return RecordedAnswer(**{**values, **changes})


def second(**changes: Any) -> RecordedAnswer:
    values: dict[str, Any] = {
        "releases": ("r0002",),
        "mapping_version": 2,
        "read_plan_sha256": "p2",
        "models": {"today": "m2"},
        "scores": {"a": 2.0},
    }
    return answer(**{**values, **changes})


def judged(*answers: RecordedAnswer, moves: tuple[RecordedMove, ...] = ()) -> RehearsalVerdict:
    return judge(RehearsalHistory(releases=RELEASES, start=(1, "r0001"), moves=moves, answers=answers))


def test_answers_of_one_release_each_at_its_time_pass() -> None:
    verdict = judged(answer(), second(began=15.0), moves=(TO_SECOND,))
    assert verdict.passed
    assert verdict.per_release == {"r0001": 1, "r0002": 1}


def test_no_answers_are_no_pass() -> None:
    assert not judged().passed


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"releases": ("r0001", "r0002")}, "it names r0001, r0002"),
        ({"releases": ()}, "it names no release"),
        ({"releases": ("r0009",)}, "it names r0009, which is not part of the rehearsal"),
        ({"mapping_version": 2}, "r0001 with mapping 2"),
        ({"read_plan_sha256": "p2"}, "r0001 with another read plan"),
        ({"models": {"today": "m2"}}, "r0001 with another model"),
        ({"scores": {"a": 2.0, "b": 0.0}}, "r0001 with the scores of r0002"),
    ],
)
def test_an_answer_made_of_two_releases_is_mixed(changes: dict[str, Any], words: str) -> None:
    verdict = judged(answer(**changes))
    assert (verdict.mixed, verdict.failed, verdict.time_travel, verdict.wrong_user) == (1, 0, 0, 0)
    assert words in verdict.examples[0]
    assert not verdict.passed


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (second(began=1.0), "it comes from r0002; live was r0001 of generation 1"),
        (answer(began=12.0), "it comes from r0001; live was r0002 of generation 2"),
        (second(began=25.0, generation=2), "it comes from r0002 of generation 2; live was r0001 of generation 3"),
        (answer(began=25.0, generation=1), "it comes from r0001 of generation 1; live was r0001 of generation 3"),
    ],
)
def test_an_answer_from_before_its_request_or_from_the_future_is_time_travel(given: RecordedAnswer, words: str) -> None:
    verdict = judged(given, moves=(TO_SECOND, AND_BACK))
    assert (verdict.mixed, verdict.failed, verdict.time_travel, verdict.wrong_user) == (0, 0, 1, 0)
    assert words in verdict.examples[0]


@pytest.mark.parametrize("began", [9.995, 10.0, 10.5, 11.0])
def test_while_a_move_goes_on_both_releases_may_answer(began: float) -> None:
    both = answer(began=began, ended=11.5), second(began=began)
    assert judged(*both, moves=(replace(TO_SECOND, ended=11.1),)).passed


def test_a_request_that_outlives_two_moves_may_come_from_each_of_three_generations() -> None:
    long = [
        answer(began=9.0, ended=22.0, generation=1),
        second(began=9.0, ended=22.0, generation=2),
        answer(began=9.0, ended=22.0, generation=3),
    ]
    assert judged(*long, moves=(TO_SECOND, AND_BACK)).passed


def test_workers_that_hang_may_go_on_with_what_they_have() -> None:
    hanging = replace(TO_SECOND, hanging=("service-1",))
    assert judged(answer(began=15.0), second(began=15.0), moves=(hanging,)).passed


def test_an_answer_with_another_canarys_scores_is_somebody_elses() -> None:
    verdict = judged(answer(scores={"a": 0.0, "b": 1.0}))
    assert verdict.wrong_user == 1
    assert verdict.examples == ("wrong user at 1.00 s: ann got what is bob's in r0001",)


def test_scores_that_moved_a_little_with_age_are_still_ones_own() -> None:
    assert judged(answer(scores={"a": 0.93, "b": 0.02})).passed
    assert judged(answer(scores={"a": 1.7, "b": 0.0})).passed, "nearer to r0002's, and yet not clearly of it"


def test_an_answer_that_names_another_user_is_somebody_elses() -> None:
    assert judged(answer(answered_user="bob")).wrong_user == 1


def test_a_fallback_is_nobodys_ranking_and_is_counted() -> None:
    verdict = judged(answer(source="fallback", scores={"b": 0.0}))
    assert verdict.passed
    assert verdict.fallbacks == 1


def test_an_error_is_failed_and_not_judged_further() -> None:
    verdict = judged(answer(status=500, error="boom"), answer(status=0, error="ReadTimeout"))
    assert (verdict.failed, verdict.mixed) == (2, 0)
    assert verdict.examples[0] == "failed at 1.00 s: boom"


def test_a_history_is_judged_alike_when_it_is_read_back_from_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = (answer(), second(began=15.0), answer(began=16.0), answer(status=500, error="boom"))
    history = RehearsalHistory(releases=RELEASES, start=(1, "r0001"), moves=(TO_SECOND,), answers=given)
    file = tmp_path / "rehearsal.jsonl"
    file.write_text("".join(f"{line}\n" for line in write_lines(history)))
    assert judge(read_lines(file.read_text().splitlines())) == judge(history)
    assert judging.main([str(file)]) == 1
    assert "4 requests through 1 moves: 1 failed, 0 mixed, 1 time travel, 0 wrong user" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "does not say what was live at its start"),
        ("nonsense", "line 1 is no part of a rehearsal's history"),
        ('{"line":"rumour"}', "unknown kind of line 'rumour'"),
        ('{"line":"move","release":"r0001"}', "line 1 is no part"),
    ],
)
def test_a_file_that_is_no_history_is_refused(
    text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "some.jsonl").write_text(text)
    assert judging.main([str(tmp_path / "some.jsonl")]) == 2
    assert words in capsys.readouterr().err


def test_the_judge_shares_no_code_with_what_it_judges() -> None:
    for module in ("judge", "history"):
        tree = ast.parse(Path(judging.__file__).with_name(f"{module}.py").read_text())
        found = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        found |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
        own = {name for name in found if name.split(".")[0] not in sys.stdlib_module_names}
        assert own <= {"pydantic", "release.rehearsal.history"}, module


def test_the_plan_follows_from_the_seed_and_uses_every_fault_before_repeating_one() -> None:
    planned = plan_flips(seed=7, flips=10)
    assert planned == plan_flips(seed=7, flips=10)
    assert planned != plan_flips(seed=8, flips=10)
    assert {flip.fault for flip in planned[:5]} == set(Fault)
    assert {flip.fault for flip in planned[5:]} == set(Fault)
