"""The frame of the AWS double, called by real SDK clients: what it refuses, what it passes on, how it breaks, and that
it cannot drift from the service models."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from botocore import xform_name
from botocore.exceptions import ClientError

from router.doubles.aws import server
from router.doubles.aws.call import Call, Json
from router.doubles.aws.faults import Fault, How
from router.doubles.aws.models import Model, Speed
from router.doubles.aws.protocol.models import service_model
from router.doubles.aws.server import SERVICES, AwsDouble, aws_double
from router.doubles.aws.world import World
from tests.integration.aws_far_side import client, turn

MODEL = "anthropic.claude-sonnet-4-20250514-v1:0"
SCOPE = "AWS4-HMAC-SHA256 Credential=test/20261120/eu-west-1/{}/aws4_request, SignedHeaders=host"


@pytest.fixture
async def double() -> AsyncIterator[AwsDouble]:
    async with aws_double() as one:
        yield one


async def post(
    double: AwsDouble, path: str, body: bytes = b"{}", scope: str | None = "bedrock"
) -> tuple[int, str, str]:
    """A request that the SDK would not send: status, error code, message."""
    headers = {} if scope is None else {"Authorization": SCOPE.format(scope)}
    async with aiohttp.ClientSession() as http, http.post(double.url + path, data=body, headers=headers) as answer:
        said = await answer.json()
        return answer.status, answer.headers.get("x-amzn-ErrorType", ""), said.get("message", "")


async def test_unsigned_requests_are_refused(double: AwsDouble) -> None:
    """A request without a signature gets AWS's own error, and so does one that is signed for another service."""
    assert (await post(double, "/model/m/converse", scope=None))[:2] == (403, "MissingAuthenticationTokenException")
    assert (await post(double, "/model/m/converse", scope="dynamodb"))[:2] == (404, "UnknownOperationException")
    assert (await post(double, "/no/such/path"))[:2] == (404, "UnknownOperationException")


@pytest.mark.parametrize("body", [b"{", b"[1]", b'{"a": "\xff"}'])
async def test_bodies_that_are_no_object(double: AwsDouble, body: bytes) -> None:
    """A body that is not a JSON object is a SerializationException."""
    assert (await post(double, "/model/m/converse", body))[:2] == (400, "SerializationException")


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b'{"messages": [], "topK": 3}', "topK"),
        (b'{"messages": [], "inferenceConfig": {"maxTokens": "9"}}', "maxTokens"),
        (b'{"messages": [], "inferenceConfig": {"temperature": 1.5}}', "temperature"),
        (b'{"messages": [], "serviceTier": {"type": "gold"}}', "serviceTier.type"),
        (b'{"messages": [], "performanceConfig": {"latency": "fast"}}', "performanceConfig.latency"),
        (b'{"messages": [{"role": "system", "content": [{"text": "x"}]}]}', "role"),
        (b'{"messages": [{"role": "assistant", "content": [{"text": "x"}]}]}', "start with a user"),
        (b'{"messages": [{"role": "user", "content": [{"text": " "}]}]}', "blank"),
        (b'{"messages": [{"role": "user", "content": []}]}', "empty"),
        (b'{"messages": [{"role": "user", "content": [{"text": "x"}]}, {"role": "user", "content": []}]}', "alternate"),
        (
            b'{"messages": [{"role": "user", "content": [{"text": "x"}]}, {"role": "assistant", "content": '
            b'[{"toolUse": {"toolUseId": "t", "name": "n", "input": {}}}]}]}',
            "toolConfig",
        ),
    ],
)
async def test_what_the_model_does_not_know(double: AwsDouble, body: bytes, complaint: str) -> None:
    """Unknown members, wrong types, ranges and enumerations, and broken conversations are ValidationExceptions."""
    status, code, message = await post(double, "/model/m/converse", body)
    assert (status, code, complaint in message) == (400, "ValidationException", True)


def test_handlers_are_operations_of_the_models() -> None:
    """Every public method of a service is an operation that the service model knows, so none can outlive it."""
    for make in SERVICES:
        service = make(World())
        known = {xform_name(name) for name in service_model(service.service).operation_names}
        methods = {name for name, _ in inspect.getmembers(service, inspect.iscoroutinefunction) if name[0] != "_"}
        assert methods <= known
        assert methods


class Drifting:
    """A runtime whose answer has a member that the API has not, and one whose type is wrong."""

    service = "bedrock-runtime"

    def __init__(self, world: World) -> None:
        self._world = world

    async def count_tokens(self, call: Call) -> Json:
        return {"inputTokens": 1, "outputTokens": 1}

    async def converse_stream(self, call: Call) -> Json:
        return {"stream": self._events()}

    async def _events(self) -> AsyncIterator[tuple[str, Json]]:
        yield "messageStart", {"role": 3}


async def test_an_answer_that_drifts_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer, or an event, that the service model does not know is not sent: the call fails and the world knows."""
    monkeypatch.setattr(server, "SERVICES", (Drifting,))
    async with aws_double() as double, client(double.url) as sdk:
        with pytest.raises(ClientError, match="does not fit the service model"):
            await sdk.count_tokens(modelId=MODEL, input={"converse": {"messages": turn()}})
        stream = (await sdk.converse_stream(modelId=MODEL, messages=turn()))["stream"]
        with pytest.raises(Exception, match="does not fit the service model"):
            await anext(aiter(stream))
        assert ["outputTokens" in why or "role" in why for why in double.world.drift] == [True, True]


async def test_every_modelled_error_has_its_status(double: AwsDouble) -> None:
    """An ordered refusal arrives with the status that the service model gives its code, after a single call."""
    async with client(double.url) as sdk:
        for shape in service_model("bedrock-runtime").operation_model("Converse").error_shapes:
            double.world.faults[:] = [Fault(code=shape.name, message="because", retry_after_s=7.0)]
            with pytest.raises(ClientError) as caught:
                await sdk.converse(modelId=MODEL, messages=turn())
            meta, said = caught.value.response["ResponseMetadata"], caught.value.response["Error"]
            assert (meta["HTTPStatusCode"], said["Code"]) == (shape.metadata["error"]["httpStatusCode"], shape.name)
            assert (said["Message"], meta["HTTPHeaders"]["retry-after"]) == ("because", "7")
    assert len(double.world.calls) == len(double.world.refusals)


async def test_faults_are_used_up_and_aimed(double: AwsDouble) -> None:
    """A fault for one operation and model hits only its calls, and only as often as it is ordered."""
    double.world.faults.append(Fault(operation="Converse", model=MODEL, times=1))
    counted = {"converse": {"messages": turn()}}
    async with client(double.url) as sdk:
        await sdk.count_tokens(modelId=MODEL, input=counted)
        await sdk.converse(modelId="another.model", messages=turn())
        with pytest.raises(ClientError, match="ThrottlingException"):
            await sdk.converse(modelId=MODEL, messages=turn())
        await sdk.converse(modelId=MODEL, messages=turn())


@pytest.mark.parametrize("how", [How.EXCEPTION, How.CUT, How.GARBAGE, How.SILENT_END])
async def test_broken_streams(double: AwsDouble, how: How) -> None:
    """A stream breaks after so many pieces: by an exception, a cut, garbage, or an end without a word."""
    double.world.faults.append(Fault(how, "ModelStreamErrorException", after=3, times=1))
    got: list[dict[str, Any]] = []
    async with client(double.url) as sdk:
        stream = (await sdk.converse_stream(modelId=MODEL, messages=turn()))["stream"]
        if how is How.SILENT_END:
            got = [event async for event in stream]
        else:
            with pytest.raises(Exception):  # noqa: B017, PT012  # each way of breaking is another of the SDK's errors
                async for event in stream:
                    got.append(event)  # what came before the error counts
        stream.close()
    assert sum("contentBlockDelta" in event for event in got) == 3
    assert not any("messageStop" in event for event in got)


async def test_a_whole_answer_can_be_cut(double: AwsDouble) -> None:
    """Without a stream the connection is cut where the answer should be; the model has run, and is billed."""
    double.world.faults.append(Fault(How.CUT, times=1))
    async with client(double.url) as sdk:
        with pytest.raises(Exception):  # noqa: B017  # a transport error
            await sdk.converse(modelId=MODEL, messages=turn())
    assert len(double.world.bills) == 1


async def test_who_leaves_is_noticed(double: AwsDouble) -> None:
    """A client that leaves a hanging stream frees its call, which is billed for what it was given."""
    double.world.faults.append(Fault(How.HANG, after=2))
    async with client(double.url) as sdk:
        stream = (await sdk.converse_stream(modelId=MODEL, messages=turn()))["stream"]
        for _ in range(3):
            await anext(aiter(stream))
        stream.close()
        await asyncio.wait_for(double.world.gone.acquire(), 60)
    assert double.world.serving == 0
    assert [bill.output_tokens for bill in double.world.bills] == [3]


async def test_assumed_roles(double: AwsDouble) -> None:
    """Keys of an assumed role call for that role's account; a forbidden role is refused."""
    async with client(double.url, "sts") as sts:
        assert (await sts.get_caller_identity())["Account"] == "123456789012"
        role = "arn:aws:iam::210987654321:role/router"
        keys = (await sts.assume_role(RoleArn=role, RoleSessionName="me"))["Credentials"]
        double.world.forbidden_roles.add(role)
        with pytest.raises(ClientError, match="AccessDenied"):
            await sts.assume_role(RoleArn=role, RoleSessionName="me")
    async with client(double.url, key=keys["AccessKeyId"]) as sdk:
        await sdk.converse(modelId=MODEL, messages=turn())
    assert double.world.bills[-1].account == "210987654321"


async def test_stores_are_passed_on() -> None:
    """S3, SQS and CloudWatch answer at the double's own address."""
    pytest.importorskip("moto")
    async with aws_double(stores=True) as double:
        async with client(double.url, "s3") as s3:
            await s3.create_bucket(Bucket="bucket")
            await s3.put_object(Bucket="bucket", Key="a/b", Body=b"hello")
            await s3.put_object(Bucket="bucket", Key="large", Body=b"x" * 3_000_000)
            found = await s3.get_object(Bucket="bucket", Key="a/b")
            assert await found["Body"].read() == b"hello"
            assert (await s3.head_object(Bucket="bucket", Key="a/b"))["ContentLength"] == 5
        async with client(double.url, "sqs") as sqs:
            assert (await sqs.create_queue(QueueName="q"))["QueueUrl"].endswith("/q")
        async with client(double.url, "cloudwatch") as watch:
            await watch.put_metric_data(Namespace="AWS/Bedrock", MetricData=[{"MetricName": "Invocations", "Value": 1}])
            (metric,) = (await watch.list_metrics(Namespace="AWS/Bedrock"))["Metrics"]
            assert metric["MetricName"] == "Invocations"


async def test_stores_that_are_not_served(double: AwsDouble) -> None:
    """Without its stores the double says so."""
    async with client(double.url, "sqs") as sqs:
        with pytest.raises(ClientError, match="start the double with its stores"):
            await sqs.create_queue(QueueName="q")


async def test_state_is_seen_and_changed(double: AwsDouble) -> None:
    """The admin route shows bills without prompts and takes faults; an order it does not understand is refused."""
    async with client(double.url) as sdk, aiohttp.ClientSession() as http:
        await sdk.converse(modelId=MODEL, messages=turn("a secret thing"))
        async with http.get(f"{double.url}/_double/state") as answer:
            text = await answer.text()
            assert "secret" not in text
            assert (await answer.json())["bills"][0]["input_tokens"] == 3
        order = {"faults": [{"how": "refuse", "code": "ServiceUnavailableException"}], "reset": True}
        async with http.post(f"{double.url}/_double/state", json=order) as answer:
            assert (await answer.json())["bills"] == []
        with pytest.raises(ClientError, match="ServiceUnavailableException"):
            await sdk.converse(modelId=MODEL, messages=turn())
        mistakes: tuple[dict[str, Any], ...] = ({"fault": []}, {"faults": [{"how": "slowly"}]})
        for bad in mistakes:
            async with http.post(f"{double.url}/_double/state", json=bad) as answer:
                assert answer.status == 400
        async with http.post(f"{double.url}/_double/state", json={"provisioned": {"arn": "Failed"}}) as answer:
            assert answer.status == 404


async def test_cloudwatch_is_told_of_the_calls() -> None:
    """Where the double serves CloudWatch, calls, tokens, first tokens and throttles are found there by ModelId."""
    pytest.importorskip("moto")
    world = World(metrics_s=0.05)
    world.faults.append(Fault(operation="Converse", times=1))
    async with aws_double(world, stores=True) as double, client(double.url) as sdk:
        with pytest.raises(ClientError, match="ThrottlingException"):
            await sdk.converse(modelId=MODEL, messages=turn())
        for tier in ("default", "priority"):
            stream = (await sdk.converse_stream(modelId=MODEL, messages=turn(), serviceTier={"type": tier}))["stream"]
            assert [event async for event in stream][-1]["metadata"]["usage"]["outputTokens"] == 8
        async with client(double.url, "cloudwatch") as watch:
            found: set[tuple[str, str]] = set()
            async with asyncio.timeout(60.0):
                while len(found) < 17:
                    metrics = (await watch.list_metrics(Namespace="AWS/Bedrock"))["Metrics"]
                    found = {(one["MetricName"], one["Dimensions"][0]["Value"]) for one in metrics}
    assert ("InvocationThrottles", MODEL) in found
    assert {("TimeToFirstToken", MODEL), ("OutputTokenCount", f"{MODEL}+priority")} <= found


async def test_models_are_cold_on_demand(double: AwsDouble) -> None:
    """The admin route makes every model load again."""
    waits: list[float] = []

    async def note(seconds: float) -> None:
        waits.append(seconds)

    double.world.sleep = note
    double.world.default = Model("default", speed=Speed(cold_start_s=9.0))
    async with client(double.url) as sdk, aiohttp.ClientSession() as http:
        for cold in (False, False, True):
            async with http.post(f"{double.url}/_double/state", json={"cold": cold}):
                await sdk.converse(modelId=MODEL, messages=turn())
    assert waits[::2] == [9.0, 0.0, 9.0]
