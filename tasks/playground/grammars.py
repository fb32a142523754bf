"""Endless sentences of small grammars over one vocabulary; a sentence's class is known as it is made."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

KINDS = """
animal: horse dog cat cow sheep goat fox wolf rabbit mouse eagle owl duck goose salmon whale
tool: hammer saw drill wrench chisel shovel rake axe needle knife ladder pump lathe file clamp brush
food: bread cheese apple soup rice honey butter cake onion carrot pepper plum pear noodle egg bean
vehicle: car truck bus train tram boat ship ferry bicycle scooter plane rocket wagon sledge canoe van
garment: coat shirt sock hat scarf glove boot belt skirt jacket vest gown shawl apron robe sandal
worker: baker nurse farmer teacher pilot tailor judge clerk miner painter doctor sailor cook guard smith
adjective: old new small large red blue heavy light quiet loud famous strange clean broken wet dry
verb: found moved followed covered watched lifted passed missed carried held
place: house river station market field bridge garden tower harbour forest
"""
NOUNS = {kind: words.split() for kind, words in (line.split(": ") for line in KINDS.split("\n") if line)}
ADJECTIVES, VERBS, PLACES = (NOUNS.pop(kind) for kind in ("adjective", "verb", "place"))


def _pick(generator: np.random.Generator, words: list[str]) -> str:
    return words[generator.integers(len(words))]


def _phrase(generator: np.random.Generator, kind: str | None = None) -> str:
    noun = _pick(generator, NOUNS[kind or _pick(generator, list(NOUNS))])
    return f"the {_pick(generator, ADJECTIVES)} {noun}"


def subjects(generator: np.random.Generator, kind: str) -> Iterator[str]:
    """The class is the kind of the one who acts, said first in the active and last in the passive."""
    while True:
        actor, other = _phrase(generator, kind), _phrase(generator)
        verb, place = _pick(generator, VERBS), _pick(generator, PLACES)
        if generator.random() < 0.5:
            yield f"{actor} {verb} {other} near the {place}."
        else:
            yield f"near the {place} {other} was {verb} by {actor}."


def topics(generator: np.random.Generator, kind: str) -> Iterator[str]:
    """The class is the kind of what is spoken about, in frames that no other grammar uses."""
    while True:
        spoken, other = _phrase(generator, kind), _phrase(generator)
        verb, place = _pick(generator, VERBS), _pick(generator, PLACES)
        if generator.random() < 0.5:
            yield f"in the {place} they {verb} {spoken} before {other}."
        else:
            yield f"{spoken}, not {other}, is in the {place}."


def moods(generator: np.random.Generator, mood: str) -> Iterator[str]:
    """The class is the kind of sentence, and one word of it tells."""
    while True:
        first, second, verb = _phrase(generator), _phrase(generator), _pick(generator, VERBS)
        yield {
            "statement": f"{first} {verb} {second}.",
            "question": f"who {verb} {first} and {second}?",
            "condition": f"if {first} {verb} {second} we leave.",
            "denial": f"{first} never {verb} {second}.",
        }[mood]


def agreement(generator: np.random.Generator, verdict: str) -> Iterator[str]:
    """Right when the verb agrees in number with its subject, across a phrase in between."""
    while True:
        plural = generator.random() < 0.5
        subject = _phrase(generator) + "s" * plural
        between = _phrase(generator) + "s" * (generator.random() < 0.5)
        verb = "are" if plural == (verdict == "right") else "is"
        yield f"{subject} near {between} {verb} {_pick(generator, ADJECTIVES)}."
