"""The recipes for EMR start the receiver as they promise: once, for ever, with settings that exist."""

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import botocore.session
import pytest
from botocore.validate import ParamValidator

from tests.support.recipe import actions_are_known, parses, settings_exist

EMR = Path(__file__).parents[3] / "deploy" / "emr"
MACHINES = ("stream", "daily")


def machine(name):
    text = (EMR / f"{name}.asl.json").read_text()
    return json.loads(re.sub(r"\$\{([A-Z_]+)\}", lambda found: found[1].lower(), text))


def steps(name):
    return [
        state["Parameters"]["Step"]
        for state in machine(name)["States"].values()
        if "Step" in state.get("Parameters", {})
    ]


def test_every_setting_named_exists():
    assert settings_exist(EMR) > 10


def test_the_command_lines_are_ours():
    lines = [step["HadoopJarStep"]["Args"] for name in MACHINES for step in steps(name)]
    assert [line[1:3] for line in lines] == [["forever", "stream"], ["once", "daily"], ["once", "events"]]
    for line in lines:
        assert line[0] == "/opt/stillpoint/deploy/emr/run.sh"
        parses(line[2:])


@pytest.mark.parametrize("name", MACHINES)
def test_emr_accepts_the_cluster_and_its_steps(name):
    service = botocore.session.get_session().get_service_model("emr")
    cluster = machine(name)["States"]["Cluster"]["Parameters"]
    wanted = [("RunJobFlow", cluster)]
    wanted += [("AddJobFlowSteps", {"JobFlowId": "j-1", "Steps": [step]}) for step in steps(name)]
    for operation, parameters in wanted:
        report = ParamValidator().validate(parameters, service.operation_model(operation).input_shape)
        assert not report.has_errors(), report.generate_report()
    assert cluster["StepConcurrencyLevel"] == 1
    (group,) = cluster["Instances"]["InstanceGroups"]
    assert group["InstanceCount"] == 1


@pytest.mark.parametrize("name", MACHINES)
def test_every_state_is_reached_and_every_name_leads_somewhere(name):
    states = machine(name)["States"]
    reached, waiting = set(), [machine(name)["StartAt"]]
    while waiting:
        one = waiting.pop()
        if one not in reached:
            reached.add(one)
            state = states[one]
            assert state["Type"] in ("Succeed", "Fail") or state.get("End") or "Next" in state or "Default" in state
            waiting += [state[key] for key in ("Next", "Default") if key in state]
            waiting += [rule["Next"] for rule in [*state.get("Catch", ()), *state.get("Choices", ())]]
    assert reached == set(states)


def test_every_end_of_the_stream_is_told_and_leads_to_its_next_life():
    states = machine("stream")["States"]
    for name in ("Cluster", "Stream"):
        assert [rule["Next"] for rule in states[name]["Catch"]] == ["Tell"]
    assert states["Stream"]["Next"] == "Tell"
    assert states["Again"]["Resource"].endswith("states:startExecution")
    assert states["Again"]["Parameters"]["StateMachineArn.$"] == "$$.StateMachine.Id"
    dead_ends = {name for name, state in states.items() if state.get("End") or state["Type"] in ("Fail", "Succeed")}
    assert dead_ends == {"Again", "Refused"}
    (more_than_one,) = states["Only one"]["Choices"]
    assert more_than_one["NumericGreaterThan"] == 1
    assert more_than_one["Next"] == "Refused"


@pytest.mark.parametrize("policy", ["job-policy.json", "state-machine-policy.json"])
def test_policies_allow_single_actions_that_exist(policy):
    actions_are_known(EMR / policy)


@pytest.fixture
def machine_of_ours(tmp_path):
    """A folder as bootstrap.sh leaves it, with a `stillpoint` that notes its calls and fails, and an `aws` that notes, too."""
    root, binaries = tmp_path / "root", tmp_path / "bin"
    (root / "deploy" / "emr").mkdir(parents=True)
    (root / ".venv" / "bin").mkdir(parents=True)
    binaries.mkdir()
    for name in ("run.sh", "tell.sh", "stillpoint.env"):
        (root / "deploy" / "emr" / name).write_bytes((EMR / name).read_bytes())
        (root / "deploy" / "emr" / name).chmod(0o755)
    secret = json.dumps({"STILLPOINT_ERASURE_KEY": "a 'quoted' key\nof two lines"})
    write(
        binaries / "aws", f"echo \"$@\" >> {tmp_path}/aws\n[ $1 = secretsmanager ] && cat <<'X'\n{secret}\nX\nexit 0\n"
    )
    write(
        root / ".venv" / "bin" / "python",
        f"trap 'echo terminated >> {tmp_path}/runs; exit 0' TERM\n"
        f'echo "$@ [$STILLPOINT_ERASURE_KEY] ${{SPARK_HOME-none}}" >> {tmp_path}/runs\n'
        f'[ "$(grep -c stillpoint {tmp_path}/runs)" -lt 2 ] && exit 3\n'
        "while :; do sleep 0.05; done\n",
    )
    environment = os.environ | {
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "STILLPOINT_ROOT": str(root),
        "SPARK_HOME": "/usr/lib/spark",
    }
    return tmp_path, [str(root / "deploy" / "emr" / "run.sh")], environment


def write(path, body):
    path.write_text(f"#!/bin/bash\n{body}")
    path.chmod(0o755)


def wait_for(path, text):
    for _ in range(400):
        if path.exists() and text in path.read_text():
            return path.read_text()
        time.sleep(0.02)
    raise AssertionError(f"{text!r} is not in {path}")


def test_a_receiver_that_ends_is_told_of_and_started_again_until_sigterm(machine_of_ours):
    folder, command, environment = machine_of_ours
    process = subprocess.Popen(
        [*command, "forever", "stream", "--master", "local[*]"], env=environment, start_new_session=True
    )
    try:
        runs = wait_for(folder / "runs", "none\n-m stillpoint")
        assert "-m stillpoint stream --master local[*] [a 'quoted' key\nof two lines] none" in runs
        assert "ended with 3; it starts again" in wait_for(folder / "aws", "sns publish")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
        assert (folder / "runs").read_text().endswith("terminated\n")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_a_daily_run_that_fails_is_told_of_and_fails_its_step(machine_of_ours):
    folder, command, environment = machine_of_ours
    done = subprocess.run([*command, "once", "daily"], env=environment, check=False, timeout=20)
    assert done.returncode == 3
    assert "stillpoint daily ended with 3" in (folder / "aws").read_text()
    assert (folder / "runs").read_text().count("-m stillpoint") == 1
