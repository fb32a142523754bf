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
FIRST_HALVES = {
    second: [phrase.split()[0] for phrase in PHRASES.values() if phrase.endswith(f" {second}")]
    for second in ("BY", "ON", "THAN", "JOIN")
}
STATEMENTS = {keyword.phrase for keyword in KEYWORDS if keyword.role == "statement"}
# How a statement or a clause is written, for whoever left it unfinished.
FORMS = {
    "DECLARE": "DECLARE small AS SELECT name FROM models WHERE num_params < 10M",
    "PRINT": "PRINT small, where small is a declared name",
    "REGISTER": "REGISTER MODEL my-model FROM './path', or REGISTER DATASET my-data FROM './path'",
    "RANK": 'RANK models BY "LEEP" TRAINED ON my-data',
    "FINETUNE": "FINETUNE my-model WITH my-data (lr=[0.1, 0.01], epochs=5) AS 'my-digits'",
    "WATCH": "WATCH best AS SELECT name FROM models EVERY '1d'",
    "UNWATCH": "UNWATCH best, where best is a watch",
    "USE": "USE localhost:4200",
    "RETRIEVE": "RETRIEVE 2 GRP modality ORD num_params DESC",
    "OTHER": "OTHER THAN small, or OTHER THAN (SELECT …)",
    "NATURAL": "FROM models NATURAL JOIN benchmark_results",
    "BETWEEN": "num_params BETWEEN 1M AND 10M",
    "IN": "source IN (torch, tfhub), IN (SELECT …), or IN small",
    "IS": "IS NULL or IS NOT NULL",
    "CHANGE": "(my-data CHANGE [0, 1] TO other [4, 5])",
    "VALUES": "REGISTER DATASET my-data (path, type) VALUES ('./path', image_folder)",
}
# What stands after the words that take an amount, and how to write it.
AMOUNTS = {
    "LIMIT": ("a whole number", "write how many rows, as LIMIT 10"),
    "RETRIEVE": ("a whole number", f"write how many rows of each group, as {FORMS['RETRIEVE']}"),
    "CHUNK": ("a whole number or AUTO", "write how many rows a pull takes, as CHUNK 64, or CHUNK AUTO"),
    "BUDGET": (
        "a number, a duration or AUTO",
        "write pulls as BUDGET 160, epochs as BUDGET 500 epochs, time as BUDGET 2h, or BUDGET AUTO",
    ),
    "WITHIN": ("a duration", "write for example WITHIN 90s, 30m, 2h or 1d"),
    "EVERY": ("a duration", "write for example EVERY 6h or EVERY '1d'"),
}
# What other languages have, and what says it here.
FOREIGN_WORDS = {
    "GROUP": "the best rows of every group are RETRIEVE 2 GRP modality ORD num_params DESC",
    "HAVING": "write the condition in WHERE, or select from (SELECT …) WHERE …",
    "OFFSET": "LIMIT gives the first rows only",
    "MINUS": "write EXCEPT",
    **dict.fromkeys(
        ("INNER", "LEFT", "RIGHT", "OUTER", "CROSS", "FULL"),
        "relations are joined by the columns they share: NATURAL JOIN",
    ),
    "INSERT": f"write {FORMS['REGISTER']}",
    "CREATE": f"write {FORMS['DECLARE']}",
    "WITH": f"write {FORMS['DECLARE']}",
    "DELETE": "stored results are deleted by PURGE",
    "DROP": "stored results are deleted by PURGE, watches by UNWATCH",
    "UPDATE": "the catalog is changed by REGISTER",
    "DESCRIBE": "write HELP models",
}
# What a name stands for right after these words, else in these clauses.
NAMED_AFTER = {
    "AS": "a new name",
    "LIKE": "a pattern",
    "OPERATOR": "a column",
    "DECLARE": "a new name",
    "WATCH": "a new name",
    "UNWATCH": "a watch",
    "FINETUNE": "a model",
    "SHOW": "MODELS, DATASETS, RUNS, WATCHES or RANKERS",
    "MODEL": "a new name",
    "MODELS": "a new name",
    "DATASET": "a new name",
    **dict.fromkeys(("GRP", "ORD"), "a column"),
    **dict.fromkeys(("TO", "TASK", "BENCHMARK"), "a dataset"),
    **dict.fromkeys(
        ("EXPLAIN", "ANALYZE", "JSON", "PRINT", "THAN", "UNION", "EXCEPT", "INTERSECT", "IN"), "a declared name"
    ),
}
NAMED_IN = {
    "SELECT": "a column",
    "FROM": "a relation",
    "ORDER": "a column or a ranker",
    "RANK": "a relation",
    "BY": "a ranker",
    "CLASSIFIED": "a ranker",
    "ON": "a dataset",
    "FINETUNE": "a model",
    "WITH": "a dataset",
    "REGISTER": "a name, or the path or address to read",
}
SIGNS = {
    "STAR": "*",
    "OPERATOR": "a comparison (= != < <= > >=)",
    "EQUAL": "=",
    "LPAR": "(",
    "RPAR": ")",
    "LSQB": "[",
    "RSQB": "]",
    "COMMA": "a comma",
    "URL": "an address",
    "SEMICOLON": ";",
}
CLOSED_BY = {"LPAR": "RPAR", "LSQB": "RSQB"}
KINDS = {"NAME": "name", "QUALIFIED": "name", "STRING": "string", "NUMBER": "number", "DURATION": "duration"}
UNITS = re.compile(r"(s|sec|second|m|min|minute|h|hr|hour|d|day)s?", re.IGNORECASE)
QUOTES = "'\"`"
TYPOGRAPHIC_QUOTES = "‘’‚“”„´«»"
WORDS_FOR_SIGNS = {
    "&": "write AND",
    "|": "write OR",
    "!": "write NOT, or != for not equal",
    **dict.fromkeys("+-/%^", "nothing is computed: write the value"),
}
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

    @property
    def found_kind(self) -> str:
        """A word that is a keyword in other places only is a name."""
        kind = _kind(self.found) if self.found else ""
        return "NAME" if kind in PHRASES and kind not in RESERVED else kind

    @property
    def words(self) -> list[tuple[Token, set[str]]]:
        """The word found and the one before it, if they were read as names, each with what could have stood there."""
        words = [(self.found, self.accepted)] if self.found and self.found_kind == "NAME" else []
        if self.previous == "NAME":
            words.append((self.read[-1], _read(self.parser, self.text[: self.read[-1].start_pos])[1]))
        return words

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
    if found is not None and found.type in ("URL", "TOPIC"):
        # These match what is no other token, where the parser does not accept them.
        found = None
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
    cursor = parser.parse_interactive(text, start="start")
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
    run = next((run for run in RUN_OF_CHARACTERS.finditer(stop.text) if run.start() <= stop.start < run.end()), None)
    if character in "&|!" or run is None or not re.search(r"\w", run.group()):
        return stop.error(f"{character} is not a sign of the language", fix=WORDS_FOR_SIGNS.get(character))
    if run.group().endswith("."):
        return stop.error(
            "what stands behind a dot is one bare word", fix="write for example readers.name, without quotes or blanks"
        )
    return stop.error(
        f"{run.group()} is neither a name nor a number",
        place=Place(run.start(), run.end()),
        fix=f"if it is one name, quote it: '{run.group()}'",
    )


def foreign_word(stop: _Stop) -> QuerySyntaxError | None:
    for token, _ in stop.words:
        if token.upper() in FOREIGN_WORDS:
            return stop.error(f"{token} cannot stand here", place=token, fix=FOREIGN_WORDS[token.upper()])
    return None


def misspelt_keyword(stop: _Stop) -> QuerySyntaxError | None:
    """A word that is nearly a keyword: the one found, or the one before it, taken for a name."""
    for token, accepted in stop.words:
        if len(token) > 1 and token.upper() not in PHRASES:
            keywords = near(token, sorted(PHRASES.keys() & accepted), limit=1)
            if keywords:
                return stop.error(f"unknown keyword {token}", place=token, fix=f"did you mean {PHRASES[keywords[0]]}?")
    return None


def missing_semicolon(stop: _Stop) -> QuerySyntaxError | None:
    """A statement that begins within another; its first word may have been taken for a name."""
    if not stop.read or not stop.found:
        return None
    for token in (stop.found, stop.read[-1]):
        if token.upper() not in STATEMENTS or token is stop.read[0]:
            continue
        if "SEMICOLON" in _read(stop.parser, stop.text[: token.start_pos])[1]:
            return stop.error(f"{token.upper()} begins a statement", place=token, fix="end the statement before with ;")
    return None


def json_before_analyze(stop: _Stop) -> QuerySyntaxError | None:
    if [token.upper() for token in stop.read[-2:]] != ["JSON", "ANALYZE"]:
        return None
    return stop.error("ANALYZE stands before JSON", place=stop.read[-1], fix="write EXPLAIN ANALYZE JSON SELECT …")


def half_a_clause(stop: _Stop) -> QuerySyntaxError | None:
    for second in FIRST_HALVES:
        if stop.accepted == {second}:
            phrase = PHRASES[stop.previous]
            return stop.error(f"{stop.previous} must be followed by {second}", fix=f"write {phrase}")
    firsts = [first for first in FIRST_HALVES.get(stop.found_kind, ()) if first in stop.accepted]
    if not firsts:
        return None
    phrases = " or ".join(PHRASES[first] for first in firsts)
    return stop.error(f"{stop.found_kind} does not stand alone", fix=f"write {phrases}")


def missing_amount(stop: _Stop) -> QuerySyntaxError | None:
    if stop.previous not in AMOUNTS:
        return None
    amount, fix = AMOUNTS[stop.previous]
    return stop.error(f"{stop.previous} takes {amount}", fix=fix)


def duration_in_two_words(stop: _Stop) -> QuerySyntaxError | None:
    if stop.previous != "NUMBER" or stop.found_kind != "NAME" or not UNITS.fullmatch(str(stop.found)):
        return None
    return stop.error(
        f"unexpected {stop.found}", fix=f"a duration is one word: {stop.read[-1]}{str(stop.found)[0].lower()}"
    )


def change_without_parentheses(stop: _Stop) -> QuerySyntaxError | None:
    if not stop.found or _kind(stop.found) != "CHANGE":
        return None
    return stop.error("a changed dataset stands in parentheses", fix=f"write TRAINED ON {FORMS['CHANGE']}")


def called_column(stop: _Stop) -> QuerySyntaxError | None:
    if stop.found_kind != "LPAR" or stop.previous != "NAME":
        return None
    return stop.error(
        f"{stop.read[-1]} cannot be called here",
        place=stop.read[-1],
        fix="only ORDER BY, CLASSIFIED BY and RANK … BY have arguments: ORDER BY AVG(err), ORDER BY Linear(lr=0.1)",
    )


def compared_with_null(stop: _Stop) -> QuerySyntaxError | None:
    if not stop.found or _kind(stop.found) != "NULL" or stop.previous != "OPERATOR":
        return None
    return stop.error("nothing compares with NULL", fix="write IS NULL or IS NOT NULL")


def stray_closing_bracket(stop: _Stop) -> QuerySyntaxError | None:
    if not stop.found or stop.found.type not in CLOSED_BY.values() or _open_bracket(stop):
        return None
    return stop.error(f"this {stop.found} closes nothing", fix="remove it, or open it further left")


def unexpected(stop: _Stop) -> QuerySyntaxError:
    ends = stop.found is None or stop.found_kind == "SEMICOLON"
    message = "the query ends too early" if ends else f"unexpected {_described(stop)}"
    return stop.error(message, expected=True, fix=_repair(stop))


DIAGNOSES: tuple[Callable[[_Stop], QuerySyntaxError | None], ...] = (
    unclosed_string,
    foreign_characters,
    foreign_word,
    misspelt_keyword,
    json_before_analyze,
    missing_semicolon,
    half_a_clause,
    missing_amount,
    duration_in_two_words,
    change_without_parentheses,
    called_column,
    compared_with_null,
    stray_closing_bracket,
    unexpected,
)


def _described(stop: _Stop) -> str:
    kind = stop.found_kind
    if kind in RESERVED:
        return f"keyword {str(stop.found).upper()}"
    return f"{KINDS[kind]} {stop.found}" if kind in KINDS else str(stop.found)


def _repair(stop: _Stop) -> str | None:
    repairs = (_sign_repair, _bracket_repair, _beginning_repair, _names_repair, _form_repair, _quotes_repair)
    return next((fix for repair in repairs if (fix := repair(stop))), None)


def _bracket_repair(stop: _Stop) -> str | None:
    bracket = _open_bracket(stop)
    if not bracket or CLOSED_BY[bracket.type] not in stop.accepted:
        return None
    place = syntax_error(stop.text, bracket, "")
    return f"close the {bracket} of line {place.line}, column {place.column} with {SIGNS[CLOSED_BY[bracket.type]]}"


def _beginning_repair(stop: _Stop) -> str | None:
    kinds = ["", "", *map(_kind, stop.read)]
    explained = ("EXPLAIN", "ANALYZE", "JSON")
    if "DECLARE" in stop.accepted and stop.found_kind in ("NAME", "STRING"):
        return f"begin with SELECT: SELECT name FROM models; a declared name is answered by PRINT {stop.found}"
    begins = stop.previous in ("", "SEMICOLON", "AS", "LPAR", *explained)
    if begins and "SELECT" in stop.accepted and "NUMBER" not in stop.accepted:
        return "begin with SELECT: SELECT name FROM models"
    if kinds[-1] == "NAME" and kinds[-2] in explained:
        return "begin with SELECT: EXPLAIN SELECT name FROM models"
    if stop.found_kind == "ORDER" and "BY" in stop.accepted:
        return f"RANK says BY: {FORMS['RANK']}"
    return None


def _sign_repair(stop: _Stop) -> str | None:
    if stop.found_kind in ("OPERATOR", "EQUAL"):
        if stop.previous == "OPERATOR":
            return f"write {stop.read[-1]}{stop.found} in one"
        if stop.previous == "NOT":
            return "write != for not equal, or NOT before the column"
        if "AND" in stop.accepted:
            return "compare two at a time: a > 1 AND a < 5, or a BETWEEN 1 AND 5"
    if stop.found_kind == "COMMA" and stop.previous == "NUMBER" and _construct(stop) == "WHERE":
        return "numbers have no separators: write 10000 or 10K"
    if stop.found_kind == "COMMA" and "NATURAL" in stop.accepted:
        return f"relations are joined: {FORMS['NATURAL']}"
    return None


def _names_repair(stop: _Stop) -> str | None:
    found, construct = stop.found, _construct(stop)
    if found and stop.previous == "STRING" and stop.read[-1].end_pos == found.start_pos:
        return f"inside the string, {stop.read[-1][0]} is written twice"
    if found and stop.accepted <= {"SEMICOLON", "$END"}:
        return "end the statement before with ;"
    if stop.found_kind == "NAME" and construct == "WITH":
        return "settings stand in parentheses: WITH my-data (lr=0.1)"
    if found and stop.previous == "NAME" and stop.found_kind == "NAME":
        comma = ", or put a comma between two" if "COMMA" in stop.accepted else ""
        return f'quote a name of several words: "{stop.read[-1]} {found}"{comma}'
    if found and stop.found_kind in KINDS and "OPERATOR" in stop.accepted:
        return f"put a comparison between, as {stop.read[-1]} = {found}"
    if found and stop.found_kind in KINDS and "COMMA" in stop.accepted and construct == "SELECT":
        return "put a comma between two columns"
    if "FROM" in stop.accepted and construct == "SELECT":
        return "say what the columns are taken from: SELECT name FROM models"
    return None


def _form_repair(stop: _Stop) -> str | None:
    if "SEMICOLON" in stop.accepted or _construct(stop) not in FORMS:
        return None
    return f"write {FORMS[_construct(stop)]}"


def _quotes_repair(stop: _Stop) -> str | None:
    if stop.found_kind not in RESERVED or "NAME" not in stop.accepted:
        return None
    return f'{_in_words(stop)[0]} is missing before {stop.found}; a keyword is a name only in quotes: "{stop.found}"'


def _construct(stop: _Stop) -> str:
    """The statement or clause that was being written."""
    return next((kind for kind in _clauses(stop) if kind in FORMS or kind in NAMED_IN or kind == "WHERE"), "")


def _clauses(stop: _Stop) -> list[str]:
    """The kinds of the tokens read, last one first, without the BY that only ends a phrase."""
    kinds = [_kind(token) for token in stop.read]
    pairs = zip(["", *kinds], kinds, strict=False)
    clauses = [kind for before, kind in pairs if not (kind == "BY" and before in FIRST_HALVES["BY"])][::-1]
    # In REGISTER … FROM stands a place, where it is a relation elsewhere.
    return ["REGISTER", *clauses] if clauses[:1] == ["FROM"] and "REGISTER" in _statement(kinds) else clauses


def _statement(kinds: list[str]) -> list[str]:
    """The kinds of the tokens behind the last semicolon."""
    ends = [index for index, kind in enumerate(kinds) if kind == "SEMICOLON"]
    return kinds[ends[-1] + 1 :] if ends else kinds


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
    elif "NUMBER" in accepted:
        words.append("a number")
    elif "NAME" in accepted and stop.previous not in ("NAME", "STRING"):
        clause = next((kind for kind in _clauses(stop) if kind in NAMED_IN), "")
        after = "THAN" if "SELECT" in accepted and stop.previous == "AS" else stop.previous
        words.append(NAMED_AFTER.get(after) or NAMED_IN.get(clause, "a name"))
    words += [phrase for word, phrase in PHRASES.items() if word in accepted]
    words += [sign for terminal, sign in SIGNS.items() if terminal in accepted]
    return words
