from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from router.policy.schema.json import fields_at, json_schema
from router.policy.schema.values import duration_text, ratio_text, read_duration, read_ratio


def objects(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "Document", schema
    yield from ((n, d) for n, d in schema["$defs"].items() if d["type"] == "object")


def test_the_json_schema_documents_every_field_and_refuses_unknown_ones() -> None:
    """An editor can complete, explain and underline all of it."""
    for name, definition in objects(json_schema()):
        assert definition["additionalProperties"] is False, name
        assert definition["description"], name
        for field, schema in definition["properties"].items():
            assert schema.get("description"), f"{name}.{field}"


def test_the_json_schema_uses_the_words_of_the_document() -> None:
    """Field names are those people write, aliases included."""
    assert set(json_schema()["properties"]) == {
        "defaults",
        "deployments",
        "fleet",
        "prices",
        "classes",
        "class",
        "profiles",
        "tenants",
        "bounds",
        "mode",
    }
    assert {"timeWindow", "budgetingMethod"} < set(json_schema()["$defs"]["ObjectiveItem"]["properties"])


@pytest.mark.parametrize(
    ("path", "some"),
    [
        ((), "classes"),
        (("class",), "deadline"),
        (("classes", 0, "match"), "tenants"),
        (("classes", 3, "objectives", "(mapping)", "ttft", "(mapping)"), "threshold"),
        (("classes", 3, "objectives", "(list)", 1), "indicator"),
        (("prices", "models", "any-model"), "input"),
        (("class", "floor"), "ratio"),
    ],
)
def test_the_fields_of_a_place_are_known(path: tuple[str | int, ...], some: str) -> None:
    """Suggestions come from the fields that may stand at that very place."""
    assert some in fields_at(path)


@pytest.mark.parametrize(
    ("spelled", "seconds"),
    [("500ms", 0.5), ("30s", 30.0), ("2m", 120.0), ("1.5 h", 5400.0), ("30d", 2592000.0), ("4w", 2419200.0), (3, 3.0)],
)
def test_durations_read_in_every_unit_and_print_back(spelled: object, seconds: float) -> None:
    """A number is seconds; what is printed reads as the same."""
    assert read_duration(spelled) == seconds
    assert read_duration(duration_text(seconds)) == pytest.approx(seconds)


@pytest.mark.parametrize(("spelled", "ratio"), [("90%", 0.9), (0.9, 0.9), ("99.95 %", 0.9995), (1, 1.0), ("0%", 0.0)])
def test_ratios_read_as_shares_and_percentages(spelled: object, ratio: float) -> None:
    """0.9 and 90% are one thing; what is printed reads as the same."""
    assert read_ratio(spelled) == ratio
    assert read_ratio(ratio_text(ratio)) == pytest.approx(ratio)
