"""A policy directory that is edited as people, editors and clusters edit it, good and bad."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

from router.runtime.reload import load_directory

FLEET = """\
deployments:
  - name: far
    model: bench
    tier: small
    backend: openai_http
    url: {url}
    target: m-{k}
    api_key_file: {key}
    replicas: 1
    price_usd_per_mtok: {{input: 0.1, output: 0.1}}
    max_in_flight: 1024
"""
CLASS = (
    "class: {{name: {name}, match: {{classes: {name}}}, deadline: 1m, "
    "parameters: {{max_tokens: {tokens}, temperature: {temperature}}}}}\n"
)
BROKEN = (
    lambda text: text.replace("parameters", "parametres"),
    lambda text: text.replace("deadline: 1m", "deadline: soon"),
    lambda text: text[: len(text) // 2],
    lambda text: text.replace("max_tokens:", "max_tokens: [1,"),
)


class State(NamedTuple):
    """The numbers that one snapshot holds."""

    k: int
    j: int


class Directory:
    """A policy directory as a cluster mounts it: two files of a config map, and a plain one beside it."""

    def __init__(self, folder: Path, url: str, rng: Random) -> None:
        self.path, self._secret, self._url, self._rng = folder / "policies", folder / "secret", url, rng
        self._versions = 0
        self.state = State(0, 0)
        self.digests: dict[str, State] = {}
        self.keys: list[str] = []
        self.path.mkdir()
        self._secret.mkdir()
        self.rotate()
        (self._secret / "key").symlink_to("..data/key")
        self.swap()
        for name in ("fleet.yaml", "chat.yaml"):
            (self.path / name).symlink_to(f"..data/{name}")
        self.in_place()

    def rotate(self) -> None:
        """Another key in the mounted secret."""
        self.keys.append(f"key-{len(self.keys)}")
        self._publish(self._secret, {"key": self.keys[-1]})

    def swap(self, *, broken: bool = False) -> None:
        """Fleet and chat class together, by the swap of a link; a mistake is in either."""
        k = self.state.k + (not broken)
        fleet = FLEET.format(url=self._url, key=self._secret / "key", k=k)
        chat = _class("chat", k)
        if broken:
            chat = self._break(chat)
        self._publish(self.path, {"fleet.yaml": fleet, "chat.yaml": chat})
        self._edited(State(k, self.state.j), broken)

    def in_place(self, *, broken: bool = False) -> None:
        """The code class, written over."""
        j = self.state.j + (not broken)
        (self.path / "code.yaml").write_text(self._code(j, broken))
        self._edited(State(self.state.k, j), broken)

    def rename(self, *, broken: bool = False) -> None:
        """The code class, written beside and renamed."""
        j = self.state.j + (not broken)
        fresh = self.path / ".code.yaml.swp"
        fresh.write_text(self._code(j, broken))
        fresh.replace(self.path / "code.yaml")
        self._edited(State(self.state.k, j), broken)

    def edits(self, count: int) -> Iterator[bool]:
        """That many edits, one at each step: a mistake every third time, repaired by the next; the last is good. Says
        which are."""
        ways = (self.swap, self.in_place, self.rename)
        way = self.swap
        for number in range(count):
            if number % 3 != 2:
                way = self._rng.choice(ways)
            broken = number % 3 == 1 and number + 1 < count
            way(broken=broken)
            if number % 10 == 9:
                self.rotate()
            yield not broken

    def _code(self, j: int, broken: bool) -> str:
        text = _class("code", j)
        return self._break(text) if broken else text

    def _break(self, text: str) -> str:
        return self._rng.choice(BROKEN)(text)

    def _publish(self, mount: Path, files: dict[str, str]) -> None:
        """As the kubelet does: a new folder, a link beside, a rename over the old link, and the old folder goes."""
        self._versions += 1
        old = (mount / "..data").resolve() if (mount / "..data").exists() else None
        fresh = mount / f"..version-{self._versions}"
        fresh.mkdir()
        for name, text in files.items():
            (fresh / name).write_text(text)
        (mount / "..data_tmp").symlink_to(fresh.name)
        (mount / "..data_tmp").replace(mount / "..data")
        if old is not None:
            for file in old.iterdir():
                file.unlink()
            old.rmdir()

    def _edited(self, state: State, broken: bool) -> None:
        if not broken:
            self.state = state
            if state.k and state.j:
                self.digests[load_directory(self.path).digest] = state


def _class(name: str, number: int) -> str:
    return CLASS.format(name=name, tokens=1000 + number, temperature=number / 1000)
