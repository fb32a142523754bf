"""What a text that is not SHiFT-QL most likely means, and how to mend it.

The parser only knows where it stopped. Each function of DIAGNOSES recognises one mistake there; the first
that does writes the error. Whatever none recognises is told as what was found and what could have stood there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lark import Lark, Token
from lark.exceptions import UnexpectedInput, UnexpectedToken

from shiftql.vocabulary import KEYWORDS, RESERVED
from storage.errors import QuerySyntaxError
from storage.names import near

PHRASES = {keyword.phrase.split()[0]: keyword.phrase for keyword in KEYWORDS}
# What a name stands for in these clauses, and right after these words.
NAMED_IN = {
    "SELECT": "a column",
    "FROM": "a relation",
    "ORDER": "a column or a ranker",
    "CLASSIFIED": "a ranker",
    "ON": "a dataset",
}
NAMED_AFTER = {"AS": "a new name", "LIKE": "a pattern", "OPERATOR": "a column"}
SIGNS = {
    "STAR": "*",
    "OPERATOR": "a comparison (= != < <= > >=)",
    "EQUAL": "=",
    "LPAR": "(",
    "RPAR": ")",
    "LSQB": "[",
    "RSQB": "]",
    "COMMA": "a comma",
    "SEMICOLON": ";",
}
CLOSED_BY = {"LPAR": "RPAR", "LSQB": "RSQB"}
KINDS = {"NAME": "name", "QUALIFIED": "name", "STRING": "string", "NUMBER": "number"}
QUOTES = "'\"`"
TYPOGRAPHIC_QUOTES = "‘’‚“”„´«»"
WORDS_FOR_SIGNS = {"&": "write AND", "|": "write OR", "!": "write NOT, or != for not equal"}
RUN_OF_CHARACTERS = re.compile(r"[^\s,;()\[\]'\"`=<>!#]+")


@dataclass(frozen=True, slots=True)
class Place:
    """A stretch of the text, as lark's tokens and tree positions have it too."""

    start_pos: int
    end_pos: int


def syntax_error(
    text: str, place: Any, message: str, *, allowed: Sequence[str] = (), fix: str | None = None
) -> QuerySyntaxError:
    """An error whose caret stands under `place`: a Place, a token or a tree's position."""
    return QuerySyntaxError(
        message,
        text=text,
        line=text.count("\n", 0, place.start_pos) + 1,
        column=place.start_pos - text.rfind("\n", 0, place.start_pos),
        length=place.end_pos - place.start_pos,
        allowed=allowed,
        fix=fix,
    )


def explain_unexpected(parser: Lark, text: str, error: UnexpectedInput) -> QuerySyntaxError:
    """The error a person can act upon, for the place where `parser` stopped in `text`."""
    stop = _stop(parser, text, error)
    return next(explained for diagnose in DIAGNOSES if (explained := diagnose(stop)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stop:
    """Where the parser stopped: what it had read, what it found there, and which terminals it accepts instead."""

    parser: Lark
    text: str
    read: list[Token]
    accepted: set[str]
    start: int
    # None at the end of the text, and where the characters are no token at all.
    found: Token | None
    is_end: bool

    @property
    def previous(self) -> str:
        return _kind(self.read[-1]) if self.read else ""

    def error(
        self, message: str, *, place: Token | Place | None = None, expected: bool = False, fix: str | None = None
    ) -> QuerySyntaxError:
        allowed = _in_words(self) if expected else ()
        return syntax_error(
            self.text, place or self.found or Place(self.start, self.start + 1), message, allowed=allowed, fix=fix
        )


def _stop(parser: Lark, text: str, error: UnexpectedInput) -> _Stop:
    found = error.token if isinstance(error, UnexpectedToken) else None
    is_end = found is not None and found.type == "$END"
    start = len(text) if is_end else int(error.pos_in_stream or 0)
    read, accepted = _read(parser, text[:start])
    return _Stop(
        parser=parser,
        text=text,
        read=read,
        accepted=accepted,
        start=int(read[-1].end_pos or 0) if is_end else start,
        found=None if is_end else found,
        is_end=is_end,
    )


def _read(parser: Lark, text: str) -> tuple[list[Token], set[str]]:
    """The tokens of a text that is right so far, and the terminals that could follow."""
    cursor = parser.parse_interactive(text)
    return cursor.exhaust_lexer(), {terminal.lstrip("_") for terminal in cursor.accepts()}


def _kind(token: Token) -> str:
    return token.type.lstrip("_")


def unclosed_string(stop: _Stop) -> QuerySyntaxError | None:
    rest_of_line = stop.text[stop.start :].split("\n", 1)[0]
    if stop.found or stop.is_end or rest_of_line[0] not in QUOTES:
        return None
    quote = rest_of_line[0]
    return stop.error(
        "this string is not closed on its line",
        place=Place(stop.start, stop.start + len(rest_of_line)),
        fix=f"end it with {quote}; inside the string, {quote} is written twice",
    )


def foreign_characters(stop: _Stop) -> QuerySyntaxError | None:
    if stop.found or stop.is_end:
        return None
    character = stop.text[stop.start]
    if character in TYPOGRAPHIC_QUOTES:
        return stop.error(f"{character} does not begin a string", fix="write ' or \"")
    if character in WORDS_FOR_SIGNS:
        return stop.error(f"{character} is not a sign of the language", fix=WORDS_FOR_SIGNS[character])
    run = next(run for run in RUN_OF_CHARACTERS.finditer(stop.text) if run.start() <= stop.start < run.end())
    return stop.error(
        f"{run.group()} is neither a name nor a number",
        place=Place(run.start(), run.end()),
        fix=f"if it is one name, quote it: '{run.group()}'",
    )


def misspelt_keyword(stop: _Stop) -> QuerySyntaxError | None:
    """A word that is nearly a keyword: the one found, or the one before it, taken for a name."""
    candidates = [(stop.found, stop.accepted)]
    if stop.previous == "NAME":
        candidates.append((stop.read[-1], _read(stop.parser, stop.text[: stop.read[-1].start_pos])[1]))
    for token, accepted in candidates:
        if token and token.type == "NAME" and len(token) > 1:
            keywords = near(token, sorted(PHRASES.keys() & accepted))
            if keywords:
                return stop.error(f"unknown keyword {token}", place=token, fix=f"did you mean {' or '.join(keywords)}?")
    return None


def half_a_clause(stop: _Stop) -> QuerySyntaxError | None:
    for second in ("BY", "ON"):
        if stop.accepted == {second}:
            phrase = PHRASES[stop.previous]
            return stop.error(f"{stop.previous} must be followed by {second}", fix=f"write {phrase}")
    return None


def limit_without_number(stop: _Stop) -> QuerySyntaxError | None:
    if stop.previous != "LIMIT":
        return None
    return stop.error("LIMIT takes a whole number", fix="write how many rows, as LIMIT 10")


def compared_with_null(stop: _Stop) -> QuerySyntaxError | None:
    if not stop.found or _kind(stop.found) != "NULL" or stop.previous != "OPERATOR":
        return None
    return stop.error("nothing compares with NULL", fix="write IS NULL or IS NOT NULL")


def stray_closing_bracket(stop: _Stop) -> QuerySyntaxError | None:
    if not stop.found or stop.found.type not in CLOSED_BY.values() or _open_bracket(stop):
        return None
    return stop.error(f"this {stop.found} closes nothing", fix="remove it, or open it further left")


def unexpected(stop: _Stop) -> QuerySyntaxError:
    message = "the query ends too early" if stop.found is None else f"unexpected {_described(stop.found)}"
    return stop.error(message, expected=True, fix=_repair(stop))


DIAGNOSES: tuple[Callable[[_Stop], QuerySyntaxError | None], ...] = (
    unclosed_string,
    foreign_characters,
    misspelt_keyword,
    half_a_clause,
    limit_without_number,
    compared_with_null,
    stray_closing_bracket,
    unexpected,
)


def _described(token: Token) -> str:
    kind = _kind(token)
    if kind in PHRASES:
        return f"keyword {token.upper()}"
    return f"{KINDS[kind]} {token}" if kind in KINDS else str(token)


def _repair(stop: _Stop) -> str | None:
    bracket = _open_bracket(stop)
    if bracket and CLOSED_BY[bracket.type] in stop.accepted:
        place = syntax_error(stop.text, bracket, "")
        closing = SIGNS[CLOSED_BY[bracket.type]]
        return f"close the {bracket} of line {place.line}, column {place.column} with {closing}"
    if "SELECT" in stop.accepted:
        return "begin with SELECT: SELECT name FROM models"
    found = stop.found
    if found and stop.previous == "STRING" and stop.read[-1].end_pos == found.start_pos:
        return f"inside the string, {stop.read[-1][0]} is written twice"
    if found and stop.previous == "NAME" and found.type == "NAME":
        comma = ", or put a comma between two" if "COMMA" in stop.accepted else ""
        return f'quote a name of several words: "{stop.read[-1]} {found}"{comma}'
    if "FROM" in stop.accepted:
        return "say what the columns are taken from: SELECT name FROM models"
    if found and "SEMICOLON" in stop.accepted and _kind(found) in ("SELECT", "EXPLAIN"):
        return "end the statement before with ;"
    if found and "NAME" in stop.accepted and _kind(found) in RESERVED:
        return f'a keyword is a name only in quotes: "{found}"'
    return None


def _open_bracket(stop: _Stop) -> Token | None:
    """The innermost bracket that is still open."""
    still_open: list[Token] = []
    for token in stop.read:
        if token.type in CLOSED_BY:
            still_open.append(token)
        elif token.type in CLOSED_BY.values():
            still_open.pop()
    return still_open[-1] if still_open else None


def _in_words(stop: _Stop) -> list[str]:
    """What could have stood at the stop, in words a person uses, most telling first."""
    accepted = stop.accepted
    if "NOT" in accepted and "NAME" in accepted:
        return ["a condition"]
    words = []
    if {"NAME", "NUMBER"} <= accepted:
        words.append("a value")
        accepted = accepted - {"TRUE", "FALSE"}
    elif "NAME" in accepted and stop.previous not in ("NAME", "STRING"):
        clause = next(_kind(token) for token in reversed(stop.read) if _kind(token) in NAMED_IN)
        words.append(NAMED_AFTER.get(stop.previous, NAMED_IN[clause]))
    words += [phrase for word, phrase in PHRASES.items() if word in accepted]
    words += [sign for terminal, sign in SIGNS.items() if terminal in accepted]
    return words
