"""A gate's report appears whole or not at all, and is readable in words and offline."""

import os
import re
from datetime import UTC, datetime

import pytest

from release.gate import CheckResult, Report, read_report, report_key, write_report
from release.report import html
from stillpoint.lake.objects import LocalObjects

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def report(*results):
    return Report(release="r0002", against="r0001", at=AT, by="<ann>", results=results)


def one(name, passed, **more):
    return CheckResult(name=name, passed=passed, found=f"found by {name}", expected="something", **more)


def test_a_report_whose_writing_fails_leaves_the_earlier_one_and_nothing_beside_it(tmp_path, monkeypatch):
    objects, key = LocalObjects(tmp_path), report_key("r0002", AT)
    write_report(objects, key, report(one("a", True)))

    def full(handle):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            write_report(objects, key, report(one("a", False)))
        with pytest.raises(OSError, match="No space left"):
            objects.put(key.removesuffix(".json") + ".html", html(report(one("a", False))).encode())
    assert read_report(objects, key).passed
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [key.rpartition("/")[2]]


def test_the_page_says_what_failed_first_escapes_what_it_quotes_and_fetches_nothing():
    page = html(report(one("good", True), one("bad", False, examples=("<script>",), numbers={"a": 1, "b": 2, "c": 3})))
    assert page.index("found by bad") < page.index("found by good")
    assert "&lt;ann&gt;" in page
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert not re.search(r"(src|href)\s*=\s*['\"]?\s*https?:|url\(\s*['\"]?https?:|@import", page)
