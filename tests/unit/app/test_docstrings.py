"""The examples in the docstrings of declarations and engine give what they say."""

import doctest
import importlib
import pkgutil

import pytest

import stillpoint.app
import stillpoint.features

MODULES = sorted(
    found.name
    for package in (stillpoint.app, stillpoint.features)
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + ".")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_hold(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0
