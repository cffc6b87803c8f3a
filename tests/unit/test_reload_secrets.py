"""Keys and certificate authorities in files: a change counts as an edit, what they hold is told to nobody."""

from __future__ import annotations

import asyncio
from pathlib import Path

import botocore
import pytest

from router.domain.events import PolicySource
from router.policy.parse import PolicyErrors
from router.policy.policy import Policy
from router.runtime.reload import PolicyWatch, load_directory, load_to_serve
from router.runtime.reload import watch as watching
from router.runtime.reload.secret_files import look_at_secrets, refreshed

AUTHORITIES = (Path(botocore.__file__).parent / "cacert.pem").read_bytes()
PATIENCE_S = 60.0
Told = tuple[Policy | tuple[str, ...], PolicySource]


class Witness:
    """What a watch did, in order."""

    def __init__(self) -> None:
        self.all: list[Told] = []
        self.news = asyncio.Event()

    def apply(self, policy: Policy, source: PolicySource) -> None:
        self.all.append((policy, source))
        self.news.set()

    def reject(self, digest: str, problems: tuple[str, ...], source: PolicySource) -> None:
        self.all.append((problems, source))
        self.news.set()

    async def next(self) -> Told:
        async with asyncio.timeout(PATIENCE_S):
            while not self.all:
                self.news.clear()
                await self.news.wait()
        return self.all.pop(0)

    def problems(self) -> tuple[str, ...]:
        """Of the only thing told since the last time."""
        ((told, _),) = self.all
        self.all.clear()
        assert isinstance(told, tuple)
        return told

    def changed(self) -> tuple[str, ...]:
        """The files behind the only thing told since the last time, which is a policy."""
        ((told, source),) = self.all
        self.all.clear()
        assert isinstance(told, Policy)
        return source.changed


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "secrets" / "key"
    path.parent.mkdir()
    path.write_text("sk-first\n")
    return path


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    path.write_bytes(AUTHORITIES)
    return path


@pytest.fixture
def directory(tmp_path: Path, key: Path, authority: Path) -> Path:
    """One deployment with both files, and a class in a file of its own."""
    root = tmp_path / "policies"
    (root / "classes").mkdir(parents=True)
    (root / "fleet.yaml").write_text(
        "deployments:\n"
        "  - name: far\n"
        "    model: llama-3.1-8b\n"
        "    tier: small\n"
        "    backend: openai_http\n"
        "    url: https://models.example/v1\n"
        f"    api_key_file: {key}\n"
        f"    ca_file: {authority}\n"
        "    price_usd_per_mtok: {input: 1, output: 2}\n"
    )
    (root / "classes" / "chat.yaml").write_text("class: {name: chat, deadline: 1s}\n")
    return root


def watch(directory: Path, told: Witness, *, recheck_ms: int = 60_000) -> PolicyWatch:
    """Over the policy as it stands, which is in force."""
    policy = load_directory(directory)
    return PolicyWatch(
        directory,
        current=policy.digest,
        apply=told.apply,
        reject=told.reject,
        secrets=look_at_secrets(policy.deployments).prints,
        recheck_ms=recheck_ms,
    )


async def test_a_rotated_file_is_taken_up_under_the_same_policy(directory: Path, key: Path, authority: Path) -> None:
    """The policy means the same, so its digest stays; the source names the file, once, and only that one."""
    told = Witness()
    watched = watch(directory, told)
    await watched.look()
    assert told.all == []
    key.write_text("sk-second")
    await watched.look()
    ((policy, source),) = told.all
    assert isinstance(policy, Policy)
    assert (policy.digest, source.changed) == (load_directory(directory).digest, (str(key),))
    assert refreshed(policy.deployments, source.changed) == (
        f"deployment far: api_key_file {key} holds something else",
    )
    told.all.clear()
    await watched.look()
    assert told.all == []
    authority.write_bytes(b"# fewer\n" + AUTHORITIES)
    await watched.look()
    assert told.changed() == (str(authority),)


async def test_a_file_that_changed_before_the_first_look_counts(directory: Path, key: Path) -> None:
    """What a backend may have read between the start and the first look is read again."""
    told = Witness()
    watched = watch(directory, told)
    key.write_text("sk-second")
    await watched.look()
    assert told.changed() == (str(key),)


async def test_a_mounted_secret_that_is_swapped_is_found(tmp_path: Path, directory: Path, key: Path) -> None:
    """A mounted secret is a link to `..data/FILE`, and `..data` is a link swapped by rename; no event tells of it."""
    mount, told = key.parent, Witness()

    def publish(version: str, text: str) -> None:
        (mount / version).mkdir()
        (mount / version / "key").write_text(text)
        (mount / "..data_tmp").symlink_to(version)
        (mount / "..data_tmp").replace(mount / "..data")

    key.unlink()
    publish("..2026_01", "sk-first")
    key.symlink_to("..data/key")
    watched = watch(directory, told, recheck_ms=50)
    await watched.start()
    try:
        for version in ("..2026_02", "..2026_03"):
            publish(version, f"sk-of-{version}")
            policy, source = await told.next()
            assert isinstance(policy, Policy)
            assert source.changed == (str(key),)
    finally:
        await watched.stop(1.0)


async def test_a_missing_file_is_refused_at_its_field_until_it_is_there(directory: Path, key: Path) -> None:
    """The old policy stays; when the file comes, the same text is taken up."""
    told = Witness()
    watched = watch(directory, told)
    await watched.look()
    key.unlink()
    await watched.look()
    (problem,) = told.problems()
    assert problem.startswith(
        f"{directory}/fleet.yaml:7:19: deployments[0].api_key_file: the file {key} cannot be read"
    )
    await watched.look()
    assert told.all == []
    key.write_text("sk-first\n")
    await watched.look()
    assert told.changed() == ()


@pytest.mark.parametrize(
    ("held", "problem"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("hush-hush two", "does not hold a key alone"),
        ("hush-hush\nX-Injected: 1", "does not hold a key alone"),
        ("hush-hush\x00", "does not hold a key alone"),
        ("hush-hüsh", "does not hold a key alone"),
    ],
)
async def test_a_file_that_holds_no_key_is_refused_without_saying_what_it_holds(
    directory: Path, key: Path, held: str, problem: str
) -> None:
    """What would go wrong at every call is told when it is written."""
    told = Witness()
    watched = watch(directory, told)
    key.write_text(held, "utf-8")
    await watched.look()
    (said,) = told.problems()
    assert problem in said
    assert "hush" not in said


async def test_an_authority_that_is_none_is_refused(directory: Path, authority: Path) -> None:
    """A file without a certificate would fail every call."""
    told = Witness()
    watched = watch(directory, told)
    authority.write_text("-----BEGIN NOTHING-----\n")
    await watched.look()
    (said,) = told.problems()
    assert "deployments[0].ca_file" in said
    assert "holds no certificate authority" in said


async def test_the_source_names_what_differs_from_the_text_in_force(directory: Path) -> None:
    """Names are relative to the directory; a refused edit and the one that repairs it are told against the same text;
    a comment is no change of meaning and is not held against the next edit."""
    told = Witness()
    watched = watch(directory, told)
    await watched.look()
    chat, fleet = directory / "classes" / "chat.yaml", directory / "fleet.yaml"
    fleet.write_text("# a comment\n" + fleet.read_text())
    await watched.look()
    assert told.all == []
    chat.write_text("class: {name: chat, deadlin: 2s}\n")
    await watched.look()
    ((_, source),) = told.all
    assert source.changed == ("classes/chat.yaml",)
    told.all.clear()
    chat.unlink()
    (directory / "classes" / "talk.yaml").write_text("class: {name: talk}\n")
    await watched.look()
    assert told.changed() == ("classes/chat.yaml", "classes/talk.yaml")


async def test_an_error_of_the_router_itself_is_a_refusal(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that breaks the compiler neither ends the watch nor passes unseen."""
    told = Witness()
    watched = watch(directory, told)
    await watched.look()

    def broken(documents: object, *, price_files: object) -> Policy:
        raise KeyError("oh")

    monkeypatch.setattr(watching, "compile_policy", broken)
    (directory / "classes" / "chat.yaml").write_text("class: {name: chat, deadline: 2s}\n")
    await watched.look()
    assert told.problems() == ("the router itself fails on this text: KeyError: 'oh'",)
    monkeypatch.undo()
    (directory / "classes" / "chat.yaml").write_text("class: {name: chat, deadline: 3s}\n")
    await watched.look()
    assert told.changed() == ("classes/chat.yaml",)


def test_a_daemon_does_not_start_without_its_keys(directory: Path, key: Path) -> None:
    """A check elsewhere may do without the files, the daemon may not."""
    assert load_to_serve(directory) == load_directory(directory)
    key.unlink()
    load_directory(directory)
    with pytest.raises(PolicyErrors, match=r"fleet\.yaml:7:19: deployments\[0\]\.api_key_file"):
        load_to_serve(directory)


def test_two_ways_to_name_one_key_are_refused(directory: Path) -> None:
    """Which of them holds would be a guess."""
    fleet = directory / "fleet.yaml"
    fleet.write_text(fleet.read_text() + "    api_key_env: KEY\n")
    with pytest.raises(PolicyErrors, match="both name a key"):
        load_directory(directory)
