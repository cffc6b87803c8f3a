"""Which price does a deployment get, and from which list?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from router.core.spending.billing import most_usd
from router.domain.aws.geography import is_spread
from router.domain.deployment import Deployment, Price
from router.domain.outcome import Usage
from router.policy.compile import compile_policy
from router.policy.meaning.compare import compare
from router.policy.parse import PolicyErrors
from router.policy.prices.listed import plain
from router.policy.prices.litellm import read_litellm
from router.policy.prices.shipped import SHIPPED
from router.runtime.reload.reading import load_directory

HAIKU = "us.anthropic.claude-3-5-haiku-20241022-v1:0"
LITELLM = {
    "sample_spec": {"max_input_tokens": "a number", "input_cost_per_token": 0.0},
    "anthropic.claude-3-5-haiku-20241022-v1:0": {
        "litellm_provider": "bedrock",
        "mode": "chat",
        "input_cost_per_token": 7e-07,
        "output_cost_per_token": 3e-06,
        "cache_read_input_token_cost": 7e-08,
        "cache_creation_input_token_cost": 9e-07,
    },
    "gpt-9": {
        "litellm_provider": "openai",
        "mode": "chat",
        "input_cost_per_token": 2e-06,
        "output_cost_per_token": 8e-06,
        "input_cost_per_token_priority": 4e-06,
        "output_cost_per_token_priority": 1.6e-05,
    },
    "text-embedding-9": {"mode": "embedding", "input_cost_per_token": "free"},
}


def document(target: str = HAIKU, prices: str = "{}", **fields: Any) -> str:
    fields = {"model": "m", "backend": "bedrock", "target": target, **fields}
    lines = [f"  {field}: {value}" for field, value in fields.items() if value is not None]
    return "\n".join((f"prices: {prices}", "deployments:", "- name: d", "  tier: small", *lines))


def compiled(*args: str, litellm: dict[str, Any] | None = None, **fields: Any) -> Deployment:
    files = {"p.json": read_litellm(json.dumps(LITELLM if litellm is None else litellm).encode())}
    (found,) = compile_policy([("f.yaml", document(*args, **fields))], price_files=files).deployments
    return found


def refused(*args: str, litellm: dict[str, Any] | None = None, **fields: Any) -> str:
    with pytest.raises(PolicyErrors) as caught:
        compiled(*args, litellm=litellm, **fields)
    (problem,) = caught.value.problems
    return str(problem)


@pytest.mark.parametrize(
    ("id", "name"),
    [
        (HAIKU, "claude-3-5-haiku"),
        ("claude-3.5-haiku", "claude-3-5-haiku"),
        ("arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-3-haiku-20240307-v1:0", "claude-3-haiku"),
        ("arn:aws:bedrock:us-east-1:1:inference-profile/apac.amazon.nova-pro-v1:0", "nova-pro"),
        ("global.anthropic.claude-opus-4-6-v1", "claude-opus-4-6"),
        ("meta.llama3-1-8b-instruct-v1:0", "llama-3-1-8b"),
        ("llama-3.1-8b", "llama-3-1-8b"),
        ("mistral.mixtral-8x7b-instruct-v0:1", "mixtral-8x7b"),
        ("deepseek.r1-v1:0", "deepseek-r1"),
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
    ],
)
def test_a_model_has_one_plain_name(id: str, name: str) -> None:
    """ARN, inference profile, provider, date and version are no part of it."""
    assert plain(id) == name


def test_every_shipped_row_says_where_and_when_it_was_published() -> None:
    """Its prices are positive, reading a cache is cheaper than reading anew, and what is optimised is dearer; rows of
    one plain name cost the same."""
    seen: dict[str, Any] = {}
    for row in SHIPPED.rows:
        assert row.source.startswith("shipped:20")
        assert "@" in row.cited
        base = row.rates["default"]
        assert 0 < base.input <= base.output
        assert base.cache_read is None or base.cache_read < base.input
        assert base.cache_write is None or base.cache_write >= base.input
        assert "optimized" not in row.rates or row.rates["optimized"].input > base.input
        if not is_spread(row.id):
            assert seen.setdefault(plain(row.id), base.input) == base.input


def test_what_is_nearest_to_the_deployment_counts() -> None:
    """Its own price, then `prices.models`, then the file of LiteLLM's, then what ships."""
    book = "{models: {m: {input: 0.5, output: 2.5, cache_read: 0.05}}, litellm: p.json}"
    own = compiled(HAIKU, book, price_usd_per_mtok="{input: 0.4, output: 2}")
    assert own.price == Price(0.4, 2.0)
    assert compiled(HAIKU, book).price == Price(0.5, 2.5, cache_read_usd_per_mtok=0.05)
    assert compiled(HAIKU, "{litellm: p.json}").price == Price(0.7, 3.0, 0.0, 0.07, 0.9, "litellm")
    assert compiled(HAIKU).price == Price(0.8, 4.0, 0.0, 0.08, 1.0, "shipped:2025-07-20")


@pytest.mark.parametrize(
    ("target", "model", "usd"),
    [
        ("us.amazon.nova-2-lite-v1:0", "m", 0.33),
        ("global.amazon.nova-2-lite-v1:0", "m", 0.3),
        ("arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc", "claude-3-haiku", 0.25),
    ],
)
def test_a_profile_has_a_price_of_its_own_or_that_of_its_model(target: str, model: str, usd: float) -> None:
    """Found by the profile, by the id without it, or by the name of the model where the target tells nothing."""
    assert compiled(target, model=model).price.input_usd_per_mtok == usd


def test_what_bedrock_asks_is_no_price_of_a_server_of_ones_own() -> None:
    """A copy of Llama behind an OpenAI-compatible address has none, unless the policy or its file of LiteLLM's does."""
    told = refused(
        backend="openai_http", url="http://h/v1", target="meta.llama3-1-8b-instruct-v1:0", model="llama-3.1-8b"
    )
    assert "no price: give `price_usd_per_mtok` here" in told
    api = compiled("gpt-9", "{litellm: p.json}", backend="openai_http", url="http://h/v1", lane="priority")
    assert (api.price, [one.price.input_usd_per_mtok for one in api.served_prices]) == (
        Price(4.0, 16.0, source="litellm"),
        [2.0, 2.0],
    )


def test_without_the_shipped_list_a_price_must_be_given() -> None:
    """`shipped: false` is for those who trust nothing but their own contract, and the error names the way back."""
    told = refused(HAIKU, "{shipped: false}", model="claude-3-5-haiku")
    assert told.startswith("f.yaml:3:3: deployments[0]: no price")
    assert told.endswith("under `prices.models`, or `shipped: true`")
    told = refused("anthropic.claude-3-5-haikuu", model="claude-3-5-haikuu")
    assert told.endswith("did you mean `claude-3-5-haiku`?")


def test_a_tier_that_no_list_has_asks_for_a_price() -> None:
    """Optimised latency of a model that has no such price is not guessed."""
    told = refused(HAIKU, aws="{latency: optimized}")
    assert "asked for as optimized is known (shipped:2025-07-20): give `price_usd_per_mtok`" in told
    one = compiled(HAIKU, aws="{latency: optimized}", price_factor=1.25)
    assert (one.price.input_usd_per_mtok, one.price.source) == (1.0, "shipped:2025-07-20")
    assert {s.served: s.price.input_usd_per_mtok for s in one.served_prices} == {"default": 0.8, "standard": 0.8}


def test_a_price_of_ones_own_in_a_lane() -> None:
    """With a factor the default lane costs the price without it; without one it costs what a list says, and where none
    does, nothing is known."""
    own: dict[str, Any] = {"price_usd_per_mtok": "{input: 1, output: 2}", "lane": "priority"}
    assert {s.price.input_usd_per_mtok for s in compiled(HAIKU, price_factor=1.5, **own).served_prices} == {1.0}
    assert {s.price.input_usd_per_mtok for s in compiled(HAIKU, **own).served_prices} == {0.8}
    assert compiled("my-import", **own).served_prices == ()


def test_instances_of_sagemaker_are_paid_by_the_hour() -> None:
    """Their tokens are free unless the policy says otherwise."""
    one = compiled("endpoint-1", backend="sagemaker", hourly_usd=1.41, model="llama-3.1-8b")
    assert one.price == Price(0.0, 0.0, 1.41)


def test_what_is_reserved_of_a_budget_covers_the_dearest_way_to_be_served() -> None:
    """Flex that is served in the default lane, and a prompt that is written to the cache: 1,000 in, 100 out."""
    flex = compiled("amazon.nova-pro-v1:0", lane="flex")
    assert flex.price.cost_usd(1_000, 100) == pytest.approx(0.00056)
    assert most_usd(flex, 1_000, 100) == pytest.approx(0.00112)
    cached = compiled(HAIKU, aws="{cache: {}}")
    assert most_usd(cached, 1_000, 100) == pytest.approx(0.001 + 0.0004)
    assert most_usd(compiled(HAIKU), 1_000, 100) == pytest.approx(0.0008 + 0.0004)


def test_cached_tokens_without_a_price_of_their_own_cost_as_input() -> None:
    """And a refund is no price: nothing costs less than nothing."""
    usage = Usage(1_000, 10, cached_tokens=500, cache_written_tokens=100)
    assert Price(1.0, 2.0).cost_of(usage) == pytest.approx(0.00102)
    assert Price(1.0, 0.0, cache_read_usd_per_mtok=0.0).cost_of(Usage(10, 0, cached_tokens=20)) == 0.0


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is no price file of LiteLLM's: Input data was truncated"),
        (b"[]", "is no price file of LiteLLM's: Expected `object`, got `array`"),
        (b"{}", "is no price file of LiteLLM's: no row has `input_cost_per_token`"),
        (
            b'{"a": {"input_cost_per_token": "1e-6", "output_cost_per_token": 1}}',
            "has rows that are no price: `a`: input_cost_per_token is '1e-6': give USD for one token, 0 or more; mend",
        ),
        (b'{"a": {"input_cost_per_token": 1, "output_cost_per_token": -1}}', "`a`: output_cost_per_token is -1"),
        (b'{"a": {"input_cost_per_token": 1, "output_cost_per_token": true}}', "`a`: output_cost_per_token is True"),
    ],
)
def test_a_price_file_that_is_broken(content: bytes, told: str, tmp_path: Path) -> None:
    """The policy that names it is refused, at the line that does, with the row and the field."""
    file = tmp_path / "prices.json"
    file.write_bytes(content)
    policies = tmp_path / "policies"
    policies.mkdir()
    (policies / "f.yaml").write_text(document(prices=f"{{litellm: {file}}}"))
    with pytest.raises(PolicyErrors) as caught:
        load_directory(policies)
    (problem,) = caught.value.problems
    assert (problem.line, problem.column, problem.path) == (1, 19, "prices.litellm")
    assert f"the file {file} {told}" in str(problem) or told in str(problem)


def test_a_price_file_that_is_not_there(tmp_path: Path) -> None:
    """The error names the file and the line."""
    (tmp_path / "f.yaml").write_text(document(prices="{litellm: nowhere/prices.json}"))
    with pytest.raises(PolicyErrors, match=r"the file nowhere/prices\.json cannot be read: No such file"):
        load_directory(tmp_path)


def test_a_change_of_prices_is_told_as_money() -> None:
    """Where they are from, what a cache costs, and which way."""
    old, new = (
        compile_policy([("f.yaml", document(prices=p))]) for p in ("{}", "{models: {m: {input: 0.8, output: 4}}}")
    )
    moves = {change.move.field: change.move for change in compare(old, new).changes}
    assert moves["price.source"].new == "policy"
    assert moves["cache_read_usd_per_mtok"].note.startswith("dearer")
    assert "input_usd_per_mtok" not in moves


def test_what_else_a_call_may_cost_is_told_in_short() -> None:
    """A tier and its prices, not a whole struct."""
    fields = {"target": "amazon.nova-pro-v1:0", "lane": "flex"}
    texts = [
        document(**fields),
        document(prices="{shipped: false}", price_usd_per_mtok="{input: 1, output: 2}", **fields),
    ]
    old, new = (compile_policy([("f.yaml", text)]) for text in texts)
    (move,) = (change.move for change in compare(old, new).changes if change.move.field == "served_prices")
    assert (move.old, move.new) == ("[default at 0.8/3.2 USD/Mtok, standard at 0.8/3.2 USD/Mtok]", "[]")
