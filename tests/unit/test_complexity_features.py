"""What the structural features and hashed n-grams claim."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.complexity import hashing
from router.complexity.features import NAMES, POSITION, USE_CASES, measure, use_case
from router.complexity.hashing import (
    BUCKETS,
    CAP_CHARS,
    CHAR_SIZES,
    char_buckets,
    presence,
    scan,
    word_buckets,
    word_hash,
)
from router.domain.request import Prompt

CHOICES = "Which planet is largest?\nA. Mars\nB. Venus\nC. Jupiter\nD. Mercury\nAnswer:"


def feature(name: str, text: str, **prompt: object) -> float:
    said = Prompt(text, chars=len(text), **prompt)  # type: ignore[arg-type]
    return float(measure(said, scan(text))[POSITION[name]])


def test_names_are_unique_and_match_the_row() -> None:
    """Every feature has one name and one place."""
    assert len(set(NAMES)) == len(NAMES) == len(measure(Prompt("a"), scan("a")))


@pytest.mark.parametrize(
    ("name", "more", "less"),
    [
        ("log_words", "one two three four five", "one two"),
        ("log_lines", "a\nb\nc", "a b c"),
        ("log_sentences", "It rains. It pours. It stops.", "It rains, pours and stops"),
        ("log_questions", "Why? How?", "Why."),
        ("count_code", "Write a python function that parses a string", "Write a letter to my aunt"),
        ("says_```", "Fix this: ```x = 1```", "Fix this: x = 1"),
        ("count_mathematics", "Solve the equation for the integer x", "Tell me about the equator"),
        ("log_numbers", "Add 3 apples, 14 pears and 159 plums", "Add apples, pears and plums"),
        ("longest_number", "In 1984", "In 84"),
        ("chars_operator", "x = a*b + c/d", "x is a times b plus c over d"),
        ("chars_formula", "Find $x^2$ in $\\frac{1}{2}$", "Find x squared in one half"),
        ("count_negation", "Which of these is not true, except never", "Which of these is true"),
        ("count_reasoning", "Explain and justify step by step why", "Say who"),
        ("count_constraint", "You must use exactly three sentences, at most ten words", "Go on"),
        ("count_format", "Answer in JSON with two columns as a markdown table", "Answer me"),
        ("chars_cjk", "今天天气怎么样", "how is the weather today"),
        ("chars_greek_cyrillic", "какая сегодня погода", "how is the weather today"),
        ("chars_latin", "où est la forêt près de l'étang", "where is the wood near the pond"),
        ("count_foreign", "wo ist der Bahnhof und die Post", "where is my station"),
        ("capitalised", "Ada Lovelace met Charles Babbage", "a lady met some inventor"),
        ("very_long_words", "institutionalisation of incomprehensibilities", "a cat sat on a mat"),
        ("unique_words", "every word here differs from others", "no no no no no no"),
        ("stem_ends_?", "What is it?\nA. one\nB. two", "It is:\nA. one\nB. two"),
    ],
)
def test_each_feature_grows_with_what_it_names(name: str, more: str, less: str) -> None:
    """A text that has more of something has the larger feature."""
    assert feature(name, more) > feature(name, less)


@pytest.mark.parametrize("style", ["{}. ", "({}) ", "{}) "])
@pytest.mark.parametrize("labels", ["ABCD", "abcd", "1234"])
def test_choices_are_counted_in_every_usual_style(style: str, labels: str) -> None:
    """Four labelled lines are four choices, whatever the label looks like."""
    lines = "\n".join(
        style.format(label) + word for label, word in zip(labels, ("Mars", "Venus", "Io", "Sun"), strict=True)
    )
    assert feature("choices", f"Which is largest?\n{lines}") == 4.0


def test_prose_has_no_choices() -> None:
    """A sentence that begins with the word A, and one initial, are no choices."""
    assert feature("choices", "A dog barked.\nA cat ran. I saw J. Smith") == 0.0


def test_conversation_features_come_from_the_conversation() -> None:
    """Depth, system prompt, tools, images and asked-for JSON are read from the prompt, not from the text."""
    deep = Prompt("go on", system="Be brief.", turns=9, chars=5000, tools=3, images=1, json_output=True)
    row, plain = measure(deep, scan("go on")), measure(Prompt("go on", chars=5), scan("go on"))
    talk = ("log_turns", "log_system_chars", "log_earlier_chars", "log_tools", "log_images", "json_output")
    assert all(row[POSITION[name]] > plain[POSITION[name]] for name in talk)
    others = [i for name, i in POSITION.items() if name not in talk]
    assert (row[others] == plain[others]).all()


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        ("translation", "Translate into French: good morning"),
        ("summarization", "Summarize the following report in three sentences. The board met on Monday."),
        ("classification", "Classify the sentiment of this review as positive or negative: I loved it"),
        ("extraction", "Extract all names and dates from the text below. Anna met Bob on 3 May."),
        ("creative", "Write a poem about autumn"),
        ("creative", "Tell me a short story about a dragon who is afraid of fire"),
        ("code", "Write a Python function that returns the n-th prime"),
        ("code", "Why does this fail?\n```\nfor i in range(3): print(i)\n```"),
        ("math", "Solve 3x + 5 = 20 for x"),
        ("math", "Find the value of $\\int_0^1 x^2 dx$."),
        ("math", "Tom has 12 apples and buys 3 bags of 5 for 2 dollars each. How many apples and how much money?"),
        ("qa", "What is the capital of Australia?"),
        ("qa", CHOICES),
        ("chat", "hi there, thanks for yesterday"),
    ],
)
def test_use_cases_of_plain_requests(expected: str, text: str) -> None:
    """Ordinary requests of each kind are recognised."""
    assert use_case(Prompt(text, chars=len(text))) == expected


def test_the_system_prompt_says_what_is_asked_when_the_user_only_sends_data() -> None:
    """Data from the user with the task in the system prompt falls under the task."""
    ticket = "My router blinks red since this morning and nothing helps."
    assert use_case(Prompt(ticket, system="Classify the ticket into one of five categories.")) == "classification"
    assert use_case(Prompt("Translate it into German", system="Classify what you get.")) == "translation"


@given(st.text(max_size=300), st.text(max_size=40))
def test_any_text_has_finite_features_and_a_known_use_case(text: str, system: str) -> None:
    """No text, surrogates and control characters included, breaks the features."""
    prompt = Prompt(text, system=system, chars=len(text))
    row = measure(prompt, scan(text))
    assert np.isfinite(row).all()
    assert use_case(prompt, row) in USE_CASES


def test_lone_surrogates_are_read() -> None:
    """JSON may carry half a surrogate pair; it counts as any unreadable character."""
    assert np.isfinite(measure(Prompt("a\ud800b"), scan("a\ud800b"))).all()


def test_what_lies_in_the_middle_of_a_long_text_is_not_scanned() -> None:
    """Only the first and last half of the cap are read; the length is known all the same."""
    head, tail = "alpha " * 400, "omega " * 400
    long, longer = (f"{head}{'secret ' * n}{tail}" for n in (1000, 2000))
    assert len(head) > CAP_CHARS / 2
    assert (presence(scan(long)) == presence(scan(longer))).all()
    assert len(scan(longer).raw) <= 4 * CAP_CHARS
    assert feature("log_chars", longer) > feature("log_chars", long)


def naive_hash(piece: bytes, salt: int = 1) -> int:
    """The polynomial hash, spelled out."""
    return sum(byte * pow(hashing._BASE, place, 1 << 64) for place, byte in enumerate(piece)) * salt % (1 << 64)


@given(st.text(alphabet="abC 1é.\n", max_size=40))
def test_fast_hashes_equal_the_polynomial_spelled_out(text: str) -> None:
    """Prefix differences give, for every word and substring, the hash of its bytes alone."""
    scanned = scan(text)
    words = [scanned.folded[a:b] for a, b in zip(scanned.starts, scanned.ends, strict=True)]
    assert scanned.words.tolist() == [naive_hash(word) for word in words]
    grams = [
        naive_hash(scanned.folded[at : at + size], 0xC2B2AE3D27D4EB4F * (2 * size + 1)) >> (64 - hashing.CHAR_BITS)
        for size in CHAR_SIZES
        for at in range(len(scanned.folded) - size + 1)
    ]
    assert char_buckets(scanned).tolist() == grams


def test_hashes_never_change() -> None:
    """Weights are stored by bucket: these figures are the same on every machine, run and PYTHONHASHSEED."""
    scanned = scan("The quick brown fox, 42 times.")
    assert word_hash("router") == 10149704468385485197
    assert int(word_buckets(scanned).sum()) == 41884
    assert int(char_buckets(scanned).sum()) == 418541


def test_case_digits_and_spacing_fold_together() -> None:
    """Words differ neither by case nor by which digits they hold."""
    assert word_hash("Route66") == word_hash("ROUTE21") != word_hash("route")
    assert (scan("a  b\tc").words == scan("A b\nC").words).all()


@given(st.text(max_size=200))
def test_presence_is_a_unit_vector_for_words_and_for_characters(text: str) -> None:
    """Each part has length 1, or 0 where there is nothing, so that long prompts weigh no more than short ones."""
    flags = presence(scan(text))
    assert flags.shape == (BUCKETS,)
    for part in (flags[: hashing.WORD_BUCKETS], flags[hashing.WORD_BUCKETS :]):
        assert float(np.linalg.norm(part)) == pytest.approx(1.0, abs=1e-4) or not part.any()
