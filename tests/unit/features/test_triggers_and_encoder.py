"""Which events ask for which prediction, and the encoder gives equal bits to equal texts."""

import numpy as np
import pytest

from stillpoint.clock import MINUTE
from stillpoint.encoder import RememberingEncoder, WordLlamaEncoder
from stillpoint.events.types import Category, EventType
from stillpoint.features.triggers import SearchedCategory, requests_for
from stillpoint.messages import Kind
from tests.support.wellness import arrival

NOW = 10**15
T, S, N = Kind.TODAY, Kind.SLEEP, Kind.NEXT


@pytest.fixture(scope="module")
def encoder():
    return WordLlamaEncoder()


def event(kind, age=0):
    return arrival("0b8f6a1e-3c5d-4e7f-8a9b-0c1d2e3f4a5b", "u1", kind, NOW - age, NOW)


@pytest.mark.parametrize(
    ("kind", "searched", "rising", "asked"),
    [
        (EventType.SEARCH, Category.FOCUS, False, (T,)),
        (EventType.SEARCH, None, False, (T,)),
        (EventType.SEARCH, Category.SLEEP, False, (T, N)),
        (EventType.CONTENT_EXIT, None, False, (T, S)),
        (EventType.CONTENT_COMPLETE, None, False, (T, S, N)),
        (EventType.BIOMETRIC, None, False, ()),
        (EventType.BIOMETRIC, None, True, (T, N)),
        (EventType.CONTENT_START, None, False, ()),
        (EventType.IMPRESSION, None, False, ()),
    ],
)
def test_each_event_asks_for_its_kinds(kind, searched, rising, asked):
    assert requests_for(event(kind), now_us=NOW, searched=searched, rising=rising) == asked


def test_an_event_over_five_minutes_old_asks_for_nothing():
    assert requests_for(event(EventType.CONTENT_EXIT, 5 * MINUTE), now_us=NOW) == (T, S)
    assert requests_for(event(EventType.CONTENT_EXIT, 5 * MINUTE + 1), now_us=NOW) == ()


@pytest.mark.parametrize(
    ("query", "category"),
    [
        ("I cannot sleep", Category.SLEEP),
        ("preparing for big exam", Category.FOCUS),
        ("running", Category.MOVE),
        ("panic attack", Category.STRESS),
    ],
)
def test_a_query_belongs_to_the_nearest_category(encoder, query, category):
    assert SearchedCategory(encoder).of(query) is category


def test_texts_have_the_same_bits_alone_in_a_batch_and_from_memory(encoder):
    texts = [f"sleep {'very ' * n}well" for n in range(100)] + [""]
    batch = encoder.encode(texts)
    assert batch.dtype == np.float32
    assert np.isnan(batch[-1]).all()
    assert np.linalg.norm(batch[:-1], axis=1) == pytest.approx(np.ones(100), abs=1e-6)
    remembering = RememberingEncoder(encoder, capacity=10)
    remembering.prefetch(texts)
    for n, text in enumerate(texts):
        assert encoder.encode([text])[0].tobytes() == batch[n].tobytes() == remembering.encode([text])[0].tobytes()
    assert remembering.encode(texts).tobytes() == batch.tobytes()
    assert encoder.encode([]).shape == (0, 256)


def test_the_digest_names_the_weights(encoder):
    assert WordLlamaEncoder().sha256 == encoder.sha256
    assert len(encoder.sha256) == 64
