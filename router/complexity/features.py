"""Structural figures of a prompt, from one scan: size, characters, words, lexicon, choices, cues, conversation.

Everything is a plain float; shares are of bytes or words scanned; counts are log(1 + n). The order of `NAMES` is part
of the model. What a feature claims is tested in tests/unit/test_complexity_features.py.
"""

from __future__ import annotations

from functools import lru_cache
from math import log, log1p
from typing import Final

import numpy as np
from numpy.typing import NDArray

from router.complexity.hashing import SLOTS, Ids, Scan, scan
from router.complexity.lexicon import ACTIONS, CATEGORIES, actions, counts, rows_of
from router.domain.request import Prompt

FEATURES_VERSION: Final = 1

_CLASSES: Final = {
    "digit": "0123456789",
    "upper": "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "lower": "abcdefghijklmnopqrstuvwxyz",
    "newline": "\n",
    "space": " \t\r",
    "operator": "=+*^<>/|~%",
    "bracket": "(){}[];_`#&@",
    "formula": "$\\",
    "stop": ".!",
    "comma": ",",
    "question": "?",
    "quote": "\"'",
    "colon": ":",
    "dash": "-",
}
_LEADS: Final = {"latin": (0xC2, 0xCC), "greek_cyrillic": (0xCC, 0xD6), "semitic": (0xD6, 0xE0), "cjk": (0xE0, 0xF0)}
"""Scripts by the first byte of a UTF-8 sequence."""
_CHAR_NAMES: Final = (*_CLASSES, *_LEADS, "other")
_SIZE: Final = ("log_chars", "log_words", "log_lines", "log_sentences", "log_questions")
_WORDS: Final = (
    "word_length",
    "short_words",
    "long_words",
    "very_long_words",
    "unique_words",
    "capitalised",
    "numbers",
    "log_numbers",
    "longest_number",
)
_CHOICES: Final = (
    "choices",
    "choice_chars",
    "log_choice_chars",
    "choice_spread",
    "choice_growth",
    "last_choice",
    "choice_zone",
    "choice_digits",
    "log_stem_chars",
    "choice_capitals",
    "choice_word_length",
    "stem_word_length",
    "stem_overlap",
    "choice_repeats",
)
_CUES: Final = (b"of the following", b"of the above", b"__", b"```")
_OPENINGS: Final = ("which", "what", "how", "why", "who", "when", "if", "a", "the", "in")
_ENDINGS: Final = ("?", ":", ".")
_TALK: Final = ("log_turns", "log_system_chars", "log_earlier_chars", "log_tools", "log_images", "json_output")
_SCALARS: Final[tuple[str, ...]] = (
    *_SIZE,
    *_WORDS,
    *_CHOICES,
    *(f"says_{cue.decode().strip().replace(' ', '_')}" for cue in _CUES),
    *(f"opens_{word}" for word in _OPENINGS),
    *(f"stem_ends_{end}" for end in _ENDINGS),
    *_TALK,
)
_CHARS_AT: Final = len(_SCALARS)
_LEXICON_AT: Final = _CHARS_AT + len(_CHAR_NAMES)
_COUNTS_AT: Final = _LEXICON_AT + len(CATEGORIES)
_ACTIONS_AT: Final = _COUNTS_AT + len(CATEGORIES)
NAMES: Final[tuple[str, ...]] = (
    *_SCALARS,
    *(f"chars_{name}" for name in _CHAR_NAMES),
    *(f"share_{name}" for name in CATEGORIES),
    *(f"count_{name}" for name in CATEGORIES),
    *(f"asks_{name}" for name in ACTIONS),
)
POSITION: Final = {name: index for index, name in enumerate(NAMES)}

Row = NDArray[np.float64]


def _class_table() -> bytes:
    table = bytearray([len(_CHAR_NAMES) - 1]) * 256
    for index, chars in enumerate(_CLASSES.values()):
        for char in chars.encode():
            table[char] = index
    for index, (low, high) in enumerate(_LEADS.values(), start=len(_CLASSES)):
        table[low:high] = bytes([index]) * (high - low)
    return bytes(table)


_CLASS: Final = _class_table()
_DIGIT: Final = np.array([48 <= code < 58 for code in range(256)])
_CAPITAL: Final = np.array([65 <= code < 91 for code in range(256)])
_LABEL: Final = b"ABCDEFGHIJabcdefghij123456789"
_BEFORE_LABEL: Final = b"(\n"
_AFTER_LABEL: Final = b").:"
_COUNTED: Final = [_CHAR_NAMES.index(name) for name in ("newline", "stop", "question")]
_LONGEST: Final = 16
_DISTINCT_SHIFT: Final = 2
"""Distinct words are counted in a table of SLOTS / 4: 2 % of 500 words share a place."""
_LENGTH_TABLE: Final = np.array(
    [[n, n <= 3, n >= 8, n >= 11] for n in range(_LONGEST + 1)], np.float64
)  # columns: mean, short, long, very long


def measure(prompt: Prompt, scanned: Scan) -> Row:
    """The features of a prompt whose `last_user` was scanned, shape (len(NAMES),)."""
    size, words = len(scanned.raw), len(scanned.words)
    chars = np.bincount(np.frombuffer(scanned.raw.translate(_CLASS), np.uint8), minlength=len(_CHAR_NAMES))
    rows = rows_of(scanned)
    lexicon = counts(rows)
    lengths = scanned.ends - scanned.starts
    labels = _choice_labels(scanned, lengths)
    stem_end = int(scanned.starts[labels[0]]) if labels else size
    row = np.empty(len(NAMES))
    row[:_CHARS_AT] = (
        log1p(len(prompt.last_user)),
        log1p(words),
        *map(log1p, chars[_COUNTED].tolist()),
        *_words_and_choices(scanned, labels, lengths),
        *[cue[:1] in scanned.folded and cue in scanned.folded for cue in _CUES],
        *_edges(scanned, stem_end),
        *_talk(prompt),
    )
    np.divide(chars, size, out=row[_CHARS_AT:_LEXICON_AT])
    np.divide(lexicon, max(words, 1), out=row[_LEXICON_AT:_COUNTS_AT])
    np.log1p(lexicon, out=row[_COUNTS_AT:_ACTIONS_AT])
    row[_ACTIONS_AT:] = actions(rows)
    return row


def _choice_labels(scanned: Scan, lengths: Ids) -> list[int]:
    """Which words label choices: `A.`, `(b)`, `3)` at the start of a line or after an opening bracket; two or more."""
    single = np.flatnonzero(lengths == 1)
    raw, found = scanned.raw, []
    for word, at in zip(single.tolist(), scanned.starts[single].tolist(), strict=True):
        if raw[at - 1] in _BEFORE_LABEL and raw[at + 1] in _AFTER_LABEL and raw[at] in _LABEL:
            found.append(word)
    return found if len(found) >= 2 else []


def _words_and_choices(scanned: Scan, labels: list[int], lengths: Ids) -> tuple[float, ...]:
    """The figures of `_WORDS`, then those of `_CHOICES`."""
    words = len(lengths)
    stem = labels[0] if labels else words
    first = np.frombuffer(scanned.raw, np.uint8)[scanned.starts]
    capital, number = _CAPITAL[first], _DIGIT[first]
    slots, seen = scanned.slots >> _DISTINCT_SHIFT, np.zeros(SLOTS >> _DISTINCT_SHIFT, np.bool_)
    seen[slots[stem:]] = True
    distinct = np.count_nonzero(seen)
    overlap = np.count_nonzero(seen[slots[:stem]])
    seen[slots[:stem]] = True
    table = np.bincount(np.minimum(lengths, _LONGEST), minlength=_LONGEST + 1) @ _LENGTH_TABLE
    numbers, each = np.count_nonzero(number), max(words, 1)
    stem_letters = float(np.add.reduce(lengths[:stem]))
    return (
        *(table / each).tolist(),
        np.count_nonzero(seen) / each,
        np.count_nonzero(capital) / each,
        numbers / each,
        log1p(numbers),
        log1p(int(lengths[number].max())) if numbers else 0.0,
        *_choice_shape(scanned, labels),
        np.count_nonzero(capital[stem:]) / max(words - stem, 1),
        (float(np.add.reduce(lengths)) - stem_letters) / max(words - stem, 1),
        stem_letters / max(stem, 1),
        overlap / max(stem, 1),
        1.0 - distinct / max(words - stem, 1),
    )


def _choice_shape(scanned: Scan, labels: list[int]) -> tuple[float, ...]:
    size = len(scanned.raw)
    if not labels:
        return (*(0.0,) * 8, log1p(size))
    starts = scanned.starts[labels].tolist()
    begin = starts[0]
    chars = [end - start for start, end in zip(starts, [*starts[1:], size], strict=True)]
    mean = (size - begin) / len(chars)
    return (
        float(len(chars)),
        mean,
        log1p(mean),
        log(max(chars) / min(chars)),
        (chars[-1] - chars[0]) / len(chars),
        chars[-1] / mean,
        (size - begin) / size,
        scanned.folded.count(b"0", begin) / (size - begin),
        log1p(begin),
    )


def _edges(scanned: Scan, stem_end: int) -> tuple[float, ...]:
    """How the text opens, and how its stem (what comes before the choices) ends."""
    head = scanned.folded[:32].split(maxsplit=1)
    opening = head[0].decode("utf-8", "replace") if head else ""
    ending = scanned.raw[max(0, stem_end - 64) : stem_end].rstrip(b" \n\t(")[-1:].decode("ascii", "replace")
    return (*(float(opening == word) for word in _OPENINGS), *(float(ending == end) for end in _ENDINGS))


def _talk(prompt: Prompt) -> tuple[float, ...]:
    earlier = max(prompt.chars - len(prompt.last_user) - len(prompt.system), 0)
    return (
        log1p(prompt.turns),
        log1p(len(prompt.system)),
        log1p(earlier),
        log1p(prompt.tools),
        log1p(prompt.images),
        float(prompt.json_output),
    )


USE_CASES: Final = (
    "extraction",
    "classification",
    "summarization",
    "creative",
    "code",
    "chat",
    "math",
    "qa",
    "translation",
)
_ASKED: Final = {
    "translate": "translation",
    "summarize": "summarization",
    "classify": "classification",
    "extract": "extraction",
    "create": "creative",
}
_SYSTEM_CHARS: Final = 600
_SMALL_TALK: Final = log1p(16)
_QUESTIONS: Final = ("log_questions", "choices", "count_wh", "count_reasoning", "says___")
_GREETINGS: Final = ("hi", "hello", "hey", "thanks", "thank", "ok", "okay", "yes", "sorry", "good")


@lru_cache(maxsize=256)
def _system_asks(text: str) -> dict[str, float]:
    """What the head of a system prompt asks for; the same few come with most requests."""
    return dict(zip(ACTIONS, actions(rows_of(scan(text))).tolist(), strict=True))


def use_case(prompt: Prompt, row: Row | None = None) -> str:
    """Which of `USE_CASES` a prompt is, by rules on its features: what is asked for first, then what it is made of.

    `row` saves measuring again. A system prompt is read only where the user's words ask for nothing.
    """
    if row is None:
        row = measure(prompt, scan(prompt.last_user))
    asked = dict(zip(ACTIONS, row[_ACTIONS_AT:].tolist(), strict=True))
    if prompt.system and not any(asked.values()):
        asked = _system_asks(prompt.system[:_SYSTEM_CHARS])
    if not row[POSITION["choices"]]:
        for action, name in _ASKED.items():
            if asked[action]:
                return name
    return _made_of(prompt, row, bool(asked["write"]))


def _made_of(prompt: Prompt, row: Row, writes: bool) -> str:
    at = POSITION
    code, brackets = row[at["count_code"]], row[at["chars_bracket"]] > 0.02
    if row[at["says_```"]] or row[at["share_code"]] > 0.1 or (code and writes) or (code > 1.0 and brackets):
        return "code"
    numbers, operators = row[at["log_numbers"]], row[at["chars_operator"]]
    if row[at["chars_formula"]] > 0.01 or (row[at["share_mathematics"]] > 0.06 and (numbers or operators)):
        return "math"
    if numbers and (operators > 0.05 or (numbers > 1.0 < row[at["count_quantity"]] and row[at["log_chars"]] < 7.0)):
        return "math"
    greets = prompt.last_user[:16].lower().lstrip().startswith(_GREETINGS)
    if greets and row[at["log_words"]] < _SMALL_TALK:
        return "chat"
    if writes:
        return "creative"
    asks = any(row[at[name]] for name in _QUESTIONS)
    return "qa" if asks else "chat"
