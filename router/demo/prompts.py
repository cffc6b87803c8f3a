"""What is asked in the demo? Prompts of nine use cases, written for this project.

A template has slots in braces, filled at random, and a hidden difficulty in [0,1]: how strong a model has to be.
`{material}` is a text or a program of the length that the traffic calls for.
"""

from __future__ import annotations

import re
from random import Random

from msgspec import Struct


class UseCase(Struct, frozen=True):
    """One kind of work. `traffic` names the fitted source of its arrivals and lengths; `share` is its part of it."""

    name: str
    system: str
    traffic: str
    share: float
    templates: tuple[tuple[float, str], ...]
    material: str = "prose"


USE_CASES = (
    UseCase(
        "chat",
        "You are a friendly assistant. Answer briefly.",
        "conversation",
        0.40,
        (
            (0.10, "Hi! Can you suggest a name for my {animal}?"),
            (0.15, "What should I cook tonight with {food} and {food}?"),
            (0.20, "Give me three ideas for a rainy weekend in {city}."),
            (0.25, "What is a good present for a friend who loves {hobby}?"),
            (0.30, "I slept badly and have a big day in {city} tomorrow. Any advice?"),
            (0.35, "Explain {topic} to me as if I were ten years old."),
            (0.40, "How do I start with {hobby} on a budget of {number} euros?"),
            (0.45, "Which questions should I ask before I move to {city}?"),
            (0.50, "My {person} and I disagree about {topic}. How can I listen better?"),
            (0.55, "Plan {number} days in {city} for a family that likes {hobby}, with a budget for each day."),
            (0.70, "Compare what three schools of thought say about {topic}, and where each one fails."),
            (0.75, "Argue both sides of whether {topic} should be taught at school, then judge who wins and why."),
        ),
    ),
    UseCase(
        "support",
        "You answer customers of an online shop. Be polite and follow the returns policy.",
        "conversation",
        0.35,
        (
            (0.10, "Where is my order {order}?"),
            (0.15, "Tell the customer politely that {product} is out of stock until {month}."),
            (0.20, "I want to change the delivery address of order {order} to {city}."),
            (0.20, "Thank this customer for the kind words about our {product}:\n\n{material}"),
            (0.30, "How do I return a {product} I bought in {month}?"),
            (0.35, "Answer this message about a late {product} and offer a voucher:\n\n{material}"),
            (0.40, "The {product} arrived broken. Which photos do you need and how long does a refund take?"),
            (0.45, "Write back to this customer, who was charged twice for order {order}:\n\n{material}"),
            (0.55, "Our {product} stopped working after {number} days. Lead me through finding the fault."),
            (
                0.65,
                "This customer threatens to leave. Find out why and propose a way out:\n\n{material}",
            ),
            (0.75, "Does our policy oblige us to refund here? Weigh each clause against the facts:\n\n{material}"),
            (0.80, "Three messages contradict each other about order {order}. Work out what happened:\n\n{material}"),
        ),
    ),
    UseCase(
        "rewrite",
        "You are an editor. Keep the meaning.",
        "conversation",
        0.25,
        (
            (0.10, "Correct the spelling: 'I will definately recieve the {product} in {month}.'"),
            (0.15, "Make this friendlier: 'Send me the report about {topic} by Friday.'"),
            (0.20, "Translate into {language}: 'The train to {city} leaves at {number} past nine.'"),
            (0.25, "Shorten this to half its length:\n\n{material}"),
            (0.30, "Rewrite this in plain words for {person}s without technical knowledge:\n\n{material}"),
            (0.35, "Turn this into five bullet points:\n\n{material}"),
            (0.40, "Translate this into {language} and keep the tone:\n\n{material}"),
            (0.45, "Write a subject line and a first paragraph for a newsletter on {topic}."),
            (0.55, "Rewrite this so that it would suit a formal letter to the city of {city}:\n\n{material}"),
            (0.65, "Turn this into a poem of {number} lines on {topic}, each line with the same metre."),
            (0.75, "Rewrite this as a dialogue in which neither speaker lies but both mislead:\n\n{material}"),
            (
                0.80,
                "Translate into {language}, keep each pun, and explain those that cannot be kept:\n\n{material}",
            ),
        ),
    ),
    UseCase(
        "classify",
        "You label messages. Answer with the label only.",
        "automation",
        0.45,
        (
            (0.05, "Is this about billing, delivery or the product?\n\n{material}"),
            (0.10, "Positive, neutral or negative?\n\n{material}"),
            (0.10, "Spam or not? 'You have won {number} {product}s, call now!'"),
            (0.15, "Which language is this: 'a message about {topic} from {city}'?"),
            (0.15, "Does this mention a {product}? Answer yes or no.\n\n{material}"),
            (0.20, "How urgent is this, from 1 to 5?\n\n{material}"),
            (0.25, "Which team should get this: finance, legal, shipping, IT?\n\n{material}"),
            (0.30, "Does the writer intend to buy again?\n\n{material}"),
            (0.40, "Is this feedback about {topic} sincere or ironic?\n\n{material}"),
            (0.50, "Label each sentence as fact, opinion or request:\n\n{material}"),
            (0.65, "Is a legal threat implied without being stated?\n\n{material}"),
            (0.75, "Which of the claims below contradict each other? Answer with pairs of numbers.\n\n{material}"),
        ),
    ),
    UseCase(
        "extract",
        "You turn text into JSON. No other words.",
        "automation",
        0.55,
        (
            (0.10, 'Return {{"order": ...}} for: "Where is my order {order}?"'),
            (0.15, "List all cities as a JSON array:\n\n{material}"),
            (0.15, "Extract name, product and month: '{person} bought a {product} in {month}.'"),
            (0.20, "Extract every amount of money with its currency:\n\n{material}"),
            (0.25, "Extract sender, date and subject:\n\n{material}"),
            (0.30, "Extract products and complaints as pairs:\n\n{material}"),
            (0.35, "Extract each deadline as an ISO date; the message was sent in {month}:\n\n{material}"),
            (0.40, "Fill the fields who, what, where, when; null where the text is silent:\n\n{material}"),
            (0.50, "Extract the line items and check that they add up to {number}:\n\n{material}"),
            (0.60, "Extract the obligations of each party with their conditions:\n\n{material}"),
            (0.70, "Build the graph of who reports to whom, with the evidence for each edge:\n\n{material}"),
            (0.75, "Resolve every pronoun to a name and return the sentences that stay ambiguous:\n\n{material}"),
        ),
    ),
    UseCase(
        "code",
        "You are a careful programmer. Answer with code and one sentence.",
        "code",
        1.0,
        (
            (0.20, "Write a {computer_language} function that reverses a list of {product}s."),
            (0.25, "Add a docstring to this:\n\n{material}"),
            (0.30, "What does this print?\n\n{material}"),
            (0.35, "Complete the next line:\n\n{material}"),
            (0.40, "Write a unit test for the first function:\n\n{material}"),
            (0.45, "Rename the variables so that the code explains itself:\n\n{material}"),
            (0.50, "Write a regular expression that matches order numbers such as {order}, and explain it."),
            (0.55, "Convert this to {computer_language}:\n\n{material}"),
            (0.65, "Find the bug; it shows only for {number} items or more:\n\n{material}"),
            (0.75, "Why can this deadlock when two {person}s call it at once? Fix it:\n\n{material}"),
            (0.80, "Design a lock-free queue in {computer_language} and prove that it loses nothing."),
            (0.85, "Reduce the complexity of this from quadratic to linearithmic and prove it:\n\n{material}"),
        ),
        material="code",
    ),
    UseCase(
        "summarise",
        "You summarise documents for busy readers.",
        "documents",
        0.45,
        (
            (0.15, "Give this a title:\n\n{material}"),
            (0.20, "Summarise in one sentence:\n\n{material}"),
            (0.25, "Summarise in three bullet points:\n\n{material}"),
            (0.30, "What does the author want from us?\n\n{material}"),
            (0.35, "Summarise what is said about {topic}:\n\n{material}"),
            (0.40, "List the decisions and who made them:\n\n{material}"),
            (0.45, "Summarise for a {person} who has one minute:\n\n{material}"),
            (0.50, "List open questions and the risks they carry:\n\n{material}"),
            (0.55, "Write minutes with tasks, owners and dates:\n\n{material}"),
            (0.60, "Which figures changed since {month}, and what is said to be the cause?\n\n{material}"),
            (0.70, "Summarise the argument as premises and conclusion, and name the hidden premise:\n\n{material}"),
            (
                0.80,
                "Summarise what the text avoids saying about {topic}, with the passages that show it:\n\n{material}",
            ),
        ),
    ),
    UseCase(
        "analyse",
        "You are a business analyst. Show your working.",
        "documents",
        0.30,
        (
            (0.25, "What share of {number} is 12?"),
            (0.30, "We sold {number} {product}s in {month} and twice as many the month after. How many in all?"),
            (0.35, "Name three metrics for a shop that sells {product}s."),
            (0.45, "Which two numbers below matter most for {topic}?\n\n{material}"),
            (0.50, "Draft a table that compares {city} and {city} as places for a warehouse."),
            (0.55, "Estimate how many {product}s are sold in {city} each year. State your assumptions."),
            (0.60, "What would have to be true for the plan below to work?\n\n{material}"),
            (0.65, "Derive the break-even point from the text and say which input it depends on most:\n\n{material}"),
            (0.70, "Find the flaw in the reasoning below:\n\n{material}"),
            (0.75, "Is the fall since {month} seasonal or caused by {topic}? Design a test that could tell."),
            (0.80, "Build a decision tree with probabilities and expected values from the text:\n\n{material}"),
            (0.90, "Reconcile the two sets of figures step by step and prove which entry is wrong:\n\n{material}"),
        ),
    ),
    UseCase(
        "reason",
        "Think step by step and end with one line that starts with 'Answer:'.",
        "documents",
        0.25,
        (
            (0.30, "A {animal} eats {number} g a day. How long do 20 kg last?"),
            (0.35, "If it is {month} now, which month is it {number} months later?"),
            (0.45, "{number} {person}s shake hands once each with everyone. How many handshakes?"),
            (0.50, "A train to {city} leaves every 12 minutes and another every {number}. When do they meet again?"),
            (
                0.60,
                "Each of four {person}s owns another {animal} and lives in another city. Use the clues:\n\n{material}",
            ),
            (0.65, "How many ways are there to seat {number} {person}s so that two given ones never sit together?"),
            (0.70, "Which of these statements follow from the others?\n\n{material}"),
            (0.75, "Prove that the sum of the first n odd numbers is a square, then generalise to cubes."),
            (0.80, "Give a strategy for weighing {number} {product}s with one false one, and prove it is optimal."),
            (0.85, "Prove or refute: every argument below is valid.\n\n{material}"),
            (0.90, "Prove that no deterministic rule can be fair to all {number} {person}s, or give one."),
            (0.95, "Find a counterexample of least size and prove that there is no smaller one:\n\n{material}"),
        ),
    ),
)

_SLOTS: dict[str, tuple[str, ...]] = {
    "animal": ("cat", "dog", "parrot", "hamster", "tortoise", "rabbit", "goldfish", "pony"),
    "food": ("lentils", "rice", "courgettes", "eggs", "chickpeas", "salmon", "mushrooms", "tofu", "pears"),
    "city": ("Lisbon", "Graz", "Osaka", "Toronto", "Nairobi", "Lyon", "Tallinn", "Porto", "Cork", "Bilbao"),
    "hobby": ("climbing", "chess", "pottery", "cycling", "birdwatching", "sewing", "running", "gardening"),
    "topic": ("inflation", "solar power", "remote work", "vaccines", "tides", "compound interest", "privacy",
              "road tolls", "recycling", "free will", "school meals", "night trains"),
    "person": ("nurse", "teacher", "cousin", "neighbour", "manager", "pilot", "baker", "student", "plumber"),
    "product": ("kettle", "bicycle", "desk lamp", "backpack", "headset", "rain jacket", "toaster", "tent"),
    "month": ("January", "March", "April", "June", "August", "October", "November"),
    "language": ("French", "Spanish", "German", "Polish", "Japanese", "Portuguese", "Swahili"),
    "computer_language": ("Python", "Go", "Rust", "Java", "TypeScript", "SQL"),
}  # fmt: skip

_MATERIAL = {
    "prose": (
        "On the third of {month} the {product} was sent to {city}, but nobody was there to sign for it.",
        "The {person} says that {number} units were counted, while the list shows twice as many.",
        "We agreed that {topic} would be discussed first, and then it was not.",
        "If nothing changes by {month}, the office in {city} will have to close for a week.",
        "I have written {number} times and each time somebody else has answered.",
        "Costs rose by {number} percent, mostly because of {topic}.",
        "The {person} from {city} thought that it was a misunderstanding about order {order}.",
        "Sales of the {product} fell in {month} and recovered when the price came down to {number} euros.",
        "Nobody objects to {topic} in principle, yet the budget says otherwise.",
        "She told the {person} that she would decide after the visit to {city}.",
        "Either the {product} was faulty from the start, or it was damaged on the way.",
        "All who were asked about {topic} in {month} gave the same answer, except for the {person}.",
        "The contract allows a refund within {number} days unless the seal is broken.",
        "It should be said that the {product} is the best I have owned, in spite of everything.",
        "Please confirm the {number} items, the address in {city} and the date.",
        "The second report contradicts the first on {topic} and gives no reason.",
    ),
    "code": (
        "def total(items):\n    return sum(item.price * item.count for item in items)",
        "for i in range(len(orders)):\n    for j in range(i, len(orders)):\n        compare(orders[i], orders[j])",
        "with lock:\n    if not queue:\n        condition.wait()\n    work = queue.pop()",
        "class Cache:\n    def __init__(self, size={number}):\n        self.size = size\n        self.items = {{}}",
        "if stock['{product}'] < {number}:\n    reorder('{product}', to='{city}')",
        "while left <= right:\n    middle = (left + right) // 2\n    left = middle + 1",
        "try:\n    send(order='{order}')\nexcept TimeoutError:\n    retries += 1",
        "SELECT city, count(*) FROM orders WHERE month = '{month}' GROUP BY city;",
    ),
}  # fmt: skip

_SLOT = re.compile(r"(?<!\{)\{(\w+)\}(?!\})")
_CHARS_PER_TOKEN = 4


def write(rng: Random, use_case: UseCase, input_tokens: int) -> tuple[float, str]:
    """A prompt and its template's difficulty; one with material is about `input_tokens` long."""
    difficulty, template = rng.choice(use_case.templates)
    text = _fill(rng, template)
    if "{material}" in text:
        stock, wanted = _MATERIAL[use_case.material], input_tokens * _CHARS_PER_TOKEN
        pieces: list[str] = []
        size = len(text) + len(use_case.system)
        while size < wanted or not pieces:
            pieces.append(_fill(rng, rng.choice(stock)))
            size += len(pieces[-1]) + 1
        text = text.replace("{material}", ("\n" if use_case.material == "code" else " ").join(pieces))
    return difficulty, text.replace("{{", "{").replace("}}", "}")


def _fill(rng: Random, template: str) -> str:
    def value(slot: re.Match[str]) -> str:
        name = slot.group(1)
        if name == "material":
            return slot.group(0)
        if name == "number":
            return str(rng.randint(3, 99))
        return f"A{rng.randint(10_000, 99_999)}" if name == "order" else rng.choice(_SLOTS[name])

    return _SLOT.sub(value, template)
