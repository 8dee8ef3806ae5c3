"""A model behind a SageMaker endpoint, which scales by calls."""

from aws_cdk import aws_applicationautoscaling as scaling
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from infrastructure.base import ConcernStack
from infrastructure.environment import Environment, ServedModel
from infrastructure.network import Network

VARIANT = "all"


class Models(ConcernStack):
    """One model, its configuration and its endpoint, named after the model. `stillpoint deploy` makes others beside it."""

    def __init__(
        self,
        scope: Construct,
        environment: Environment,
        served: ServedModel,
        key: kms.IKey,
        *,
        network: Network,
        repository: ecr.Repository,
        role: iam.Role,
    ) -> None:
        super().__init__(scope, "models", environment, "a model behind an endpoint")
        name = f"{environment.prefix}-{served.data.rpartition('/')[2][:12]}"
        model = sagemaker.CfnModel(
            self,
            "Model",
            model_name=name,
            execution_role_arn=role.role_arn,
            enable_network_isolation=True,
            vpc_config={
                "subnets": [one.subnet_id for one in network.vpc.private_subnets],
                "securityGroupIds": [network.processes.security_group_id],
            },
            primary_container={
                "image": repository.repository_uri_for_tag(environment.images),
                "modelDataUrl": served.data,
            },
        )
        configuration = sagemaker.CfnEndpointConfig(
            self,
            "Configuration",
            endpoint_config_name=name,
            kms_key_id=key.key_arn,
            production_variants=[
                {
                    "variantName": VARIANT,
                    "modelName": model.attr_model_name,
                    "instanceType": served.instance,
                    "initialInstanceCount": served.least,
                    "initialVariantWeight": 1,
                }
            ],
        )
        self.endpoint = sagemaker.CfnEndpoint(
            self,
            "Endpoint",
            endpoint_name=name,
            endpoint_config_name=configuration.attr_endpoint_config_name,
        )
        target = scaling.ScalableTarget(
            self,
            "Instances",
            service_namespace=scaling.ServiceNamespace.SAGEMAKER,
            resource_id=f"endpoint/{name}/variant/{VARIANT}",
            scalable_dimension="sagemaker:variant:DesiredInstanceCount",
            min_capacity=served.least,
            max_capacity=served.most,
        )
        target.node.add_dependency(self.endpoint)
        target.scale_to_track_metric(
            "Calls",
            target_value=served.calls_per_minute,
            predefined_metric=scaling.PredefinedMetric.SAGEMAKER_VARIANT_INVOCATIONS_PER_INSTANCE,
        )
