"""Which stacks there are, and what each takes from the others."""

from aws_cdk import App

from infrastructure.caches import Caches
from infrastructure.daily import Daily
from infrastructure.environment import Environment
from infrastructure.events import Events
from infrastructure.files import Files
from infrastructure.function import Function
from infrastructure.keys import Keys
from infrastructure.models import Models
from infrastructure.network import Network
from infrastructure.notices import Alarms, Metrics, Notices
from infrastructure.registry import Registry
from infrastructure.roles import Roles
from infrastructure.services import Services
from infrastructure.storage import Storage


def assemble(app: App, environment: Environment) -> None:
    """Add every stack of an environment to the app. With a stand-in, those that it has no resources for are left out."""
    real = environment.endpoint == "aws"
    key = Keys(app, environment).key
    notices = Notices(app, environment, key)
    storage = Storage(app, environment, key)
    events = Events(app, environment, key)
    registry = Registry(app, environment, key)
    network = Network(app, environment, key) if real else None
    caches = Caches(app, environment, key, vpc=network and network.vpc, group=network and network.caches)
    files = Files(app, environment, key, network) if network else None
    metrics = Metrics(app, environment, key, notices.topic) if real else None
    place = f"{environment.region}:{environment.account}"
    bucket = f"arn:aws:s3:::{storage.bucket_name}"
    resources = {
        "stream": f"arn:aws:kinesis:{place}:stream/{environment.prefix}-events",
        "predictions": f"arn:aws:sqs:{place}:{environment.prefix}-predictions",
        "dead_predictions": f"arn:aws:sqs:{place}:{environment.prefix}-predictions-dead",
        "pushes": f"arn:aws:sqs:{place}:{environment.prefix}-pushes",
        "served": f"arn:aws:sqs:{place}:{environment.prefix}-served",
        "bucket": bucket,
        "lake": f"{bucket}/lake",
        "registry": f"{bucket}/registry",
        "settings": caches.settings_secret.ref,
        "metrics": metrics.workspace.attr_arn if metrics else f"arn:aws:aps:{place}:workspace/none",
        "files": files.system.file_system_arn if files else f"arn:aws:elasticfilesystem:{place}:file-system/none",
        "training_jobs": f"arn:aws:sagemaker:{place}:training-job/stillpoint-*",
        "models": f"arn:aws:sagemaker:{place}:model/stillpoint-*",
        "endpoint_configs": f"arn:aws:sagemaker:{place}:endpoint-config/stillpoint-*",
        "endpoints": f"arn:aws:sagemaker:{place}:endpoint/stillpoint-*",
        "sagemaker_role": f"arn:aws:iam::{environment.account}:role/{environment.prefix}-sagemaker",
        "sagemaker_image": registry.repositories["model-server"].repository_arn,
        "sagemaker_log": f"arn:aws:logs:{place}:log-group:/aws/sagemaker/*",
        "function_log": f"arn:aws:logs:{place}:log-group:/{environment.prefix}/function:*",
        "daily_log": f"arn:aws:logs:{place}:log-group:/{environment.prefix}/daily:*",
    }
    roles = Roles(app, environment, key, resources).roles
    queues = {
        "stillpoint-predictions": events.predictions,
        "stillpoint-predictions-dead": events.dead_predictions,
        "stillpoint-pushes": events.pushes,
        "stillpoint-pushes-dead": events.dead_pushes,
        "stillpoint-served": events.served,
        "stillpoint-served-dead": events.dead_served,
    }
    Alarms(
        app,
        environment,
        notices.topic,
        queues=queues,
        stream=events.stream.stream_name,
        caches=[group.replication_group_id or "" for group in caches.groups.values()],
    )
    if network is None or files is None or metrics is None:
        return
    settings = storage.settings | events.settings | registry.settings | caches.settings
    Services(
        app,
        environment,
        key,
        network=network,
        repositories=registry.repositories,
        roles=roles,
        settings=settings,
        predictions=events.predictions,
        metrics_address=metrics.write_address,
        log_bucket=storage.logged,
        files=files,
        tokens=caches.tokens.ref,
    )
    if environment.predictor == "function":
        Function(
            app,
            environment,
            key,
            network=network,
            repository=registry.repositories["lambda"],
            role=roles["function"],
            settings=settings,
            predictions=events.predictions,
        )
    Daily(
        app,
        environment,
        key,
        network=network,
        role=roles["daily"],
        repository=registry.repositories["daily"],
        settings=settings,
        topic=notices.topic,
        dead=notices.undelivered,
    )
    if environment.model is not None:
        Models(
            app,
            environment,
            environment.model,
            key,
            network=network,
            repository=registry.repositories["model-server"],
            role=roles["sagemaker"],
        )
