"""A model bundle scores as trained, keeps its bytes, and refuses what does not fit."""

import gzip
import io
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import xgboost

from stillpoint.errors import ModelRefused
from stillpoint.model import ModelBundle, ModelManifest

ORDER = ("category", "plays_7d", "collaborative_score", "exertion_rising")
CATEGORIES = {"category": ("sleep", "focus", "move")}
CONTENTS = ("c0", "c1", "c2")


def trained() -> tuple[bytes, np.ndarray]:
    rng = np.random.default_rng(3)
    matrix = np.column_stack(
        [rng.integers(0, 3, 600), rng.integers(0, 50, 600), rng.normal(size=600), rng.integers(0, 2, 600)]
    ).astype(np.float32)
    label = ((matrix[:, 0] == 2) & (matrix[:, 3] == 1)).astype(np.float32)
    rows = xgboost.QuantileDMatrix(
        matrix, label, feature_types=["c", "float", "float", "float"], enable_categorical=True
    )
    booster = xgboost.train({"objective": "binary:logistic", "seed": 1, "nthread": 1}, rows, 10)
    expected = booster.predict(xgboost.DMatrix(matrix, feature_types=["c", "float", "float", "float"]))
    return bytes(booster.save_raw("ubj")), np.column_stack([matrix, expected])


def bundle(**changes: object) -> ModelBundle:
    manifest = ModelManifest(
        feature_order=ORDER,
        categories=CATEGORIES,
        encoder_sha256="e" * 64,
        mapping_version=1,
        definitions_sha256="d" * 64,
        snapshot_id="s1",
        popular=CONTENTS,
        created_at=datetime(2026, 11, 1, tzinfo=UTC),
        data="simulated",
    ).model_copy(update=changes)
    return ModelBundle(
        manifest,
        ranker=trained()[0],
        user_factors=np.array([[1, 0], [0, 2]], dtype=np.float32),
        content_factors=np.array([[1, 0], [0, 1], [1, 1]], dtype=np.float32),
        content_ids=CONTENTS,
    )


def columns(**changes: object) -> dict[str, np.ndarray]:
    return {
        "category": np.array(["sleep", "focus", "move"], dtype=object),
        "plays_7d": np.array([1.0, np.nan, 3.0]),
        "exertion_rising": np.array([1.0]),
    } | changes  # type: ignore[return-value]


def repacked(**parts: bytes | None) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(bundle().data), mode="r:gz") as archive:
        content = {m.name: archive.extractfile(m).read() for m in archive}  # type: ignore[union-attr]
    content |= {name.replace("__", "."): data for name, data in parts.items()}  # type: ignore[arg-type]
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, data in content.items():
            if data is not None:
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return gzip.compress(plain.getvalue())


def test_scores_equal_those_of_the_trees_it_was_made_from() -> None:
    model = bundle(feature_order=("category", "plays_7d", "noise", "exertion_rising"))
    table = trained()[1]
    found = model.score(
        {
            "category": np.array(CATEGORIES["category"], dtype=object)[table[:, 0].astype(int)],
            "plays_7d": table[:, 1],
            "noise": table[:, 2],
            "exertion_rising": table[:, 3],
        },
        content_ids=["c0"] * len(table),
        sequence_id=None,
    )
    np.testing.assert_array_equal(found.astype(np.float32), table[:, 4].astype(np.float32))


def test_same_parts_give_the_same_bytes_and_survive_loading(tmp_path: Path) -> None:
    model = bundle()
    assert model.data == bundle().data
    path = tmp_path / "model.tar.gz"
    path.write_bytes(model.data)
    loaded = ModelBundle.load(path, expected_sha256=model.sha256)
    assert loaded.sha256 == model.sha256
    assert loaded.key == f"models/{model.sha256}.tar.gz"
    assert loaded.manifest == model.manifest
    np.testing.assert_array_equal(
        loaded.score(columns(), content_ids=CONTENTS, sequence_id=1),
        model.score(columns(), content_ids=CONTENTS, sequence_id=1),
    )


def test_collaborative_score_is_the_product_of_the_factors_and_null_for_unknown() -> None:
    model = bundle()
    np.testing.assert_array_equal(model.collaborative_scores(("c1", "nobody", "c2"), 1), [2.0, np.nan, 2.0])
    assert np.isnan(model.collaborative_scores(CONTENTS, None)).all()
    assert np.isnan(model.collaborative_scores(CONTENTS, -1)).all()
    np.testing.assert_array_equal(
        model.collaborative_scores(("c0", "c1", "c2"), np.array([0, -1, 1])), [1.0, np.nan, 2.0]
    )


def test_contributions_add_up_to_the_raw_score() -> None:
    model = bundle()
    scores = model.score(columns(), content_ids=CONTENTS, sequence_id=0)
    parts = model.contributions(columns(), content_ids=CONTENTS, sequence_id=0)
    assert tuple(parts) == (*ORDER, "bias")
    np.testing.assert_allclose(sum(parts.values()), np.log(scores / (1 - scores)), atol=1e-4)


def test_unknown_text_counts_as_null() -> None:
    model = bundle()
    unknown = model.matrix(
        columns(category=np.array(["opera", None, "move"], dtype=object)), content_ids=CONTENTS, sequence_id=None
    )
    assert np.isnan(unknown[:2, 0]).all()
    assert unknown[2, 0] == 2


def test_missing_column_is_named() -> None:
    given = columns()
    del given["plays_7d"]
    with pytest.raises(ModelRefused, match="needs column plays_7d, which the input lacks"):
        bundle().score(given, content_ids=CONTENTS, sequence_id=None)


def test_extra_column_is_named() -> None:
    with pytest.raises(ModelRefused, match="was not trained on column mood"):
        bundle().score(columns(mood=np.zeros(3)), content_ids=CONTENTS, sequence_id=None)
    assert set(bundle().select(columns(mood=np.zeros(3)), CONTENTS)) == set(columns())


def test_wrong_length_is_named() -> None:
    with pytest.raises(ModelRefused, match=r"column plays_7d has shape \(2,\) for 3 contents"):
        bundle().score(columns(plays_7d=np.zeros(2)), content_ids=CONTENTS, sequence_id=None)


def test_text_where_a_number_belongs_is_refused() -> None:
    with pytest.raises(ModelRefused, match="column plays_7d holds something that is not a number"):
        bundle().score(columns(plays_7d=np.array(["a", "b", "c"])), content_ids=CONTENTS, sequence_id=None)


def test_sequence_id_of_another_mapping_is_refused() -> None:
    with pytest.raises(ModelRefused, match="sequence id 2 lies beyond the 2 users of mapping 1"):
        bundle().score(columns(), content_ids=CONTENTS, sequence_id=2)


def test_wrong_digest_is_refused() -> None:
    with pytest.raises(ModelRefused, match="expected " + "0" * 64):
        ModelBundle.load(bundle().data, expected_sha256="0" * 64)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"not an archive", "is not a tar.gz archive"),
        (bundle().data[:-200], "is not a tar.gz archive"),
        (repacked(ranker__ubj=None), "lacks ranker.ubj"),
        (repacked(evil__py=b"import os"), "holds evil.py besides its parts"),
        (repacked(ranker__ubj=b"other trees"), "ranker.ubj does not match the digest in its manifest"),
        (repacked(factors__npz=b"other factors"), "factors.npz does not match the digest"),
        (repacked(manifest__json=b"{}"), "manifest.json is refused at feature_order"),
    ],
)
def test_damaged_or_swapped_artifact_is_refused(data: bytes, text: str) -> None:
    with pytest.raises(ModelRefused, match=text):
        ModelBundle.load(data)


def test_trees_that_do_not_fit_the_manifest_are_refused() -> None:
    with pytest.raises(ModelRefused, match="takes 4 columns; the manifest names 2"):
        bundle(feature_order=("category", "plays_7d"))


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match=r"gone.tar.gz cannot be read: No such file"):
        ModelBundle.load(tmp_path / "gone.tar.gz")
