"""A job at SageMaker is asked about often at first, and seldom when it takes long."""

from collections.abc import Callable
from typing import Any

import pytest

from stillpoint.settings import Settings
from training.sagemaker_job import train_at_sagemaker


class Client:
    """A job that ends at a moment of a clock that only sleeping moves."""

    def __init__(self, seconds: float) -> None:
        self.ends, self.now, self.asked = seconds, 0.0, 0

    def create_training_job(self, **_: Any) -> None:
        pass

    def describe_training_job(self, **_: Any) -> dict[str, Any]:
        self.asked += 1
        done = {"TrainingJobStatus": "Completed", "ModelArtifacts": {"S3ModelArtifacts": "s3://lake/x"}}
        return done if self.now >= self.ends else {"TrainingJobStatus": "InProgress"}

    def sleep(self, seconds: float) -> None:
        assert seconds <= 30
        self.now += seconds


@pytest.mark.parametrize(
    ("seconds", "asked", "late"), [(0.1, 2, 0.2), (5, 30, 1), (600, 80, 30), (3_600, 180, 30)], ids=str
)
def test_the_longer_a_job_takes_the_less_often_it_is_asked_about(seconds: float, asked: int, late: float) -> None:
    client = Client(seconds)
    sleep: Callable[[float], None] = client.sleep
    settings = Settings(_env_file=None, lake="s3://lake/x")
    train_at_sagemaker(client, settings, job="j", snapshot_id="s", mapping_version=1, sleep=sleep)  # type: ignore[arg-type]
    assert client.asked <= asked
    assert client.now - seconds <= late
