"""What the project lays over the SDK's service models: it fits them, it is found, and it is shipped."""

from __future__ import annotations

from pathlib import Path

import aioboto3
import msgspec
import pytest
from aiobotocore.session import AioSession
from botocore.model import ServiceModel

from router.backends.aws.sessions import OVERLAY, Clients

FILES = sorted(Path(OVERLAY).rglob("*.json"))


def laid_over(service: str) -> ServiceModel:
    session = AioSession()
    Clients(aioboto3.Session(botocore_session=session))
    return ServiceModel(session.get_component("data_loader").load_service_model(service, "service-2"), service)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parts[-3])
def test_every_shape_is_merged_and_refers_to_one_that_is_there(file: Path) -> None:
    """Each file lies where botocore looks for it, and no member has a shape that is missing."""
    service, shapes = file.parts[-3], msgspec.json.decode(file.read_bytes())["merge"]["shapes"]
    model = laid_over(service)
    for name, added in shapes.items():
        shape = model.shape_for(name)
        for member in added.get("members", {}):
            assert shape.members[member].name
        if "enum" in added:
            assert shape.enum == added["enum"]


@pytest.mark.parametrize(
    ("operation", "member"),
    [("Converse", "serviceTier"), ("ConverseStream", "serviceTier"), ("InvokeModel", "serviceTier")],
)
def test_service_tiers_can_be_asked_for_and_are_told(operation: str, member: str) -> None:
    """In requests and responses; InvokeModel has them in a header, a stream in its last event."""
    found = laid_over("bedrock-runtime").operation_model(operation)
    assert member in found.input_shape.members
    output = found.output_shape
    if operation == "ConverseStream":
        output = output.members["stream"].members["metadata"]
    assert member in output.members
    if operation == "InvokeModel":
        assert output.members[member].serialization["name"] == "X-Amzn-Bedrock-Service-Tier"


def test_speculative_decoding_can_be_asked_for() -> None:
    """It is one of the ways in which a job may optimise a model."""
    job = laid_over("sagemaker").operation_model("CreateOptimizationJob").input_shape
    assert "ModelSpeculativeDecodingConfig" in job.members["OptimizationConfigs"].member.members
