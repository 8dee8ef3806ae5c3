"""An `import feast` that is quick refuses a wrong argument of a constructor in typeguard's own words."""

import subprocess
import sys
from collections.abc import Callable

import feast
import pytest
from typeguard import TypeCheckError

from stillpoint.feast_start import defer_type_checks


class Own(feast.FeatureView):
    """Stands for a user's own class of views."""


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: feast.Entity(name=3), 'argument "name" (int) is not an instance of str'),
        (lambda: feast.Field(name="one", dtype=3), 'argument "dtype" (int) did not match any element in the union'),
        (lambda: feast.FeatureView(name=3, source=None), 'argument "name" (int) is not an instance of str'),
        (lambda: Own(name="one", source=None, entities="user"), 'argument "entities" (str)'),
        (lambda: feast.FeatureService(name=3, features=[]), 'argument "name" (int) is not an instance of str'),
        (lambda: feast.FileSource(path=3), 'argument "path" (int) is not an instance of str'),
        (lambda: feast.PushSource(name=3, batch_source=None), 'argument "name" (int) is not an instance of str'),
    ],
)
@pytest.mark.parametrize("time", ["the first", "a second"])
def test_a_wrong_argument_is_refused_whenever_it_comes(make: Callable[[], object], words: str, time: str) -> None:
    with pytest.raises(TypeCheckError) as refused:
        make()
    assert words in str(refused.value)


def test_asking_for_it_imports_nothing_and_asking_twice_is_as_asking_once() -> None:
    program = """
import sys
from stillpoint.feast_start import defer_type_checks
defer_type_checks()
defer_type_checks()
assert "typeguard" not in sys.modules
from typeguard import typechecked
print(len(sys.meta_path), typechecked.__wrapped__.__module__)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    plain = subprocess.run(
        [sys.executable, "-c", "import sys; print(len(sys.meta_path))"], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(int(plain.stdout) + 1), "typeguard"]


def test_what_is_called_after_typeguard_was_imported_changes_nothing() -> None:
    before = list(sys.meta_path)
    defer_type_checks()
    assert sys.meta_path == before
