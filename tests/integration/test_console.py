"""The console in a real browser: each page with live data, empty, with Redis away, with an unknown id, and its verbs."""

import os
import socket
import uuid

import pytest

from release.states import rollback_target
from stillpoint.audit.log import AuditAction, entries
from stillpoint.local.provision import provision
from stillpoint.local.redis_server import RedisServer
from stillpoint.releases.book import ObjectReleaseBook
from tests.support.browser import faults, find_chromium, overflow, settled, watched
from tests.support.console_world import Console, bury, fill, settings_of
from tests.support.service_process import ServiceProcess, environment

pytestmark = pytest.mark.usefixtures("programs")

PAGES = {
    "/": "is red",
    "/releases": "r0002",
    "/releases/r0002": "What changed against r0001",
    "/features": "search_embeddings",
    "/features/user_profiles": "tenure_days",
    "/user": "u0",
    "/user?id=u0": "Why this: today",
    "/try": "Walk with a rising pulse",
    "/data": "features/user_profiles",
    "/runbook/DeadLetters": "Mended when",
}
"""Every page, and a word that it shows of the world."""


@pytest.fixture(scope="module")
def world(tmp_path_factory, redis_of_module, aws):
    """Settings of a filled world with a service on it."""
    folder = tmp_path_factory.mktemp("console")
    settings = settings_of(folder, redis_of_module.connection_string, aws.endpoint_url, f"t{uuid.uuid4().hex[:12]}")
    provision(settings)
    fill(settings)
    service = ServiceProcess(folder, environment(settings), "--workers", "1")
    yield settings.model_copy(update={"http_port": service.port})
    service.stop()


@pytest.fixture(scope="module")
def console(world):
    running = Console(world)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def browser(console):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_each_page_shows_the_world_without_a_serious_fault_a_wide_page_or_a_request_elsewhere(
    browser, console, width, theme
):
    with watched(browser, console.url, width=width, theme=theme) as seen:
        for path, word in PAGES.items():
            told = settled(seen.page, console.url + path)
            assert word in told, f"{path}: {told[:600]}"
            assert "Traceback" not in told
            assert faults(seen.page) == [], path
            assert overflow(seen.page) <= 0, path
        assert (seen.elsewhere, seen.errors) == ([], [])


def test_what_users_and_clients_have_written_is_shown_as_text_and_never_as_markup(browser, console):
    with watched(browser, console.url) as seen:
        settled(seen.page, f"{console.url}/user?id=u0")
        assert seen.page.locator(".page b").count() == 0
        assert "<b>deep sleep</b>" in seen.page.inner_text(".page")
        settled(seen.page, f"{console.url}/data")
        seen.page.click("summary:has-text('The newest 1')")
        assert "<script>alert(1)</script>" in seen.page.inner_text(".page")
        assert seen.errors == []


def test_an_empty_world_is_said_in_words_on_every_page(browser, console, world, tmp_path):
    empty = world.model_copy(
        update={"lake": str(tmp_path / "lake"), "home": tmp_path / "home", "redis_serving": world.redis_green}
    )
    said = {
        "/": "No release is live",
        "/releases": "No release yet",
        "/features/biometrics": "holds no row of this view",
        "/user": "The lake holds no users yet",
        "/user?id=u0": "no release is live yet",
        "/data": "The lake is empty",
    }
    with console.turn_to(empty), watched(browser, console.url) as seen:
        for path, sentence in said.items():
            told = settled(seen.page, console.url + path)
            assert sentence.lower() in told.lower(), f"{path}: {told[:600]}"
            assert faults(seen.page) == [], path
        assert seen.errors == []


def test_an_unknown_id_is_a_sentence_that_names_what_there_is(browser, console):
    said = {
        "/releases/r0099": "there is no release 'r0099'; there are: r0001, r0002",
        "/features/nothing": "there is no view 'nothing'; there are",
        "/user?id=nobody": "knows nothing of user nobody",
        "/user?id=a%20b": "is not a user id; expected",
        "/runbook/Nothing": "no page",
    }
    with watched(browser, console.url) as seen:
        for path, sentence in said.items():
            told = settled(seen.page, console.url + path)
            assert sentence.lower() in told.lower(), f"{path}: {told[:400]}"
            assert faults(seen.page) == [], path


def kept_port():
    """Return a free port that no other server is given while ours is away: below those that the system hands out."""
    for port in range(20_000 + os.getpid() % 10_000, 32_000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
    raise AssertionError("no port below 32000 is free")


def test_redis_away_is_a_sentence_with_what_to_do_while_the_rest_stays_and_its_return_needs_no_reload(
    browser, console, world, tmp_path_factory
):
    own = RedisServer(tmp_path_factory.mktemp("away"), port=kept_port())
    away = dict.fromkeys(("redis_green", "redis_blue", "redis_serving", "redis_state"), own.connection_string)
    moved = type(world)(_env_file=None, **{**world.model_dump(), **away})
    try:
        with console.turn_to(moved), watched(browser, console.url) as seen:
            settled(seen.page, console.url)
            own.stop()
            console.forget()
            # Each sentence is waited for: a source that is slow is first told as slow, or not yet read anew.
            seen.page.wait_for_selector(f".alarm:has-text('{own.port}'):has-text('stillpoint up')")
            seen.page.wait_for_selector(f".page:has-text('{moved.prediction_queue}')")  # what is not in Redis stays
            assert "stillpoint-predictions" not in seen.page.inner_text(".page")
            for path in ("/user?id=u0", "/releases/r0002"):
                told = settled(seen.page, console.url + path)
                assert "Traceback" not in told
                assert faults(seen.page) == [], path
            seen.page.goto(f"{console.url}/user?id=u0")
            seen.page.wait_for_selector(f".page:has-text('{own.port}')")
            seen.page.goto(console.url)
            seen.page.wait_for_selector(f".alarm:has-text('{own.port}'):has-text('stillpoint up')")
            own.restart()
            seen.page.wait_for_selector(".alarm", state="detached")
    finally:
        own.stop()


def test_what_happens_is_shown_without_a_reload(browser, console, world):
    with watched(browser, console.url) as seen:
        settled(seen.page, console.url)
        assert "lie in the dead letters" not in seen.page.inner_text("body")
        bury(world, console.desk.sources.sqs)
        seen.page.wait_for_selector("li:has-text('lie in the dead letters')")
        seen.page.click("li:has-text('dead letters') >> text=How to mend it")
        seen.page.wait_for_selector("text=Mended when")


def test_a_rollback_is_typed_to_confirm_and_counts_requests_failed_and_mixed_while_it_happens(browser, console, world):
    book = ObjectReleaseBook(console.desk.sources.lake.objects)
    assert rollback_target(book) == "r0001"
    with watched(browser, console.url) as seen:
        page = seen.page
        settled(page, f"{console.url}/releases/r0001")
        page.focus("text=Roll back …")
        page.keyboard.press("Enter")
        page.wait_for_selector("dialog[open]")
        assert faults(page) == []
        page.keyboard.press("Escape")
        assert page.locator("dialog[open]").count() == 0
        page.click("text=Roll back …")
        page.fill("dialog[open] [name=why]", "to see it")
        page.fill("dialog[open] [name=typed]", "r0002")
        page.click("dialog[open] button.first")
        assert page.locator("dialog[open]").count() == 1, "another id confirms nothing"
        page.fill("dialog[open] [name=typed]", "r0001")
        page.click("dialog[open] button.first")
        page.wait_for_selector(".alarm.good:has-text('r0001 is live in')")
        told = dict(
            zip(
                page.locator(".figure .label").all_inner_texts(),
                page.locator(".figure .number").all_inner_texts(),
                strict=True,
            )
        )
        assert int(told["requests"].replace(",", "")) > 0
        assert (told["failed"], told["mixed"]) == ("0", "0")
        page.wait_for_selector(".strip:has-text('r0001 is live')")
    pointer = book.live()
    assert (pointer.release, pointer.why) == ("r0001", "to see it")
    assert "(console)" in pointer.by
    noted = list(entries(console.desk.sources.lake.objects))
    assert any(one.action is AuditAction.ROLL_BACK and one.by == pointer.by for one in noted)
    assert any(one.action is AuditAction.READ and "(console)" in one.by for one in noted), "who looked at a user"


def test_the_page_is_used_by_keyboard_and_the_theme_stays(browser, console):
    with watched(browser, console.url) as seen:
        page = seen.page
        settled(page, console.url)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        for _ in range(3):
            page.keyboard.press("Tab")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", "the focus is seen"
        page.click(".theme")
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        settled(page, f"{console.url}/releases")
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_try_it_says_why_it_is_not_here_or_what_did_not_answer(browser, console, world):
    with console.turn_to(world.model_copy(update={"aws_endpoint_url": None})), watched(browser, console.url) as seen:
        assert "for the sandbox and the demo" in settled(seen.page, f"{console.url}/try")
    with console.turn_to(world.model_copy(update={"http_port": 1})), watched(browser, console.url) as seen:
        settled(seen.page, f"{console.url}/try")
        seen.page.click("button:has-text('Search')")
        seen.page.wait_for_selector(".alarm:has-text('does not answer')")
        assert faults(seen.page) == []
