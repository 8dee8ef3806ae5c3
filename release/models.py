"""Checks that the models of a release fit together: one per kind, one mapping, one encoder, and inputs that the read plan provides."""

from collections.abc import Mapping

from stillpoint.app.feature_set import FeatureSet
from stillpoint.choice_model import CHOICE_FEATURES
from stillpoint.errors import ReleaseRefused
from stillpoint.messages import Kind
from stillpoint.model import ModelBundle, model_key
from stillpoint.releases.records import Route
from stillpoint.stores.reading.plan import ReadPlan


def routes_of(models: Mapping[Kind, str], *, endpoint: str | None = None) -> dict[Kind, Route]:
    """Return a routing table from the digest of each kind's model; models run in process, or behind one SageMaker endpoint.

    Raises:
        ReleaseRefused: a kind has no model.
    """
    missing = [kind.value for kind in Kind if kind not in models]
    if missing:
        raise ReleaseRefused(f"no model is named for {', '.join(missing)}; every kind of recommendation needs one")
    return {kind: Route(model_uri=model_key(models[kind]), sha256=models[kind], endpoint=endpoint) for kind in Kind}


def one_mapping(models: Mapping[str, ModelBundle]) -> int:
    """Return the mapping version that all models share.

    Raises:
        ReleaseRefused: they come from different mappings or encoders, so no one colour fits them all.
    """
    versions = sorted({bundle.manifest.mapping_version for bundle in models.values()})
    if len(versions) != 1:
        raise ReleaseRefused(
            f"the models come from mappings {', '.join(map(str, versions))}; a colour holds one mapping, so a release "
            "takes models of one training run"
        )
    encoders = sorted({bundle.manifest.encoder_sha256 for bundle in models.values()})
    if len(encoders) != 1:
        raise ReleaseRefused(
            f"the models were trained with different text encoders ({', '.join(sha[:12] for sha in encoders)}); "
            "a release takes one"
        )
    return versions[0]


def refuse_unknown_inputs(
    models: Mapping[str, ModelBundle], plan: ReadPlan, service: str, features: FeatureSet
) -> None:
    """Make sure that each model's inputs can be read by the plan or computed at request time.

    Raises:
        ReleaseRefused: names the inputs that nobody provides.
    """
    known = {name for part in plan.select(service) for name in part.features}
    known |= {declared.name for declared in features.request_features} | set(CHOICE_FEATURES)
    for sha256, bundle in models.items():
        unknown = sorted(set(bundle.input_columns) - known)
        if unknown:
            raise ReleaseRefused(
                f"model {sha256[:12]} wants {', '.join(unknown)}, which feature service {service} does not provide; "
                "train it on the features that are registered now"
            )
