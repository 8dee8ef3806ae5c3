"""The choice model's scores of a training row never depend on a list that was shown later, nor on how often it is computed."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from stillpoint.choice_model import ChoiceModel
from stillpoint.clock import MINUTE
from stillpoint.dtypes import EMBEDDING_LENGTH, DType
from stillpoint.errors import DataRefused, ModelRefused
from stillpoint.vector_columns import distinct_vectors, pack_vectors, unpacked, without_unused
from tests.support.wellness import FEATURES
from training.choice_rows import choice_rows

USERS, CONTENTS = tuple("abcd"), tuple("vwxyz")
SHOWN = st.tuples(
    st.sampled_from(USERS),
    st.lists(st.sampled_from(CONTENTS), min_size=2, max_size=4, unique=True),
    st.integers(0, 3),
    st.integers(0, 600),
    st.sampled_from([None, 1, 2]),
)
LISTS = st.lists(SHOWN, min_size=6, max_size=14)


def table(lists):
    """Return a snapshot of lists (user, contents, place of the success or beyond, minute, which search)."""
    rows = [
        (f"{user}{minute}{number}", user, content, minute * MINUTE, place, float(place == success), search)
        for number, (user, contents, success, minute, search) in enumerate(sorted(lists, key=lambda one: one[3]))
        for place, content in enumerate(contents)
    ]
    names = ("recommendation_id", "user_id", "content_id", "event_timestamp", "position", "label")
    columns = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    columns["event_timestamp"] = pa.array(columns["event_timestamp"], pa.timestamp("us", tz="UTC"))
    for view in FEATURES.stored:
        for feature in view:
            if feature.dtype is DType.EMBEDDING:
                key = [row[6] if feature.name == "search_embedding" else 1 + ord(row[2]) % 3 for row in rows]
                columns[feature.name] = pack_vectors(np.stack([vector(one) for one in key]))
            elif feature.dtype is DType.STRING:
                columns[feature.name] = [feature.values[ord(row[2]) % 2] if feature.values else None for row in rows]
            else:
                columns[feature.name] = [float(ord(row[1]) + row[3] % 7) for row in rows]
    for view in FEATURES.streamed:
        columns[f"{view.name}_age"] = [10.0] * len(rows)
    return pa.table(columns)


def vector(number):
    return (
        np.full(EMBEDDING_LENGTH, np.nan, np.float32)
        if number is None
        else np.eye(EMBEDDING_LENGTH, dtype=np.float32)[number]
    )


def scores(lists):
    rows = table(lists)
    found = choice_rows(rows, FEATURES, USERS, CONTENTS).scores_from_earlier(seed=7, slices=4)
    return rows["event_timestamp"].cast(pa.int64()).to_numpy() // MINUTE, found


@settings(max_examples=8, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(LISTS, st.integers(0, 600))
def test_the_outcomes_of_later_lists_leave_earlier_scores_bit_for_bit(lists, moment):
    changed = [one if one[3] < moment else (*one[:2], (one[2] + 1) % 4, *one[3:]) for one in lists]
    (at, before), (_, after) = scores(lists), scores(changed)
    for name in ("collaborative", "affinity", "appeal"):
        np.testing.assert_array_equal(getattr(before, name)[at <= moment], getattr(after, name)[at <= moment])


def test_what_was_chosen_before_a_row_does_reach_its_score():
    shown = [("a", ["v", "w"], 0, minute, None) for minute in range(0, 400, 10)]
    other = [(*one[:2], 1, *one[3:]) for one in shown]
    _, liked = scores(shown)
    _, disliked = scores(other)
    assert liked.collaborative[-2] > disliked.collaborative[-2]
    assert liked.appeal[-2] > liked.appeal[-1]
    assert np.isnan(liked.appeal[0]), "nothing was known before the first slice"


def test_a_choice_model_read_from_its_bytes_scores_the_same_bits_and_one_row_as_many():
    rows = table([(user, ["v", "w", "x"], 1, 90 * n, 1 + n % 2) for n, user in enumerate("abcdabcd")])
    choices = choice_rows(rows, FEATURES, USERS, CONTENTS)
    model = choices.model(choices.fitted(seed=7))
    again = ChoiceModel.load(model.dump())
    assert again.dump() == model.dump()
    columns = {name: np.arange(5.0) for name in model.inputs}
    columns |= {name: np.array(["sleep", "focus", None, "x", "sleep"], object) for name in ("category",)}
    columns |= {
        name: np.random.default_rng(1).random((5, EMBEDDING_LENGTH), np.float32)
        for name in ("search_embedding", "title_embedding")
    }
    vectors, weights = model.content_vectors(columns), model.context_weights(columns)
    whole = again.affinity(again.context_weights(columns), again.content_vectors(columns))
    for row in range(5):
        alone = {name: values[row : row + 1] for name, values in columns.items()}
        assert model.affinity(model.context_weights(alone), model.content_vectors(alone))[0] == whole[row]
        assert model.affinity(weights[row : row + 1], vectors)[row] == whole[row]
    with pytest.raises(ModelRefused, match="cannot be read"):
        ChoiceModel.load(b"PK\x03\x04")


def test_a_snapshot_without_vectors_is_refused_by_the_columns_name():
    rows = table([("a", ["v", "w"], 0, 0, 1)]).drop_columns(["search_embedding"])
    with pytest.raises(DataRefused, match="no vectors of search_embedding; it was taken by an earlier version"):
        choice_rows(rows, FEATURES, USERS, CONTENTS)


@given(st.lists(st.sampled_from([None, 1, 2, 3]), min_size=1), st.data())
def test_packed_vectors_are_kept_exactly_and_a_part_of_the_rows_holds_no_other_vector(numbers, data):
    vectors = np.stack([vector(one) for one in numbers])
    rows = pa.concat_tables([pa.table({"v": pack_vectors(vectors)}), pa.table({"v": pack_vectors(vectors[::-1])})])
    start = data.draw(st.integers(0, len(numbers)))
    part = without_unused(rows.slice(start))
    wanted = np.concatenate([vectors, vectors[::-1]])[start:]
    distinct, codes = distinct_vectors(part["v"])
    np.testing.assert_array_equal(distinct[codes], wanted)
    assert len(distinct) == 1 + len({one.tobytes() for one in wanted if not np.isnan(one[0])})
    assert [one is None for one in unpacked(part)["v"].to_pylist()] == np.isnan(wanted[:, 0]).tolist()
