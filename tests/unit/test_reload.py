"""Real files in a temporary directory, watched through the operating system."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from router.domain.events import PolicySource
from router.policy.parse import PolicyErrors
from router.policy.policy import Policy
from router.runtime.reload import PolicyWatch, load_directory, read_directory

FLEET = """\
deployments:
  - {name: small, model: llama-3.1-8b, tier: small, backend: simulated}
prices:
  models: {llama-3.1-8b: {input: 0.22, output: 0.22}}
"""
PATIENCE_S = 60.0


def chat(deadline: str) -> str:
    return f"class: {{name: chat, deadline: {deadline}}}\n"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A sound policy directory."""
    root = tmp_path / "policies"
    (root / "classes").mkdir(parents=True)
    (root / "fleet.yaml").write_text(FLEET)
    (root / "classes" / "chat.yaml").write_text(chat("1s"))
    return root


class Recorder:
    """What the watch did, one thing after the other."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[Policy | tuple[str, ...]] = asyncio.Queue()
        self.fail_with: Exception | None = None
        self.source = PolicySource("")

    def apply(self, policy: Policy, source: PolicySource) -> None:
        if self.fail_with is not None:
            raise self.fail_with
        self.source = source
        self.told.put_nowait(policy)

    def reject(self, digest: str, problems: tuple[str, ...], source: PolicySource) -> None:
        assert len(digest) == 12
        self.source = source
        self.told.put_nowait(problems)

    async def deadline(self) -> float | None:
        """The deadline of the chat class in the next policy that is applied."""
        told = await asyncio.wait_for(self.told.get(), PATIENCE_S)
        assert isinstance(told, Policy), told
        return next(c.deadline_s for c in told.classes if c.name == "chat")

    async def until(self, deadline: float) -> None:
        """Wait for a policy with this deadline, past those of a save that was caught half-way."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                told = await self.told.get()
                if isinstance(told, Policy) and told.classes[0].deadline_s == deadline:
                    return

    async def problems(self) -> tuple[str, ...]:
        """The problems of the next edit that is rejected."""
        told = await asyncio.wait_for(self.told.get(), PATIENCE_S)
        assert isinstance(told, tuple), told
        return told


@asynccontextmanager
async def watching(directory: Path, *, recheck_ms: int = 60_000) -> AsyncIterator[Recorder]:
    """A watch over the directory that has proved to follow it; with the long recheck only events can tell it."""
    recorder = Recorder()
    watch = PolicyWatch(
        directory,
        current="another",
        apply=recorder.apply,
        reject=recorder.reject,
        quiet_ms=50,
        recheck_ms=recheck_ms,
    )
    await watch.start()
    try:
        assert await recorder.deadline() is not None
        yield recorder
    finally:
        await watch.stop(1.0)


def in_place(path: Path, text: str) -> None:
    path.write_text(text)


def by_rename(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.swp")
    fresh.write_text(text)
    fresh.replace(path)


def by_moving_away(path: Path, text: str) -> None:
    path.rename(path.with_name(f"{path.name}~"))
    path.write_text(text)


@pytest.mark.parametrize("save", [in_place, by_rename, by_moving_away])
async def test_an_edit_is_applied_however_the_editor_saves(directory: Path, save: Callable[[Path, str], None]) -> None:
    """Written in place, renamed over, or with the old file moved away first."""
    async with watching(directory) as recorder:
        save(directory / "classes" / "chat.yaml", chat("2s"))
        await recorder.until(2.0)
        save(directory / "classes" / "chat.yaml", chat("3s"))
        await recorder.until(3.0)


async def test_a_config_map_swap_is_applied(tmp_path: Path) -> None:
    """A mounted config map is links to `..data/FILE`, and `..data` is a link that is swapped by rename."""
    mount = tmp_path / "mount"
    mount.mkdir()

    def publish(version: str, deadline: str) -> None:
        (mount / version).mkdir()
        (mount / version / "fleet.yaml").write_text(FLEET)
        (mount / version / "chat.yaml").write_text(chat(deadline))
        (mount / "..data_tmp").symlink_to(version)
        (mount / "..data_tmp").replace(mount / "..data")

    publish("..2026_01", "1s")
    for name in ("fleet.yaml", "chat.yaml"):
        (mount / name).symlink_to(f"..data/{name}")
    async with watching(mount) as recorder:
        publish("..2026_02", "2s")
        assert await recorder.deadline() == 2.0
        publish("..2026_03", "3s")
        assert await recorder.deadline() == 3.0


async def test_a_swap_above_the_directory_is_found_by_looking_again(tmp_path: Path, directory: Path) -> None:
    """A directory that is a link to a release sends no event when the link moves; the recheck sees it."""
    other = tmp_path / "release-2"
    other.mkdir()
    (other / "all.yaml").write_text(FLEET + chat("9s"))
    current = tmp_path / "current"
    current.symlink_to(directory)
    async with watching(current, recheck_ms=50) as recorder:
        fresh = tmp_path / "current.new"
        fresh.symlink_to(other)
        fresh.replace(current)
        assert await recorder.deadline() == 9.0


async def test_a_bad_edit_is_rejected_with_its_place_and_the_next_good_one_applied(directory: Path) -> None:
    """The old policy stays: nothing is applied until the text is sound, and going back is applied again."""
    async with watching(directory) as recorder:
        by_rename(directory / "classes" / "chat.yaml", "class: {name: chat, deadlin: 2s}\n")
        (problem,) = await recorder.problems()
        assert problem.startswith(f"{directory}/classes/chat.yaml:1:21: class.deadlin: unknown field")
        by_rename(directory / "classes" / "chat.yaml", chat("1s"))
        assert await recorder.deadline() == 1.0


async def test_only_another_meaning_is_applied(directory: Path) -> None:
    """A comment, a touched file, an editor's leftovers and a foreign sub-directory change nothing."""
    async with watching(directory) as recorder:
        by_rename(directory / "fleet.yaml", "# said again\n" + FLEET)
        os.utime(directory / "fleet.yaml")
        (directory / ".#chat.yaml").symlink_to("someone@host")
        (directory / "classes" / "chat.yaml~").write_text("nonsense: [")
        (directory / "bench").mkdir()
        (directory / "bench" / "policy.yaml").write_text("nonsense: [")
        by_rename(directory / "classes" / "chat.yaml", chat("2s"))
        assert await recorder.deadline() == 2.0
        assert recorder.told.empty()


async def test_new_files_and_removed_files_count(directory: Path) -> None:
    """A class comes with its file and goes with it."""
    async with watching(directory) as recorder:
        by_rename(directory / "classes" / "code.yaml", "class: {name: code, match: {use_cases: code}}\n")
        told = await asyncio.wait_for(recorder.told.get(), PATIENCE_S)
        assert isinstance(told, Policy)
        assert [c.name for c in told.classes] == ["code", "chat"]
        (directory / "classes" / "code.yaml").unlink()
        assert await recorder.deadline() == 1.0


async def test_a_policy_that_cannot_be_applied_is_rejected(directory: Path) -> None:
    """An error on the way in is as visible as one in the text, and does not end the watch."""
    async with watching(directory) as recorder:
        recorder.fail_with = ValueError("no such backend")
        by_rename(directory / "classes" / "chat.yaml", chat("2s"))
        assert await recorder.problems() == ("could not be applied: no such backend",)
        recorder.fail_with = None
        by_rename(directory / "classes" / "chat.yaml", chat("3s"))
        assert await recorder.deadline() == 3.0


async def test_a_directory_that_goes_and_comes_back(tmp_path: Path, directory: Path) -> None:
    """While it is away the problem is told once; when it is back its policy is applied."""
    async with watching(directory, recheck_ms=50) as recorder:
        directory.rename(tmp_path / "away")
        assert "no *.yaml file here" in (await recorder.problems())[0]
        (tmp_path / "away").rename(directory)
        assert await recorder.deadline() == 1.0


async def test_what_changed_before_the_watch_began_is_found(directory: Path) -> None:
    """An edit between the reading at start and the watch is not lost; without one nothing is applied."""
    recorder = Recorder()
    current = load_directory(directory).digest
    watch = PolicyWatch(directory, current=current, apply=recorder.apply, reject=recorder.reject)
    await watch.look()
    assert recorder.told.empty()
    by_rename(directory / "classes" / "chat.yaml", chat("2s"))
    await watch.look()
    assert await recorder.deadline() == 2.0


def test_a_directory_is_its_files_and_those_of_classes_and_fleet(directory: Path) -> None:
    """`*.yaml` and `*.yml` in reading order; other sub-directories, hidden files and leftovers are not read."""
    (directory / "fleet").mkdir()
    (directory / "fleet" / "more.yml").write_text("# more\n")
    (directory / "bench").mkdir()
    (directory / "bench" / "policy.yaml").write_text("nonsense: [")
    (directory / ".hidden.yaml").write_text("nonsense: [")
    (directory / "notes.txt").write_text("nonsense: [")
    names = [str(Path(name).relative_to(directory)) for name, _ in read_directory(directory)]
    assert names == ["classes/chat.yaml", "fleet.yaml", "fleet/more.yml"]
    assert load_directory(directory).classes[0].deadline_s == 1.0


def test_a_directory_that_goes_while_it_is_looked_at_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the question whether there is one and its list, as when a release is swapped."""
    monkeypatch.setattr(Path, "is_dir", lambda path: True)
    with pytest.raises(PolicyErrors, match=r"no \*\.yaml file here"):
        load_directory(tmp_path / "gone")


async def test_a_directory_that_may_not_be_listed_is_told_and_does_not_end_the_watch(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read again as soon as it can be."""

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    recorder = Recorder()
    watch = PolicyWatch(directory, current="another", apply=recorder.apply, reject=recorder.reject)
    with monkeypatch.context() as meddled:
        meddled.setattr(Path, "iterdir", refuse)
        await watch.look()
    assert await recorder.problems() == (f"{directory}:1:1: cannot be read: Permission denied",)
    await watch.look()
    assert await recorder.deadline() == 1.0


def test_what_cannot_be_read_is_told(directory: Path, tmp_path: Path) -> None:
    """Bytes that are no text, and a directory that holds nothing."""
    (directory / "classes" / "chat.yaml").write_bytes(b"class: \xff\n")
    with pytest.raises(PolicyErrors, match=r"chat\.yaml:1:1: not UTF-8"):
        load_directory(directory)
    with pytest.raises(PolicyErrors, match=r"no \*\.yaml file here"):
        load_directory(tmp_path / "nowhere")
