"""What can stand where the cursor is: keywords, relations, columns, rankers, and names of the catalog."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from shiftql.relations import RELATION_NAMES, RELATIONS, Relation
from shiftql.vocabulary import KEYWORDS, RESERVED
from storage.errors import BindingError
from storage.names import fold
from tasks.rankers.specs import RANKERS, find_ranker


class CatalogNames(Protocol):
    """The names in the catalog, looked up when they are needed."""

    @property
    def models(self) -> Sequence[str]: ...

    @property
    def datasets(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class Suggestion:
    """`text` may take the place of the last `replaces` characters before the cursor; `kind` says what it is."""

    text: str
    replaces: int
    kind: str


_TOKEN = re.compile(
    r"""
    (?P<comment>(--|\#)[^\n]*)
  | (?P<string>'[^'\n]*'? | "[^"\n]*"? | `[^`\n]*`?)
  | (?P<word>\w+(-\w+)*(-(?!-))?)
  | (?P<sign>[<>=!]+ | \S)
    """,
    re.VERBOSE,
)
_BARE_NAME = re.compile(r"[^\W\d]\w*(-\w+)*")
_CLAUSES = {"SELECT", "FROM", "WHERE", "ORDER BY", "CLASSIFIED BY", "TRAINED ON", "TESTED ON", "LIMIT"}
_OPERATORS = {"=", "==", "!=", "<>"}
# Words that begin the two-word keywords.
_FIRST_WORDS = {keyword.phrase.split()[0] for keyword in KEYWORDS if " " in keyword.phrase}


def suggest(text: str, cursor: int, names: CatalogNames) -> list[Suggestion]:
    """What can stand at the cursor and begins as the word before it does, in any spelling.

    Where no name is called for, nothing is suggested before a word is begun.
    """
    tokens = list(_TOKEN.finditer(text, 0, cursor))
    typed = ""
    if tokens and tokens[-1].end() == cursor:
        last = tokens[-1]
        if last["comment"]:
            return []
        if last["word"] or (last["string"] and not _is_closed(last["string"])):
            typed = tokens.pop().group()
    statement = _last_statement(tokens)
    rest = text[statement[0].start() if statement else 0 :]
    candidates = _candidates(_phrases(statement), _relation(rest), is_begun=bool(typed), names=names)
    return [
        Suggestion(
            _quoted(candidate, typed) if kind in ("dataset", "model", "ranker") else candidate,
            len(typed),
            kind,
        )
        for candidate, kind in candidates
        if fold(candidate).startswith(fold(typed))
    ]


def _is_closed(string: str) -> bool:
    return len(string) > 1 and string[-1] == string[0]


def _last_statement(tokens: list[re.Match[str]]) -> list[re.Match[str]]:
    ends = [index for index, token in enumerate(tokens) if token["sign"] == ";"]
    return [token for token in tokens[ends[-1] + 1 if ends else 0 :] if not token["comment"]]


def _phrases(tokens: Iterable[re.Match[str]]) -> list[str]:
    """The tokens in capitals, two-word keywords joined."""
    phrases: list[str] = []
    for token in tokens:
        word = token.group().upper()
        if phrases and phrases[-1] in _FIRST_WORDS and f"{phrases[-1]} {word}" in _CLAUSES:
            phrases[-1] += f" {word}"
        else:
            phrases.append(word)
    return phrases


def _relation(statement: str) -> Relation:
    """The relation selected from, which may stand behind the cursor; models where none is known yet."""
    found = re.search(r"\bFROM\s+(\w+)", statement, re.IGNORECASE)
    by_fold = {fold(alias): name for alias, name in RELATION_NAMES.items()}
    return RELATIONS[by_fold.get(fold(found[1]) if found else "", "models")]


def _candidates(
    phrases: list[str], relation: Relation, *, is_begun: bool, names: CatalogNames
) -> list[tuple[str, str]]:
    keywords = [(keyword.phrase, "keyword") for keyword in KEYWORDS]
    if not phrases:
        return [(phrase, kind) for phrase, kind in keywords if phrase in ("SELECT", "EXPLAIN")]
    clause = next((phrase for phrase in reversed(phrases) if phrase in _CLAUSES), "")
    previous = phrases[-1]
    if clause in ("ORDER BY", "CLASSIFIED BY") and (ranker := _open_call(phrases)):
        return _arguments(ranker) if previous in ("(", ",") else []
    if previous in (clause, ",", "[") or (clause == "WHERE" and previous in ("AND", "OR", "NOT", "(")):
        return _names_of(clause, relation, names)
    if clause == "WHERE" and previous in _OPERATORS:
        return _values(phrases, relation, names)
    return keywords if is_begun else []


def _names_of(clause: str, relation: Relation, names: CatalogNames) -> list[tuple[str, str]]:
    """What a clause names."""
    columns = [(column, "column") for column in relation.columns]
    rankers = [(spec.label, "ranker") for spec in RANKERS.values()]
    match clause:
        case "SELECT":
            return [*columns, ("DISTINCT", "keyword"), ("ALL", "keyword")]
        case "FROM":
            return [(name, "relation") for name in RELATION_NAMES]
        case "WHERE":
            return [*columns, ("NOT", "keyword")]
        case "ORDER BY":
            return [*columns, *rankers]
        case "CLASSIFIED BY":
            return rankers
        case "TRAINED ON" | "TESTED ON":
            return [(name, "dataset") for name in names.datasets]
        case _:
            return []


def _open_call(phrases: list[str]) -> str | None:
    """The ranker whose arguments are being written."""
    if "(" not in phrases or ")" in phrases[_last(phrases, "(") :]:
        return None
    return phrases[_last(phrases, "(") - 1]


def _last(phrases: list[str], phrase: str) -> int:
    return len(phrases) - 1 - phrases[::-1].index(phrase)


def _arguments(ranker: str) -> list[tuple[str, str]]:
    try:
        return [(f"{argument.name}=", "argument") for argument in find_ranker(ranker).arguments]
    except BindingError:
        return []


def _values(phrases: list[str], relation: Relation, names: CatalogNames) -> list[tuple[str, str]]:
    """What a column may be compared with, where the catalog tells."""
    column = fold(phrases[-2])
    if relation is RELATIONS["datasets"]:
        return [(name, "dataset") for name in names.datasets] if column == "name" else []
    return [(name, "model") for name in names.models] if column in ("name", "model", "modelname") else []


def _quoted(name: str, typed: str) -> str:
    """The name as it can be written: in the quotes begun with, or bare where that is a name."""
    if typed[:1] not in ("'", '"', "`") and _BARE_NAME.fullmatch(name) and name.upper() not in RESERVED:
        return name
    quote = typed[0] if typed[:1] in ("'", '"', "`") else '"'
    return f"{quote}{name.replace(quote, quote * 2)}{quote}"
