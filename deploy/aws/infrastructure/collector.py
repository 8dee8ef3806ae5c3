"""The collector beside a process: reads its metrics and writes them to the workspace that evaluates our rules."""

import json

from aws_cdk import aws_ecs as ecs

IMAGE = "public.ecr.aws/aws-observability/aws-otel-collector:v0.43.3"
SECONDS = 15
TOKEN = "/tmp/metrics-token"
MEMORY = 256


def configuration(region: str, address: str, port: int) -> str:
    """Return the collector's configuration: one process of this task, every 15 s, signed with the task's role."""
    return json.dumps(
        {
            "extensions": {"sigv4auth": {"region": region, "service": "aps"}, "health_check": {}},
            "receivers": {
                "prometheus": {
                    "config": {
                        "scrape_configs": [
                            {
                                "job_name": "stillpoint",
                                "scrape_interval": f"{SECONDS}s",
                                "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
                            }
                        ]
                    }
                }
            },
            "exporters": {"prometheusremotewrite": {"endpoint": address, "auth": {"authenticator": "sigv4auth"}}},
            "service": {
                "extensions": ["sigv4auth", "health_check"],
                "pipelines": {"metrics": {"receivers": ["prometheus"], "exporters": ["prometheusremotewrite"]}},
            },
        }
    )


def add_collector(
    task: ecs.FargateTaskDefinition, region: str, address: str, *, port: int, logging: ecs.LogDriver
) -> None:
    """Put the collector into a task. The task goes on when the collector ends."""
    task.add_container(
        "collector",
        image=ecs.ContainerImage.from_registry(IMAGE),
        essential=False,
        memory_reservation_mib=MEMORY,
        readonly_root_filesystem=True,
        environment={"AOT_CONFIG_CONTENT": configuration(region, address, port)},
        logging=logging,
    )
