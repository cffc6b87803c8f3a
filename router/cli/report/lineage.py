"""The section on where a page comes from: command, artefact, what it was fitted on and how it did there."""

from __future__ import annotations

from collections.abc import Sequence

from router.cli.report.markup import Html, facts, fold, shown, table, tag
from router.complexity.artefact import File, Lineage


def provenance(told: Sequence[tuple[str, str]], lineage: Lineage, digest: str, files: Sequence[File]) -> Html:
    """`told` comes first; `files` are the outcomes that were looked at."""
    versions = ", ".join(f"{name} {version}" for name, version in sorted(lineage.versions.items()))
    known = [
        *told,
        ("Artefact", tag("code", digest)),
        ("Fitted with", f"seed {lineage.seed}, {lineage.folds} folds{', ' if versions else ''}{versions}"),
    ]
    parts = [tag("h2", "Where this comes from"), facts(known)]
    heads = ("file", "prompts", "sha256")
    looked = [[file.name, str(file.rows), tag("code", file.sha256)] for file in files]
    parts.append(table("Outcomes on this page", heads, looked))
    fitted = [[file.name, str(file.rows), tag("code", file.sha256)] for file in lineage.files]
    parts.append(table("Outcomes that the artefact was fitted on", heads, fitted))
    said = "Whether a file was learned from is told by its digest: a part, or another order, of it is not recognised."
    parts.append(tag("p", said, class_="note"))
    if lineage.calibration:
        names = ("model", "rows", "adequate", "AUC", "Brier", "ECE")
        rows = [
            [c.subject, str(c.rows), shown(c.adequate_ratio), shown(c.auc), shown(c.brier, ".4f"), shown(c.ece, ".4f")]
            for c in lineage.calibration
        ]
        said = f"How it did out of fold when it was fitted: {len(rows)} heads"
        parts.append(fold(said, table("Out of fold", names, rows)))
    return tag("section", *parts)
