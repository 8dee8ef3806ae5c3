"""Every user is in one arm, in the shares that were declared, whichever process asks."""

import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillpoint.errors import InvalidSettings
from stillpoint.experiments import Arm, Experiment, Ordering
from stillpoint.settings import Settings

USERS = [f"u{n}" for n in range(20_000)]


def three(salt: str) -> Experiment:
    arms = (Arm(name="control", share=0.7), Arm(name="popular", share=0.2, ordering=Ordering.POPULAR))
    return Experiment(salt=salt, arms=(*arms, Arm(name="rest", share=0.1)))


@settings(deadline=None)
@given(st.text(min_size=1, max_size=10))
def test_shares_are_near_the_declared(salt: str) -> None:
    found = Counter(three(salt).arm_of(user).name for user in USERS[:4_000])
    assert found["control"] / 4_000 == pytest.approx(0.7, abs=0.05)
    assert found["popular"] / 4_000 == pytest.approx(0.2, abs=0.05)
    assert found["rest"] / 4_000 == pytest.approx(0.1, abs=0.05)


def test_another_process_finds_the_same_arms() -> None:
    code = (
        "from stillpoint.experiments import Experiment; "
        "print(''.join(Experiment(salt='s').arm_of(f'u{n}').name for n in range(500)))"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert there == "".join(Experiment(salt="s").arm_of(user).name for user in USERS[:500])


def test_another_salt_shuffles_everybody_anew() -> None:
    one, other = three("spring"), three("autumn")
    moved = sum(one.arm_of(user) != other.arm_of(user) for user in USERS)
    assert moved / len(USERS) == pytest.approx(1 - (0.7**2 + 0.2**2 + 0.1**2), abs=0.02)


def test_an_arm_that_grows_keeps_its_users() -> None:
    small = Experiment(arms=(Arm(name="new", share=0.1), Arm(name="old", share=0.9)))
    grown = Experiment(arms=(Arm(name="new", share=0.5), Arm(name="old", share=0.5)))
    before = {user for user in USERS if small.arm_of(user).name == "new"}
    assert before < {user for user in USERS if grown.arm_of(user).name == "new"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"arms": [{"name": "a", "share": 0.5}, {"name": "b", "share": 0.4}]}', "add up to 0.9; expected 1"),
        ('{"arms": [{"name": "a", "share": 0.5}, {"name": "a", "share": 0.5}]}', "each name may occur once"),
        ('{"arms": [{"name": "A b", "share": 1}]}', "STILLPOINT_EXPERIMENT.ARMS.0.NAME"),
        ('{"arms": [{"name": "a", "share": 1, "ordering": "random"}]}', "'model' or 'popular'"),
        ('{"salt": ""}', "STILLPOINT_EXPERIMENT.SALT"),
        ("a=0.5,b=0.5", "it is not JSON"),
    ],
)
def test_a_declaration_that_cannot_be_obeyed_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, text: str, problem: str
) -> None:
    monkeypatch.setenv("STILLPOINT_EXPERIMENT", text)
    with pytest.raises(InvalidSettings, match=problem):
        Settings.load()


def test_arms_are_declared_in_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    text = '{"salt": "s", "arms": [{"name": "a", "share": 0.5}, {"name": "b", "share": 0.5, "ordering": "popular"}]}'
    monkeypatch.setenv("STILLPOINT_EXPERIMENT", text)
    arms = Settings.load().experiment.arms
    assert [(arm.name, arm.ordering) for arm in arms] == [("a", Ordering.MODEL), ("b", Ordering.POPULAR)]
