"""The bundle for Databricks starts the receiver as it promises: once, for ever, with settings that exist."""

import re
import runpy
from pathlib import Path

import pytest
import yaml

from tests.support.recipe import actions_are_known, parses, settings_exist

DATABRICKS = Path(__file__).parents[3] / "deploy" / "databricks"
BUNDLE = yaml.safe_load((DATABRICKS / "databricks.yml").read_text())
JOBS = BUNDLE["resources"]["jobs"]
STREAM, DAILY = JOBS["stillpoint_stream"], JOBS["stillpoint_daily"]


def test_every_setting_named_exists():
    assert settings_exist(DATABRICKS) > 10


def test_the_command_lines_are_ours():
    lines = [task["spark_python_task"]["parameters"] for job in JOBS.values() for task in job["tasks"]]
    assert [line[0] for line in lines] == ["stream", "daily", "events"]
    for line in lines:
        parses(line)
    assert {task["spark_python_task"]["python_file"] for job in JOBS.values() for task in job["tasks"]} == {"./run.py"}


def test_the_stream_runs_once_and_for_ever_on_a_cluster_of_its_own():
    assert STREAM["max_concurrent_runs"] == 1
    assert STREAM["continuous"] == {"pause_status": "${var.pause_status}", "task_retry_mode": "NEVER"}
    assert BUNDLE["variables"]["pause_status"]["default"] == "UNPAUSED"
    (task,) = STREAM["tasks"]
    assert not {"max_retries", "timeout_seconds", "depends_on"} & set(task), (
        "a continuous job refuses them, or ends by them"
    )
    assert "timeout_seconds" not in STREAM
    (cluster,) = STREAM["job_clusters"]
    assert cluster["job_cluster_key"] == task["job_cluster_key"]
    assert "existing_cluster_id" not in task
    assert cluster["new_cluster"]["aws_attributes"]["availability"] == "ON_DEMAND"


def test_the_daily_run_compacts_after_the_daily_views_and_gives_up_in_the_end():
    assert DAILY["max_concurrent_runs"] == 1
    assert DAILY["schedule"]["timezone_id"] == "UTC"
    views, compaction = DAILY["tasks"]
    assert compaction["depends_on"] == [{"task_key": views["task_key"]}]
    assert all(0 < task["max_retries"] < 10 for task in DAILY["tasks"])


def test_failures_of_every_job_are_told():
    assert all(job["email_notifications"]["on_failure"] == ["${var.notify}"] for job in JOBS.values())


def test_secrets_come_from_the_scope_and_every_variable_is_declared():
    environment = STREAM["job_clusters"][0]["new_cluster"]["spark_env_vars"]
    secret = {name for name in environment if "REDIS" in name or "KEY" in name or "HOOK" in name}
    assert secret == {name for name, value in environment.items() if value.startswith("{{secrets/stillpoint/")}
    assert {"STILLPOINT_ERASURE_KEY", "STILLPOINT_REDIS_STATE"} <= secret
    used = set(re.findall(r"\$\{var\.(\w+)\}", (DATABRICKS / "databricks.yml").read_text()))
    assert used == set(BUNDLE["variables"])


def test_the_policy_allows_single_actions_that_exist():
    actions_are_known(DATABRICKS / "job-policy.json")


def test_a_task_calls_the_verb_and_fails_with_it(monkeypatch, capsys):
    root = Path(__file__).parents[3]
    monkeypatch.setenv("PYTHONPATH", str(root))
    monkeypatch.setattr("sys.path", ["kept"])
    for arguments, code in ((["status", "--help"], None), (["no-such-verb"], 2)):
        monkeypatch.setattr("sys.argv", ["run.py", *arguments])
        if code is None:
            runpy.run_path(str(DATABRICKS / "run.py"))
            shown = capsys.readouterr().out
            assert "stillpoint status" in shown
            assert shown.endswith("stillpoint status --help ended with exit code 0\n")
        else:
            with pytest.raises(SystemExit) as ended:
                runpy.run_path(str(DATABRICKS / "run.py"))
            assert ended.value.code == code
            assert capsys.readouterr().out.endswith("stillpoint no-such-verb ended with exit code 2\n")
