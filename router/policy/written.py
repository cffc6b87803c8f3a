"""Everything that stands in a set of documents, each thing with its place; nothing is compiled or compared yet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from msgspec import Struct

from router.domain.errors import PolicyError
from router.policy.openslo import Slos, is_openslo, read_openslo
from router.policy.parse import Path, PolicyErrors, Source, Tree, compose, read_source
from router.policy.schema.classes import ClassSpec, ClassTerms

Documents = Sequence[tuple[str, str]]
"""(file name, text) pairs."""


class WrittenClass(NamedTuple):
    """One class and where it stands."""

    source: Source
    path: Path
    spec: ClassSpec


class WrittenTerms(NamedTuple):
    """What is said of a class, by itself or by the defaults, and where it stands."""

    source: Source
    path: Path
    terms: ClassTerms


class Written(Struct, frozen=True):
    """The router's own documents in order of file name, their classes by file and position, and the OpenSLO objects
    beside them."""

    sources: tuple[Source, ...]
    classes: tuple[WrittenClass, ...]
    slos: Slos = Slos()

    def terms(self) -> Iterator[WrittenTerms]:
        """The defaults, then each class."""
        yield from (self._defaults(s, s.document.defaults) for s in self.sources if s.document.defaults is not None)
        yield from (WrittenTerms(*written) for written in self.classes)

    @staticmethod
    def _defaults(source: Source, terms: ClassTerms) -> WrittenTerms:
        return WrittenTerms(source, ("defaults",), terms)


def read(documents: Documents) -> Written:
    """What the documents hold; raises `PolicyErrors` where one cannot be read, or says what nobody knows."""
    sources: list[Source] = []
    openslo: dict[str, list[Tree]] = {}
    problems: list[PolicyError] = []
    for file, text in sorted(documents):
        try:
            trees = compose(file, text)
        except PolicyError as error:
            problems.append(error)
            continue
        if is_openslo(trees):
            openslo[file] = trees
            continue
        source, found = read_source(file, trees)
        problems += found
        if source is not None:
            sources.append(source)
    slos, found_slos = read_openslo(openslo)
    problems += found_slos
    if problems:
        raise PolicyErrors(sorted(problems, key=lambda p: (p.file, p.line, p.column)))
    return Written(tuple(sources), tuple(_classes(sources)), slos)


def _classes(sources: Sequence[Source]) -> Iterator[WrittenClass]:
    for source in sources:
        if source.document.one_class is not None:
            yield WrittenClass(source, ("class",), source.document.one_class)
        yield from (WrittenClass(source, ("classes", i), s) for i, s in enumerate(source.document.classes))
