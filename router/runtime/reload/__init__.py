"""Where do policies come from, and when does an edit count?

A policy directory holds `*.yaml` (or `*.yml`) files in itself and in its sub-directories `classes` and `fleet`;
other sub-directories are other people's (such as `policies/bench`), and hidden files belong to editors. A change
counts when the text differs, not when a file event came: so saving by rename, the symlink swap of a mounted
config map, and touching a file all end in the one question, is this another text? The directory is looked at
again every few seconds besides, for file systems that send no events, for swaps above the directory, and for the files
outside it that the policy refers to: a key or a certificate authority that changes is taken up as an edit is.

`reading` gets the text, `secret_files` looks at what it refers to, `source` asks git who wrote it, `watch` decides;
`gate` asks the decision log about what may not begin before that speaks for it.
"""

from __future__ import annotations

from router.runtime.reload.reading import load_directory, load_to_serve, read_directory
from router.runtime.reload.watch import PolicyWatch

__all__ = ["PolicyWatch", "load_directory", "load_to_serve", "read_directory"]
