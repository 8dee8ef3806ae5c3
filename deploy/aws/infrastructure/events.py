"""The stream of events and the queues, each with its dead letters."""

from aws_cdk import Duration
from aws_cdk import aws_kinesis as kinesis
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infrastructure.base import ConcernStack, waive
from infrastructure.environment import Environment

FUNCTION_TIMEOUTS, MAX_RECEIVES, PUSH_VISIBILITY, RETENTION_DAYS, DEAD_DAYS = 6, 5, 15, 4, 14
"""As `stillpoint/local/provision.py` makes them for the embedded stack; a test compares."""


class Events(ConcernStack):
    """Kinesis, and the queues of prediction requests, pushes and what functions have served."""

    def __init__(self, scope: Construct, environment: Environment, key: kms.IKey) -> None:
        super().__init__(scope, "events", environment, "events and queues")
        self._key = key
        self.stream = kinesis.Stream(
            self,
            "Events",
            stream_name=f"{environment.prefix}-events",
            shard_count=environment.event_shards,
            retention_period=Duration.hours(environment.event_hours),
            encryption=kinesis.StreamEncryption.KMS,
            encryption_key=key,
            removal_policy=self.removal,
        )
        waive(self.stream, "AwsSolutions-KDS3", "it is encrypted with our own key, whose policy and rotation are ours")
        self.dead_predictions = self._queue("predictions-dead", days=DEAD_DAYS)
        self.predictions = self._queue(
            "predictions",
            visibility=FUNCTION_TIMEOUTS * environment.function_seconds,
            dead=sqs.DeadLetterQueue(queue=self.dead_predictions, max_receive_count=MAX_RECEIVES),
        )
        self.dead_pushes = self._queue("pushes-dead", days=DEAD_DAYS)
        self.pushes = self._queue(
            "pushes",
            visibility=PUSH_VISIBILITY,
            dead=sqs.DeadLetterQueue(queue=self.dead_pushes, max_receive_count=MAX_RECEIVES),
        )
        self.dead_served = self._queue("served-dead", days=DEAD_DAYS)
        self.served = self._queue(
            "served",
            days=DEAD_DAYS,
            dead=sqs.DeadLetterQueue(queue=self.dead_served, max_receive_count=1_000),
        )
        self.setting("event_stream", f"{environment.prefix}-events")
        self.setting("event_shards", str(environment.event_shards))
        self.setting("prediction_queue", f"{environment.prefix}-predictions")
        self.setting("prediction_dead_letters", f"{environment.prefix}-predictions-dead")
        self.setting("push_queue", f"{environment.prefix}-pushes")
        self.setting("served_queue", f"{environment.prefix}-served")
        self.setting("function_seconds", str(environment.function_seconds))

    def _queue(
        self, name: str, *, visibility: int = 30, days: int = RETENTION_DAYS, dead: sqs.DeadLetterQueue | None = None
    ) -> sqs.Queue:
        return sqs.Queue(
            self,
            name.title().replace("-", ""),
            queue_name=f"{self.environment_of_ours.prefix}-{name}",
            visibility_timeout=Duration.seconds(visibility),
            retention_period=Duration.days(days),
            dead_letter_queue=dead,
            encryption=sqs.QueueEncryption.KMS,
            encryption_master_key=self._key,
            enforce_ssl=True,
        )
