"""A deprecated call of ours fails a test; one inside a library does not."""

import warnings

import pytest


@pytest.mark.parametrize("kind", [DeprecationWarning, PendingDeprecationWarning, FutureWarning])
@pytest.mark.parametrize("caller", ["stillpoint.lake.tables", "tests.support.recipe", "release.check"])
def test_what_is_deprecated_may_not_be_called_by_us(kind: type[Warning], caller: str) -> None:
    with pytest.raises(kind, match="old"):
        warnings.warn_explicit("old", kind, "file.py", 1, module=caller)


@pytest.mark.parametrize("caller", ["feast.infra.offline_stores.dask", "ibis.backends.duckdb"])
def test_what_a_library_calls_is_its_own_affair(caller: str) -> None:
    warnings.warn_explicit("old", DeprecationWarning, "file.py", 1, module=caller)


def test_any_other_warning_of_feast_is_shown() -> None:
    with pytest.warns(RuntimeWarning, match="odd"):
        warnings.warn_explicit("odd", RuntimeWarning, "file.py", 1, module="feast.feature_store")
