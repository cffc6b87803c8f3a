"""Word lists, and how often a text uses each.

Matching is by hash on folded words (lower case, digits as 0). The lists are short on purpose: n-grams learn the rest;
these carry what holds across subjects, and what an untrained router may go by.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from router.complexity.hashing import SLOTS, Scan, slots_of, word_hash

LEXICON: Final[dict[str, str]] = {
    "function": "the of and to a an in is are was were be been that for it as with on by at from this these those "
    "if or but which who than then",
    "wh": "who what when where why how which whose whom",
    "negation": "not except never no none least incorrect false cannot without neither nor unlike",
    "reasoning": "explain because prove derive justify analyze analyse compare evaluate reason reasoning step steps "
    "assume suppose infer imply implies conclude conclusion therefore hence argument valid proof contrast critique "
    "consider design diagnose debate tradeoffs",
    "mathematics": "solve calculate compute equation sum product integral derivative probability percent percentage "
    "ratio triangle circle number numbers total average mean median variance area volume polynomial matrix vector "
    "modulo remainder divided multiplied times square root prime integer integers factor fraction angle radius graph "
    "slope x y n f z zeros simplify expression",
    "quantity": "many much per each cost costs price dollars dollar cents hours hour minutes miles km kg pounds feet "
    "inches meters years year days day weeks week month months rate twice half third quarter left more less fewer",
    "code": "function class return python java javascript typescript sql array string code compile import def print "
    "loop algorithm program bug debug api regex lambda tuple list dictionary dict html css bash shell script rust "
    "golang method div refactor variable recursion unit tests exception stack query",
    "constraint": "must exactly only most limit words sentences sentence between minimum maximum ensure avoid include "
    "should always paragraph paragraphs required requirements constraint constraints",
    "format": "json table csv yaml xml bullet bullets markdown format schema columns rows html numbered",
    "document": "passage context document text article transcript following above below given",
    "narrative": "he she his her him they their them himself herself my i me we our you your",
    "modal": "would could should may might can will likely probably best",
    "legal": "court law defendant plaintiff statute constitutional contract liable jury trial evidence state police "
    "owner tort crime guilty",
    "medical": "patient woman man blood disease treatment symptoms physician hospital diagnosis pain mg examination "
    "history cell cells protein",
    "science": "energy force mass velocity temperature pressure atom molecule acid reaction electron wave current "
    "voltage gas water earth sun planet species gene dna",
    "economy": "demand supply market firm tax income inflation interest money trade gdp consumer profit",
    "abstract": "theory according argues claims view moral concept principle philosophy social political society "
    "ethics belief knowledge human",
    "logic": "all some every if then true false statement statements premise premises either both implies",
    "foreign": "der die und ist das nicht ein eine el la los las que es por para una le les des et est dans pour il "
    "che di per non una o os um uma do da",
    "courtesy": "hi hello hey thanks thank please sorry yes ok okay",
}
ACTIONS: Final[dict[str, str]] = {
    "translate": "translate translation translated uebersetze traduce traduis traduci",
    "summarize": "summarize summarise summary condense shorten tldr recap gist",
    "classify": "classify classification label labels categorize categorise category sentiment spam",
    "extract": "extract extraction entities parse",
    "create": "poem story song lyrics haiku slogan tagline novel fiction joke limerick brainstorm imagine",
    "write": "write rewrite rephrase compose draft invent create implement refactor",
}
"""What is asked for; counted only where instructions stand: in the first and the last words."""
CATEGORIES: Final = tuple(LEXICON)

_HEAD_WORDS: Final = 24
_TAIL_WORDS: Final = 12
_Rows = NDArray[np.int64]


def _index() -> tuple[NDArray[np.int16], NDArray[np.uint64], NDArray[np.float64]]:
    """Row of each slot (0 where no listed word falls), hash of each row, membership (rows, categories + actions)."""
    sets = [frozenset(listed.split()) for listed in (*LEXICON.values(), *ACTIONS.values())]
    words = sorted(frozenset().union(*sets))
    hashes = np.array([0, *(word_hash(word) for word in words)], np.uint64)
    rows = np.zeros(SLOTS, np.int16)
    rows[slots_of(hashes[1:])] = np.arange(1, len(hashes), dtype=np.int16)
    member = np.array([[0.0] * len(sets), *([float(word in s) for s in sets] for word in words)])
    return rows, hashes, member


_ROW_OF, _HASH_OF, _MEMBER = _index()
_OF_CATEGORY: Final = np.ascontiguousarray(_MEMBER[:, : len(LEXICON)])
_OF_ACTION: Final = np.ascontiguousarray(_MEMBER[:, len(LEXICON) :])


def rows_of(scanned: Scan) -> _Rows:
    """For each word its row in the lexicon, 0 where it is in none; shape (words,)."""
    rows = _ROW_OF[scanned.slots]
    return np.where(_HASH_OF[rows] == scanned.words, rows, 0)


def counts(rows: _Rows) -> NDArray[np.float64]:
    """How many of the words fall in each category, shape (categories,)."""
    return np.bincount(rows, minlength=len(_MEMBER)) @ _OF_CATEGORY


def actions(rows: _Rows) -> NDArray[np.float64]:
    """How many of the first and last words ask for each action, shape (actions,)."""
    if len(rows) > _HEAD_WORDS + _TAIL_WORDS:
        rows = np.concatenate((rows[:_HEAD_WORDS], rows[-_TAIL_WORDS:]))
    found: NDArray[np.float64] = np.add.reduce(_OF_ACTION.take(rows, axis=0), axis=0)
    return found
