"""A fill gives way while the live colour's Redis answers slowly, and only then."""

from release.fill import considerate
from stillpoint.stores.materialize.pace import Progress

PROGRESS = Progress(view="v", rows=1, total=9, seconds=1.0)


class Redis:
    def __init__(self):
        self.now, self.takes = 0.0, 0.001

    def exists(self, key):
        self.now += self.takes


def test_a_fill_pauses_while_reads_are_slow_and_goes_on_when_they_are_quick_again():
    live = Redis()
    pace = considerate(live, slow_ms=5.0, timer=lambda: live.now)
    assert [pace(PROGRESS) for _ in range(50)] == [0.0] * 50
    live.takes = 0.02
    pauses = [pace(PROGRESS) for _ in range(60)]
    assert 0.25 in pauses
    live.takes = 0.001
    assert [pace(PROGRESS) for _ in range(100)][-20:] == [0.0] * 20


def test_a_few_answers_are_no_reason_to_wait():
    live = Redis()
    live.takes = 1.0
    pace = considerate(live, timer=lambda: live.now)
    assert [pace(PROGRESS) for _ in range(19)] == [0.0] * 19
