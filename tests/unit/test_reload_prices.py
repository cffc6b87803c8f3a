"""Price files that a policy names: another one put there is an edit, a broken one changes nothing."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

from router.domain.events import PolicySource
from router.policy.policy import Policy
from router.runtime.reload import PolicyWatch, load_directory
from router.runtime.reload.price_files import PriceReader


def write(path: Path, usd: float, *, at: int) -> None:
    """A price file with another time of change than any before."""
    path.write_text(json.dumps({"m": {"input_cost_per_token": usd * 1e-6, "output_cost_per_token": 0}}))
    os.utime(path, ns=(at, at))


def directory(folder: Path) -> tuple[Path, Path]:
    """A policy, and the price file that it names."""
    prices, root = folder / "prices.json", folder / "policies"
    root.mkdir()
    (root / "fleet.yaml").write_text(
        f"prices: {{litellm: {prices}}}\ndeployments: [{{name: d, model: m, tier: small, backend: simulated}}]\n"
    )
    write(prices, 1.0, at=1)
    return root, prices


def test_a_change_of_prices_is_taken_up(tmp_path: Path) -> None:
    """A new file is in force without an edit of the policy and is named as what changed; one that cannot be read is
    refused, at the line that names it."""
    root, prices = directory(tmp_path)
    first = load_directory(root)
    applied: list[tuple[Policy, PolicySource]] = []
    refused: list[tuple[str, ...]] = []

    async def scene() -> None:
        watch = PolicyWatch(
            root,
            current=first.digest,
            apply=lambda policy, source: applied.append((policy, source)),
            reject=lambda digest, problems, source: refused.append(problems),
        )
        await watch.look()
        write(prices, 3.0, at=2)
        await watch.look()
        prices.write_text("{")
        await watch.look()

    asyncio.run(scene())
    assert first.deployments[0].price.input_usd_per_mtok == 1.0
    ((policy, source),) = applied
    assert policy.deployments[0].price.input_usd_per_mtok == 3.0
    assert source.changed == (str(prices),)
    ((problem, _no_price),) = refused
    assert f"fleet.yaml:1:19: prices.litellm: the file {prices} is no price file of LiteLLM's" in problem


def test_a_file_is_read_again_only_when_it_changes(tmp_path: Path) -> None:
    """What is unchanged is the very same rows."""
    _, prices = directory(tmp_path)
    reader, documents = PriceReader(), [("f.yaml", f"prices: {{litellm: {prices}}}")]
    before = reader.read(documents)[str(prices)]
    assert reader.read(documents)[str(prices)] is before
    write(prices, 2.0, at=2)
    assert reader.read(documents)[str(prices)] is not before
    assert reader.read([("f.yaml", "prices: {shipped: true}")]) == {}
