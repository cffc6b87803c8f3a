"""What do we talk about? The frozen nouns every other package shares.

Values are frozen `msgspec.Struct`s: building one costs a tenth of a frozen dataclass, and the decision log
encodes them as they are. Unknown is `None`, never -1. Units are in the names: `_s`, `_tokens`, `_usd`, `_ratio`.
`now` is monotonic seconds, `at` is wall seconds since the epoch.
"""
