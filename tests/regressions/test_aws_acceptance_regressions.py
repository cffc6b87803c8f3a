"""What a stranger would find wrong who tries AWS through the router, the double and the commands."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aioboto3
import msgspec
import pytest
import yaml
from msgspec.structs import replace
from typer.testing import CliRunner

from router.backends.aws.bedrock import BedrockBackend
from router.backends.aws.sagemaker import SageMakerBackend
from router.backends.aws.sessions import Clients
from router.cli.capacity import capacity
from router.cli.catalog import catalog
from router.cli.optimize import optimize
from router.domain.aws.terms import Api, AwsTerms, Payload
from router.domain.decision import DecisionId
from router.domain.deployment import Address, Kind
from router.domain.errors import Refused, RouterError, SettingsError
from router.domain.outcome import Attempt, AttemptId, Delta
from router.domain.view import Health
from router.doubles.aws.console.config import read_world
from router.doubles.aws.faults import Fault, How
from router.doubles.aws.models import Answer, Model, ToolUse, words
from router.doubles.aws.sagemaker_runtime.endpoint import Endpoint
from router.doubles.aws.server import AwsDouble, aws_double
from router.doubles.aws.world import World
from router.policy.compile import compile_policy
from router.policy.parse import PolicyErrors
from router.policy.prices.listed import BEDROCK
from router.policy.prices.shipped import SHIPPED
from router.wire.aws.exchange import exchange_for
from router.wire.aws.sagemaker.request import text_call
from router.wire.aws.sagemaker.response import read_text
from router.wire.openai import Envelope, assemble, read_request
from tests.regressions.house import House, deployment, failing, virtually
from tests.unit.test_capacity_changes import PLAN

CLAUDE = "anthropic.claude-3-5-haiku-20241022-v1:0"
INVOKED = AwsTerms(api=Api.INVOKE)
TGI = AwsTerms(payload=Payload.TGI)
CALLED = ToolUse("t1", "weather", ('{"city":', '"Zürich"}'))
POLICY = """\
deployments:
  - {name: awq, model: llama-3-8b-awq, derived_from: llama-3-8b, optimizations: [quantization-awq], tier: small,
     backend: sagemaker, target: llama, region: us-east-1, price_usd_per_mtok: {input: 1, output: 2}}
class: {name: chat, objectives: {tpot: 1ms}}
"""
JOB = ["--source", "s3://models/llama/", "--output", "s3://models/out/", "--instance-type", "ml.g5.12xlarge"]
JOB += ["--role-arn", "arn:aws:iam::123456789012:role/sagemaker"]


def attempt(backend: str, target: str, *, url: str = "", terms: AwsTerms | None = None, **body: Any) -> Attempt:
    """A call with these fields of a chat completion."""
    stream = body.get("stream", False)
    address = Address(backend, target, url=url or None, region="us-east-1", aws=terms)
    payload = msgspec.json.encode({"messages": [{"role": "user", "content": "Say something."}], **body})
    return Attempt(
        id=AttemptId("a1"),
        decision_id=DecisionId("d1"),
        request=read_request(payload, Envelope(id="r1", arrived=0.0, at=0.0, source="test")),
        deployment=replace(deployment("d", kind=Kind.CONTINUOUS), address=address),
        number=1,
        started=0.0,
        deadline=None,
        stream=stream,
    )


@pytest.fixture
async def double() -> AsyncIterator[AwsDouble]:
    async with aws_double(World()) as one:
        yield one
        assert one.world.drift == []


def clients() -> aioboto3.Session:
    return aioboto3.Session(aws_access_key_id="test", aws_secret_access_key="test")


async def said(double: AwsDouble, target: str, *, stream: bool) -> dict[str, Any]:
    """The choice that a call of InvokeModel ends with."""
    backend = BedrockBackend(clients())
    deltas = [d async for d in backend.open(attempt("bedrock", target, url=double.url, terms=INVOKED, stream=stream))]
    await backend.close()
    (choice,) = msgspec.json.decode(assemble(deltas) if stream else deltas[0].choices)
    assert any(delta.usage is not None and delta.usage.input_tokens for delta in deltas)
    return {**choice["message"], "finish_reason": choice["finish_reason"]}


async def on_sagemaker(double: AwsDouble, terms: AwsTerms = TGI, **body: Any) -> list[Delta]:
    backend = SageMakerBackend(Clients(clients()))
    asked = attempt("sagemaker", "tgi", url=double.url, terms=terms, **body)
    try:
        return [delta async for delta in backend.open(asked)]
    finally:
        await backend.close()


@pytest.mark.parametrize("stop", ["", ["", ""]])
def test_an_empty_stop_takes_nothing_from_an_answer(stop: str | list[str]) -> None:
    """It stops nothing: Converse is not sent it, which it would refuse, and no text container's answer is cut to
    nothing by it."""
    assert "inferenceConfig" not in exchange_for(attempt("bedrock", CLAUDE, stop=stop)).arguments()
    call = text_call(attempt("sagemaker", "e", stop=stop), Payload.TGI)
    assert "" not in call.parameters["stop"]
    assert b"Paris" in read_text(b'{"generated_text": "Paris"}', call).choices


def test_stops_that_a_text_container_cannot_be_sent_end_the_answer_all_the_same() -> None:
    """TGI takes four: the fifth, and the next turn of the user, are cut once they were said."""
    call = text_call(attempt("sagemaker", "e", stop=["a1", "b2", "c3", "d4", "e5"]), Payload.TGI)
    assert call.parameters["stop"] == ["a1", "b2", "c3", "d4"]
    assert b'"content":"x "' in read_text(b'{"generated_text": "x e5 y"}', call).choices
    assert b'"content":"x"' in read_text(b'{"generated_text": "x\\nUser: y"}', call).choices


def test_a_stop_that_llama_has_no_field_for_is_refused() -> None:
    """InvokeModel's Llama has no stop sequences: to leave one out would be another answer than was asked for."""
    with pytest.raises(Refused) as caught:
        exchange_for(attempt("bedrock", "meta.llama3-8b-instruct-v1:0", terms=INVOKED, stop="x")).arguments()
    assert (caught.value.code, caught.value.param) == ("unsupported", "stop")


def test_a_refusal_of_claude_is_no_ordinary_end() -> None:
    """Its own body says `refusal` where a classifier ended the answer: OpenAI's word for that is content_filter."""
    answer = {"content": [], "stop_reason": "refusal", "usage": {"input_tokens": 1, "output_tokens": 0}}
    told = exchange_for(attempt("bedrock", CLAUDE, terms=INVOKED)).whole({}, msgspec.json.encode(answer))
    assert told.finish_reason == "content_filter"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("target", [CLAUDE, "amazon.nova-lite-v1:0", "openai.gpt-oss-20b-1:0"])
async def test_tool_calls_come_through_invoke_from_the_double(double: AwsDouble, target: str, stream: bool) -> None:
    """Whole and streamed, with text before them and without, by each family that has tools."""
    for pieces in ((), ("Let me ", "see.")):
        double.world.default = Model("default", says=Answer(pieces, tools=(CALLED,), stop_reason="tool_use"))
        message = await said(double, target, stream=stream)
        assert message["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city":"Zürich"}'}
        assert (message["content"] or "", message["finish_reason"]) == ("".join(pieces), "tool_calls")


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("target", [CLAUDE, "amazon.nova-lite-v1:0"])
async def test_reasoning_and_nothing_else_comes_through_invoke(double: AwsDouble, target: str, stream: bool) -> None:
    """A bound can end an answer before its first word; what was thought is told, and the prompt is counted."""
    double.world.default = Model("default", says=Answer((), reasoning=("hmm ", "so"), stop_reason="max_tokens"))
    message = await said(double, target, stream=stream)
    assert (message["reasoning_content"], message["finish_reason"]) == ("hmm so", "length")


async def test_an_empty_stream_of_claude_tells_its_prompt(double: AwsDouble) -> None:
    """The double begins every message, so that what the prompt cost is told where no word came."""
    double.world.default = Model("default", says=Answer(()))
    assert (await said(double, CLAUDE, stream=True))["content"] == ""


async def test_an_exception_in_a_stream_of_sagemaker_has_its_message(double: AwsDouble) -> None:
    """Its shapes spell the member `Message`, those of Bedrock `message`."""
    double.world.endpoints["tgi"] = Endpoint("tgi", "tgi")
    double.world.faults = [Fault(How.EXCEPTION, "ModelStreamError", "the model fell over", after=2)]
    with pytest.raises(RouterError, match="the model fell over"):
        await on_sagemaker(double, stream=True)


@pytest.mark.parametrize("asked", [AwsTerms(variant="nope"), AwsTerms(component="nope"), AwsTerms()])
async def test_a_variant_or_component_that_is_not_there_is_not_the_senders_fault(
    double: AwsDouble, asked: AwsTerms
) -> None:
    """The policy names it, or names none where the endpoint has components: another deployment may well answer."""
    components = {} if asked.variant else {"c1": "AllTraffic"}
    double.world.endpoints["tgi"] = Endpoint("tgi", "tgi", components=components)
    with pytest.raises(Refused) as caught:
        await on_sagemaker(double, terms=replace(asked, payload=Payload.TGI))
    assert caught.value.code == "backend_forbidden"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_container_of_the_double_says_no_more_than_it_may(double: AwsDouble, stream: bool) -> None:
    """A bound on the answer holds on SageMaker as it does on Bedrock."""
    double.world.endpoints["tgi"] = Endpoint("tgi", "tgi")
    double.world.endpoints["tgi"].variants[0].says = words(9)
    deltas = await on_sagemaker(double, stream=stream, max_tokens=2)
    assert deltas[-1].finish_reason == "length"
    assert deltas[-1].usage is not None
    assert deltas[-1].usage.output_tokens == 2


def test_a_prefix_kept_for_an_hour_is_written_at_twice_the_input() -> None:
    """Also where a price list has the write for five minutes alone: the ledger would be too low by 37 %."""
    priced = SHIPPED.find((BEDROCK,), CLAUDE)
    assert priced is not None
    rate = priced.rates["default"]
    assert rate.cache_write_1h is None
    assert rate.price("test", kept_s=300.0).cache_write_usd_per_mtok == 1.0
    assert rate.price("test", kept_s=3600.0).cache_write_usd_per_mtok == 1.6


def test_a_profile_that_is_no_arn_is_refused(tmp_path: Path) -> None:
    """It would answer, and then could not be listed: its id is no name of a profile."""
    file = tmp_path / "double.yaml"
    file.write_text(f'profiles: {{"us.{CLAUDE}": "{CLAUDE}"}}')
    with pytest.raises(SettingsError, match=r"double.yaml: us.anthropic.*by its ARN"):
        read_world(file)


@pytest.mark.parametrize("wrong", ["endpoints: [{name: e, payload: vllm}]", "models: [{id: m, family: claude}]"])
def test_a_spelling_that_the_double_does_not_know_is_refused(tmp_path: Path, wrong: str) -> None:
    """At the start, and not taken for a text container, or answered with an internal failure call by call."""
    file = tmp_path / "double.yaml"
    file.write_text(wrong)
    with pytest.raises(SettingsError, match="Invalid enum value"):
        read_world(file)


@pytest.mark.parametrize("region", ["us-east", "us east 1", "us-east-1a"])
def test_a_region_that_is_none_is_said_before_any_call(region: str) -> None:
    """Where only the calls say it, every one of them waits for a name that nobody resolves."""
    text = f"""
deployments:
  - {{name: d, model: m, tier: small, backend: bedrock, region: {region}, target: "{CLAUDE}",
     price_usd_per_mtok: {{input: 1, output: 1}}}}
class: {{name: chat}}
"""
    with pytest.raises(PolicyErrors, match=f"`{region}` is no AWS region"):
        compile_policy([("p.yaml", text)])


def test_an_address_without_a_scheme_is_told_and_not_traced() -> None:
    """As it is easily typed: HOST:PORT."""
    with pytest.raises(RouterError, match="--endpoint-url localhost:8700: write an address such as"):
        run(capacity, "list", "--region", "us-east-1", "--endpoint-url", "localhost:8700")


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A policy that ROUTER_POLICIES names, and a working directory that has none."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "policy.yaml").write_text(POLICY)
    monkeypatch.setenv("ROUTER_POLICIES", str(folder))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.chdir(tmp_path)
    return folder


def run(command: Any, *flags: str) -> str:
    result = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(command, list(flags))
    if isinstance(result.exception, RouterError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.usefixtures("elsewhere")
def test_the_policy_that_the_daemon_serves_is_advised_on_and_optimised() -> None:
    """`catalog advise` and `optimize plan` read ROUTER_POLICIES, as `serve` does, and not another policy beside it."""
    assert "speculative-decoding" in run(catalog, "advise", "--deployment", "awq")
    assert "Nothing was submitted" in run(
        optimize, "plan", "awq", "--technique", "speculative-decoding", *JOB, "--out", "p.yaml"
    )


@pytest.mark.usefixtures("elsewhere")
def test_a_plan_is_applied_to_the_policy_it_was_made_from() -> None:
    """`optimize apply` finds the deployment where `optimize plan` found it."""
    run(optimize, "plan", "awq", "--technique", "compilation", *JOB, "--out", "p.yaml")
    assert "Nothing was submitted" in run(optimize, "apply", "p.yaml")


@pytest.mark.usefixtures("elsewhere")
def test_a_quantised_model_is_not_quantised_again() -> None:
    """No job is paid for what is done already."""
    with pytest.raises(RouterError, match="`awq` has its quantization already"):
        run(optimize, "plan", "awq", "--technique", "quantization", *JOB, "--out", "p.yaml")


def test_units_are_bought_of_the_model_that_the_served_policy_names(elsewhere: Path) -> None:
    """`capacity apply` looks the model up in ROUTER_POLICIES: without an account it comes as far as asking Bedrock."""
    on_demand = (
        "{name: haiku, model: haiku, tier: small, backend: bedrock, target: anthropic.claude-3-haiku-20240307-v1:0}"
    )
    (elsewhere / "policy.yaml").write_text(f"deployments: [{on_demand}]\nclass: {{name: chat}}\n")
    plan = {**PLAN, "made_on": datetime.now(UTC).date().isoformat(), "purchases": []}
    Path("plan.yaml").write_text(yaml.safe_dump(plan))
    with pytest.raises(RouterError, match=r"^bedrock: "):
        run(capacity, "apply", "plan.yaml", "--endpoint-url", "http://127.0.0.1:9", "--region", "us-east-1")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_call_of_invoke_is_found_again_in_the_log_of_bedrock(double: AwsDouble, stream: bool) -> None:
    """InvokeModel takes the request's metadata too, as JSON in a header; never the prompt."""
    await said(double, CLAUDE, stream=stream)
    told = msgspec.json.decode(double.world.calls[-1].params["requestMetadata"])
    assert told == {"request_id": "r1", "attempt_id": "a1"}


def test_what_one_deployment_cannot_be_asked_for_another_is_asked() -> None:
    """Tools for a model that takes text alone are refused before anything is called: a deployment of the class that
    has them answers, the first stays well, and where there is no other the refusal is told as it is."""

    async def scene() -> None:
        house = House()
        house.backend.scripts = {"large": failing(Refused("no tools", code="unsupported", param="tools"))}
        replies = [await house.ask(f"r{i}") for i in range(5)]
        assert {reply.receipt.deployment for reply in replies} == {"small"}
        assert house.member("large").circuit.health is not Health.OPEN
        house.backend.scripts["small"] = house.backend.scripts["large"]
        with pytest.raises(Refused) as refused:
            await house.ask("last")
        assert (refused.value.code, refused.value.param) == ("unsupported", "tools")

    virtually(scene)
