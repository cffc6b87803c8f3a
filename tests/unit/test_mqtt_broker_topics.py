"""The embedded broker's topic filters, against a matcher written straight from the rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.doubles.mqtt_broker.topics import FilterTree, split_share, valid_filter, valid_topic

LEVEL = st.sampled_from(["", "a", "b", "$s"])
TOPICS = st.lists(LEVEL, min_size=1, max_size=4).map("/".join).filter(bool)
FILTERS = (
    st.tuples(
        st.lists(st.one_of(LEVEL, st.just("+")), max_size=4),
        st.sampled_from([[], ["#"]]),
    )
    .map(lambda parts: "/".join([*parts[0], *parts[1]]))
    .filter(bool)
)


def matches(pattern: str, topic: str) -> bool:
    """The rules of MQTT 5, 4.7, one level at a time."""
    if topic.startswith("$") and pattern[0] in "+#":
        return False
    wanted, levels = pattern.split("/"), topic.split("/")
    while wanted and wanted[0] != "#":
        if not levels or wanted[0] not in ("+", levels[0]):
            return False
        wanted, levels = wanted[1:], levels[1:]
    return bool(wanted) or not levels


def tree_of(patterns: list[str]) -> FilterTree[str]:
    tree: FilterTree[str] = FilterTree()
    for pattern in patterns:
        tree.add(pattern, pattern, pattern)
    return tree


@given(st.lists(FILTERS, max_size=6, unique=True), TOPICS)
def test_tree_finds_exactly_the_matching_filters(patterns: list[str], topic: str) -> None:
    """A topic finds each filter it matches, once, and no other."""
    assert sorted(tree_of(patterns).match(topic)) == sorted(p for p in patterns if matches(p, topic))


@given(st.lists(FILTERS, min_size=1, max_size=6, unique=True), st.data())
def test_a_removed_filter_is_gone_and_the_others_stay(patterns: list[str], data: st.DataObject) -> None:
    """Removing some filters leaves a tree that answers like one that never held them."""
    removed = data.draw(st.sets(st.sampled_from(patterns)))
    topic = data.draw(TOPICS)
    tree = tree_of(patterns)
    for pattern in removed:
        tree.remove(pattern, pattern)
    kept = tree_of([p for p in patterns if p not in removed])
    assert sorted(tree.match(topic)) == sorted(kept.match(topic))


def test_two_keys_share_a_filter() -> None:
    """One filter holds a value for each key, and adding a key again replaces its value."""
    tree: FilterTree[int] = FilterTree()
    assert tree.add("a/+", "one", 1)
    assert tree.add("a/+", "two", 2)
    assert not tree.add("a/+", "one", 3)
    assert sorted(tree.match("a/b")) == [2, 3]


@pytest.mark.parametrize("pattern", ["a", "#", "+", "a/#", "+/a/+", "/", "a//b", "$share/g/a/#", "$share/g//"])
def test_valid_filters(pattern: str) -> None:
    """What may be subscribed to."""
    assert valid_filter(pattern)


@pytest.mark.parametrize(
    "pattern",
    ["", "a#", "a/#/b", "a+", "+a/b", "a\0", "$share/g/", "$share//a", "$share/g+/a", "$share/g", "$share/"],
)
def test_invalid_filters(pattern: str) -> None:
    """What is refused: wildcards inside a level, `#` before the end, NUL, a share without name or filter."""
    assert not valid_filter(pattern)


@pytest.mark.parametrize(("topic", "valid"), [("a", True), ("/", True), ("", False), ("a/+", False), ("a\0", False)])
def test_valid_topics(topic: str, valid: bool) -> None:
    """A topic to publish to has no wildcard, no NUL and at least one character."""
    assert valid_topic(topic) is valid


def test_share_is_split_from_its_filter() -> None:
    """The group ends at the next slash; the rest is the filter."""
    assert split_share("$share/g/a/#") == ("g", "a/#")
    assert split_share("a/$share/b") == (None, "a/$share/b")
