"""`router policy schema`: what may stand in a policy document, for editors."""

from __future__ import annotations

import json

import typer

from router.policy.schema.json import json_schema


def schema() -> None:
    """Print the JSON Schema of policy documents, for editors that complete and underline.

    An editor with the YAML language server takes it up from the first line of a document, as the shipped ones have it:

    `# yaml-language-server: $schema=schema.json`

    Example: `router policy schema > policies/schema.json`
    """
    typer.echo(json.dumps(json_schema(), indent=2))
