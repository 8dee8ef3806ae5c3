"""The SageMaker stand-in's resources: what creating, updating and deleting one does.

The control plane of the stand-in: models, endpoint configurations, endpoints and training jobs, kept in one JSON file so
that a restart deploys the endpoints again. Deployments run in the background: Creating or Updating, then InService, or
Failed with a reason. An update keeps the old container answering until the new one is healthy, then drains it; if the
new one dies, the old one stays.
"""

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stillpoint.errors import StillpointError
from stillpoint.local.container import Container, Fetch, FetchAll, Starter, Store
from stillpoint.local.training_job import run_training_job

ACCOUNT = "000000000000"
Document = dict[str, Any]


class AwsRefusal(Exception):
    """A request that AWS would answer with this error type and text."""

    def __init__(self, kind: str, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.kind = kind
        self.status = status


class ControlPlane:
    """All resources, and the containers behind the endpoints. Safe for many threads."""

    def __init__(
        self,
        home: Path,
        fetch: Fetch,
        command: Sequence[str],
        *,
        region: str = "us-east-1",
        fetch_all: FetchAll = lambda address: {},
        store: Store | None = None,
    ) -> None:
        """`command` is the program of every container; `fetch` reads artifacts from S3, `fetch_all` a job's channels; `store` keeps
        what a job made."""
        self._fetch_all = fetch_all
        self._store = store
        self._home = home
        self._fetch = fetch
        self._command = list(command)
        self._region = region
        self._lock = threading.RLock()
        self._starter = Starter()
        self._containers: dict[str, Container] = {}
        self._resources: dict[str, dict[str, Document]] = {
            "model": {},
            "endpoint-config": {},
            "endpoint": {},
            "training-job": {},
        }
        self._load()

    def call(self, operation: str, request: Document) -> Document:
        """Answer one control plane call.

        Raises:
            Refused: AWS would refuse it too, or the stand-in does not know the operation.
        """
        for suffix, kind in _KINDS.items():
            for verb in ("Create", "Describe", "Update", "Delete", "List", "Stop"):
                plural = suffix + "s"
                if operation in (f"{verb}{suffix}", f"{verb}{plural}"):
                    handler: Callable[[str, str, Document], Document] | None = getattr(self, f"_{verb.lower()}", None)
                    if handler is not None:
                        return handler(suffix, kind, request)
        if operation in ("AddTags", "ListTags"):
            return {"Tags": []}
        raise AwsRefusal("UnknownOperationException", f"the SageMaker stand-in does not know {operation}")

    def container(self, endpoint: str) -> Container:
        """Return the container that answers for an endpoint.

        Raises:
            Refused: there is no such endpoint, or it is not in service.
        """
        with self._lock:
            resource = self._resources["endpoint"].get(endpoint)
            container = self._containers.get(endpoint)
        if resource is None:
            raise AwsRefusal("ValidationError", f"Endpoint {endpoint} of account {ACCOUNT} not found.")
        if container is None:
            raise AwsRefusal("ValidationError", f"Endpoint {endpoint} is {resource['EndpointStatus']}, not InService.")
        return container

    def close(self) -> None:
        """Stop all containers."""
        with self._lock:
            containers, self._containers = list(self._containers.values()), {}
        for container in containers:
            container.drain(1.0)

    def _create(self, suffix: str, kind: str, request: Document) -> Document:
        name = request[f"{suffix}Name"]
        arn = f"arn:aws:sagemaker:{self._region}:{ACCOUNT}:{kind}/{name.lower()}"
        now = time.time()
        with self._lock:
            if name in self._resources[kind]:
                raise AwsRefusal("ValidationException", f'Cannot create already existing {kind} "{arn}".')
            resource = {**request, f"{suffix}Arn": arn, "CreationTime": now, "LastModifiedTime": now}
            if kind == "endpoint":
                self._config(request["EndpointConfigName"])
                resource["EndpointStatus"] = "Creating"
            if kind == "training-job":
                resource |= {"TrainingJobStatus": "InProgress", "SecondaryStatus": "Starting"}
            self._resources[kind][name] = resource
            self._save()
        if kind == "endpoint":
            self._deploy_in_background(name, request["EndpointConfigName"])
        if kind == "training-job":
            threading.Thread(target=self._train, args=(name,), daemon=True).start()
        return {f"{suffix}Arn": arn}

    def _describe(self, suffix: str, kind: str, request: Document) -> Document:
        with self._lock:
            resource = dict(self._find(suffix, kind, request[f"{suffix}Name"]))
            if kind == "endpoint":
                config = self._config(resource["EndpointConfigName"])
                resource["ProductionVariants"] = [
                    {"VariantName": variant["VariantName"], "CurrentWeight": 1.0, "CurrentInstanceCount": 1}
                    for variant in config["ProductionVariants"]
                ]
            return resource

    def _update(self, suffix: str, kind: str, request: Document) -> Document:
        if kind != "endpoint":
            raise AwsRefusal("UnknownOperationException", f"a {kind} cannot be updated")
        with self._lock:
            resource = self._find(suffix, kind, request["EndpointName"])
            self._config(request["EndpointConfigName"])
            if resource["EndpointStatus"] in ("Creating", "Updating"):
                raise AwsRefusal(
                    "ValidationException", f'Cannot update in-progress endpoint "{resource["EndpointArn"]}".'
                )
            resource |= {"EndpointStatus": "Updating", "LastModifiedTime": time.time()}
            resource.pop("FailureReason", None)
            self._save()
        self._deploy_in_background(request["EndpointName"], request["EndpointConfigName"])
        return {"EndpointArn": resource["EndpointArn"]}

    def _delete(self, suffix: str, kind: str, request: Document) -> Document:
        name = request[f"{suffix}Name"]
        with self._lock:
            self._find(suffix, kind, name)
            del self._resources[kind][name]
            container = self._containers.pop(name, None) if kind == "endpoint" else None
            self._save()
        if container is not None:
            threading.Thread(target=container.drain, daemon=True).start()
        return {}

    def _list(self, suffix: str, kind: str, request: Document) -> Document:
        wanted = request.get("NameContains", "")
        with self._lock:
            found = [dict(value) for name, value in self._resources[kind].items() if wanted in name]
        return {f"{suffix}s": found}

    def _find(self, suffix: str, kind: str, name: str) -> Document:
        resource = self._resources[kind].get(name)
        if resource is None:
            arn = f"arn:aws:sagemaker:{self._region}:{ACCOUNT}:{kind}/{name.lower()}"
            raise AwsRefusal("ValidationException", f'Could not find {kind} "{arn}".')
        return resource

    def _config(self, name: str) -> Document:
        return self._find("EndpointConfig", "endpoint-config", name)

    def _deploy_in_background(self, endpoint: str, config: str) -> None:
        threading.Thread(target=self._deploy, args=(endpoint, config), daemon=True).start()

    def _deploy(self, endpoint: str, config_name: str) -> None:
        """Start the configuration's container, then let it take over. A failure leaves a former one answering."""
        folder = self._home / "endpoints" / f"{endpoint}-{time.time_ns()}"
        try:
            with self._lock:
                variant = self._config(config_name)["ProductionVariants"][0]
                model = self._find("Model", "model", variant["ModelName"])
            definition = model.get("PrimaryContainer") or model["Containers"][0]
            address = definition.get("ModelDataUrl") or (
                (definition.get("ModelDataSource") or {}).get("S3DataSource") or {}
            ).get("S3Uri")
            container = Container.start(
                self._starter,
                f"the container of endpoint {endpoint}",
                self._command,
                folder,
                self._fetch(address) if address else None,
                environment=definition.get("Environment") or {},
            )
        except (AwsRefusal, StillpointError, OSError, KeyError) as error:
            self._deployed(endpoint, None, config_name, f"{error}" or type(error).__name__)
        else:
            self._deployed(endpoint, container, config_name, None)

    def _deployed(self, endpoint: str, container: Container | None, config: str, failure: str | None) -> None:
        with self._lock:
            resource = self._resources["endpoint"].get(endpoint)
            former = None
            if resource is None:
                former = container  # deleted meanwhile
            elif container is not None:
                former = self._containers.get(endpoint)
                self._containers[endpoint] = container
                resource |= {
                    "EndpointStatus": "InService",
                    "EndpointConfigName": config,
                    "LastModifiedTime": time.time(),
                }
            else:
                serving = endpoint in self._containers
                resource |= {
                    "EndpointStatus": "InService" if serving else "Failed",
                    "FailureReason": failure,
                    "LastModifiedTime": time.time(),
                }
            self._save()
        if former is not None:
            former.drain()

    def _train(self, name: str) -> None:
        with self._lock:
            job = dict(self._resources["training-job"][name])
        outcome = run_training_job(job, self._home / "training" / name, self._starter, self._fetch_all, self._store)
        with self._lock:
            self._resources["training-job"][name] |= {
                **outcome,
                "TrainingEndTime": time.time(),
                "LastModifiedTime": time.time(),
            }
            self._save()

    def _save(self) -> None:
        self._home.mkdir(parents=True, exist_ok=True)
        staged = self._home / f".state-{os.getpid()}"
        staged.write_text(json.dumps(self._resources, indent=1))
        os.replace(staged, self._home / "state.json")

    def _load(self) -> None:
        state = self._home / "state.json"
        if state.exists():
            self._resources.update(json.loads(state.read_text()))
        shutil.rmtree(self._home / "endpoints", ignore_errors=True)
        for name, resource in self._resources["endpoint"].items():
            resource["EndpointStatus"] = "Creating"
            self._deploy_in_background(name, resource["EndpointConfigName"])
        for job in self._resources["training-job"].values():
            if job["TrainingJobStatus"] == "InProgress":
                job |= {"TrainingJobStatus": "Failed", "FailureReason": "the SageMaker stand-in was stopped meanwhile"}


_KINDS = {"EndpointConfig": "endpoint-config", "Endpoint": "endpoint", "Model": "model", "TrainingJob": "training-job"}
