"""Topic names and filters, and a tree that finds every filter a topic matches (MQTT 5, section 4.7)."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

_SHARE = "$share/"
_V = TypeVar("_V")


def valid_topic(topic: str) -> bool:
    """Whether a message may be published to `topic`: not empty, no wildcard, no NUL."""
    return bool(topic) and "+" not in topic and "#" not in topic and "\0" not in topic


def valid_filter(pattern: str) -> bool:
    """Whether `pattern` may be subscribed to; the share name of a shared subscription is checked too."""
    share, pattern = split_share(pattern)
    if share is not None and (not share or "+" in share or "#" in share):
        return False
    if not pattern or "\0" in pattern:
        return False
    levels = pattern.split("/")
    if "#" in levels[:-1]:
        return False
    return all(level in ("+", "#") or ("+" not in level and "#" not in level) for level in levels)


def split_share(pattern: str) -> tuple[str | None, str]:
    """`$share/<group>/<filter>` as (group, filter); (None, pattern) for a plain one."""
    if not pattern.startswith(_SHARE):
        return None, pattern
    share, _, inner = pattern[len(_SHARE) :].partition("/")
    return share, inner


class _Node(Generic[_V]):
    """One level of the tree: what is subscribed exactly here, and the levels below."""

    __slots__ = ("children", "entries")

    def __init__(self) -> None:
        self.children: dict[str, _Node[_V]] = {}
        self.entries: dict[Hashable, _V] = {}


class FilterTree(Generic[_V]):
    """Filters by level. Each holds one value for each key; matching costs a step for each level of the topic."""

    def __init__(self) -> None:
        self._root: _Node[_V] = _Node()

    def add(self, pattern: str, key: Hashable, value: _V) -> bool:
        """Put `value` under `key` at `pattern`; true where the key was not there before."""
        node = self._root
        for level in pattern.split("/"):
            node = node.children.setdefault(level, _Node())
        new = key not in node.entries
        node.entries[key] = value
        return new

    def remove(self, pattern: str, key: Hashable) -> None:
        """Take `key` out of `pattern` and prune what is left empty. `KeyError` where it is not there."""
        path: list[tuple[_Node[_V], str]] = []
        node = self._root
        for level in pattern.split("/"):
            path.append((node, level))
            node = node.children[level]
        del node.entries[key]
        for parent, level in reversed(path):
            child = parent.children[level]
            if child.entries or child.children:
                break
            del parent.children[level]

    def match(self, topic: str) -> list[_V]:
        """The values of every filter that `topic` matches.

        A wildcard in the first level does not match a topic that begins with `$`; `a/#` matches `a` as well.
        """
        found: list[_V] = []
        frontier = [self._root]
        wild = not topic.startswith("$")
        for level in topic.split("/"):
            following: list[_Node[_V]] = []
            for node in frontier:
                if wild:
                    _extend(found, node.children.get("#"))
                    _append(following, node.children.get("+"))
                _append(following, node.children.get(level))
            frontier, wild = following, True
        for node in frontier:
            found.extend(node.entries.values())
            _extend(found, node.children.get("#"))
        return found


def _extend(found: list[_V], node: _Node[_V] | None) -> None:
    if node is not None:
        found.extend(node.entries.values())


def _append(nodes: list[_Node[_V]], node: _Node[_V] | None) -> None:
    if node is not None:
        nodes.append(node)
