"""A load test as JSON, and as lines for the policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from router.cli.profile.told import Told
from router.domain.errors import RouterError

FOLDER = "profiles"
"""In the state directory."""


def policy_lines(told: Told) -> str | None:
    """YAML that a deployment of the policy takes as its latency prior; `None` where nothing was learned."""
    if told.batch is not None:
        batch, off, rows = told.batch.batch, told.batch.off_ratio, f"{told.batch.rows} batches"
        figures = {"base": batch.base_s, "per_item": batch.per_item_s}
        field = "batch_ms"
    elif told.step is not None:
        step, off, rows = told.step.step, told.step.off_ratio, f"{told.answers} answers"
        figures = {
            "base": step.base_s,
            "per_sequence": step.per_sequence_s,
            "per_context_token": step.per_context_token_s,
            "per_prefill_token": step.per_prefill_token_s,
            "first": step.first_s,
        }
        field = "step_ms"
    else:
        return None
    levels = f"concurrency {told.levels[0].concurrency} to {told.levels[-1].concurrency}"
    inside = ", ".join(f"{name}: {_figure(seconds * 1e3)}" for name, seconds in figures.items())
    lines = [f"# {told.deployment.name}, measured {told.asking.date}: {rows}, {levels}; half are within {off:.1%}"]
    return "\n".join([*lines, f"{field}: {{{inside}}}"])


def _figure(milliseconds: float) -> str:
    """Four digits, never as a power of ten."""
    if milliseconds == 0.0:
        return "0"
    return f"{float(f'{milliseconds:.4g}'):.12f}".rstrip("0").rstrip(".")


def record(told: Told) -> dict[str, Any]:
    """Everything but the deployment's secrets and addresses."""
    deployment = told.deployment
    return {
        "deployment": deployment.name,
        "model": deployment.model,
        "backend": deployment.address.backend,
        "kind": deployment.kind,
        "date": told.asking.date,
        "command": told.asking.command,
        "prompts": told.asking.prompts,
        "levels": msgspec.to_builtins(told.levels),
        "knee": msgspec.to_builtins(told.knee),
        "step": msgspec.to_builtins(told.step),
        "batch": msgspec.to_builtins(told.batch),
        "problems": dict(told.problems),
        "spent": msgspec.to_builtins(told.spent),
        "notes": list(told.notes),
        "policy": policy_lines(told),
    }


def store(told: Told, state_dir: Path) -> Path:
    """Keep the figures and the lines under the name of the deployment; gives the file of figures."""
    folder = state_dir / FOLDER
    path = folder / f"{told.deployment.name}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(record(told)), indent=2) + b"\n")
        lines = policy_lines(told)
        if lines is not None:
            path.with_suffix(".yaml").write_text(lines + "\n", encoding="utf-8")
    except OSError as error:
        raise RouterError(f"{path}: {error.strerror}") from None
    return path
