"""What can stand where the cursor is, as the grammar and the catalog have it.

The parser reads the statement up to the cursor and says which terminals it accepts there. Where one of them is a
name, the innermost keyword that is open on its stack says what is named: a dataset after TRAINED ON.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lark import Token, Tree
from lark.exceptions import LarkError, UnexpectedToken

from shiftql.parser import AGGREGATES, MAX_NESTING, lark_parser
from shiftql.printer import as_name, quoted
from shiftql.published import ORIGINS
from shiftql.reference import topics
from shiftql.relations import RELATION_NAMES, RELATIONS, Relation, relation_named
from shiftql.shortcuts import SHORTCUTS, CatalogNames, is_shortcut
from shiftql.vocabulary import KEYWORD_WORDS, KEYWORDS, PURGED, RESERVED, SHOWN
from storage.catalog import DATASET_MODALITIES, DATASET_TASKS
from storage.errors import BindingError
from storage.names import fold
from tasks.rankers.specs import RANKERS, RankerSpec, all_rankers, find_ranker


class KnownNames(CatalogNames, Protocol):
    """The names in the catalog and in the session, looked up when they are needed."""

    @property
    def declared(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class Suggestion:
    """`text` may take the place of the last `replaces` characters before the cursor; `kind` says what it is."""

    text: str
    replaces: int
    kind: str


Candidates = list[tuple[str, str]]

_WORD = re.compile(
    r"""
    (?P<comment>(--|\#)[^\n]*)
  | (?P<string>'[^'\n]*'? | "[^"\n]*"? | `[^`\n]*`?)
  | (?P<word>\w+(-\w+)*(-(?!-))?(\.(\w+(-\w+)*(-(?!-))?)?)?)
  | (?P<sign>[<>=!]+ | \S)
    """,
    re.VERBOSE,
)
_HELP = re.compile(r"\s*(HELP|\\h)\s+(?P<topic>.*)", re.IGNORECASE | re.DOTALL)
_QUOTES = "'\"`"
_QUOTED_KINDS = {"dataset", "model", "ranker", "declared", "value"}

# By its first word, which is what the parser accepts of a keyword of two.
_PHRASES = {keyword.phrase.split()[0]: keyword for keyword in KEYWORDS}
# What a name can follow, besides a keyword.
_SIGNS = {"COMMA", "LPAR", "LSQB", "OPERATOR", "EQUAL"}
# Terminals that match whatever is no token at all.
_CATCH_ALL = {"TOPIC", "URL"}
_SET_OPERATORS = {"UNION", "EXCEPT", "INTERSECT"}
_ONCE_IN_A_SELECT = {
    word for word, keyword in _PHRASES.items() if keyword.role == "clause" and word not in {*_SET_OPERATORS, "NATURAL"}
}
# Suggested only of the columns that they are values of.
_TRUTHS = frozenset({"TRUE", "FALSE"})
_VALUES = {
    "model.modality": ("image", "text"),
    "dataset.modality": DATASET_MODALITIES,
    "model.finetuned": ("TRUE", "FALSE"),
    "model.trusted": ("TRUE", "FALSE"),
    "dataset.task": DATASET_TASKS,
    "result.method": tuple(RANKERS),
    "result.origin": ORIGINS,
}


def suggest(text: str, cursor: int, names: KnownNames) -> list[Suggestion]:
    """What can stand at the cursor and begins as the word before it does, in any spelling; names before keywords."""
    words = list(_WORD.finditer(text))
    before = [word for word in words if word.start() < cursor]
    if before and before[-1]["comment"] and before[-1].end() >= cursor:
        return []
    words = [word for word in words if not word["comment"]]
    begin = next((word.end() for word in reversed(before) if word["sign"] == ";"), 0)
    if help := _HELP.match(text[begin:cursor]):
        typed = help["topic"]
        candidates = _all(topics(), "topic")
    elif is_shortcut(text):
        word, blank, argument = text[:cursor].lstrip().partition(" ")
        typed = argument if blank else word
        candidates = _after_shortcut(word, names) if blank else [(each.word, "shortcut") for each in SHORTCUTS]
    else:
        typed = _typed(before, text, cursor)
        scope = _scope_at(cursor - len(typed), words)
        candidates = _candidates(text[begin : cursor - len(typed)], typed, scope, names)
    return [
        Suggestion(_written(name, typed) if kind in _QUOTED_KINDS else name, len(typed), kind)
        for name, kind in dict.fromkeys(candidates)
        if _begins(name, typed.lstrip(_QUOTES))
    ]


def _after_shortcut(word: str, names: KnownNames) -> Candidates:
    if any(each.word == word.lower() and each.argument == "NAME" for each in SHORTCUTS):
        return [*_all(RELATION_NAMES, "relation"), *_all(names.models, "model"), *_all(names.datasets, "dataset")]
    return []


def _typed(before: Sequence[re.Match[str]], text: str, cursor: int) -> str:
    """The part before the cursor of the word or string that the cursor stands in or after."""
    if not before or before[-1].end() < cursor or before[-1]["sign"]:
        return ""
    typed = text[before[-1].start() : cursor]
    is_closed = before[-1]["string"] and len(typed) > 1 and typed[-1] == typed[0]
    return "" if is_closed else typed


def _begins(name: str, typed: str) -> bool:
    folded = fold(typed)
    return name.lower().startswith(typed.lower()) or (folded != "" and fold(name).startswith(folded))


def _written(name: str, typed: str) -> str:
    """The name as it can be written: in the quotes begun with, or bare where that is a name."""
    return quoted(name, typed[0]) if typed.startswith(tuple(_QUOTES)) else as_name(name)


@dataclass(frozen=True)
class _Scope:
    """The SELECT around the cursor, on both sides of it: its clauses, and the relations it names by their alias."""

    clauses: frozenset[str]
    relations: Mapping[str, Relation]

    def columns(self, qualifier: str = "") -> list[str]:
        """The columns of every relation, or of the one `qualifier` stands for; of models where none is named."""
        relations = [relation for alias, relation in self.relations.items() if fold(qualifier) in ("", alias)]
        if not relations and not qualifier:
            relations = [RELATIONS["models"]]
        return list(dict.fromkeys(column for relation in relations for column in relation.columns))

    def entity(self, column: str) -> str:
        """What a column, by any of its names, tells apart, as "model.name"."""
        for relation in self.relations.values():
            names = {fold(alias): name for alias, name in relation.aliases.items()}
            names |= {fold(name): name for name in relation.columns}
            name = names.get(fold(column))
            if name is not None:
                return relation.entities.get(name, name)
        return ""


def _scope_at(cursor: int, words: Sequence[re.Match[str]]) -> _Scope:
    here = next((index for index, word in enumerate(words) if word.start() >= cursor), len(words))
    spelt = [word.group().upper() for word in words]
    return _scope(spelt, _begin(spelt, here))


def _begin(words: Sequence[str], here: int) -> int:
    """The SELECT or RANK that belongs to `here`, outside of brackets closed before it; else the statement's begin."""
    depth = 0
    for index in range(here - 1, -1, -1):
        word = words[index]
        if word == ";":
            return index + 1
        if word in (")", "]"):
            depth += 1
        elif word in ("(", "["):
            depth = max(0, depth - 1)
        elif depth == 0 and word in ("SELECT", "RANK"):
            return index
    return 0


def _scope(words: Sequence[str], begin: int, nesting: int = 0) -> _Scope:
    level = list(_level(words, begin))
    clauses = frozenset(words[index] for index in level)
    # RANK may name what it ranks without a FROM.
    ranked = begin if words[begin : begin + 1] == ["RANK"] else None
    after = next((index for index in level if words[index] == "FROM"), ranked)
    relations: dict[str, Relation] = {}
    latest: Relation | None = None
    for index in (index for index in level if after is not None and index > after):
        word = words[index].strip(_QUOTES)
        if word == "AS":
            continue
        if word == "(" and nesting < MAX_NESTING:
            relations |= _scope(words, index + 1, nesting + 1).relations
        elif word in ("NATURAL", "JOIN"):
            latest = None
        elif word in RESERVED:
            break
        elif latest is None:
            latest = relation_named(word)
            if latest:
                relations[fold(word)] = latest
        else:
            relations[fold(word)] = latest
    return _Scope(clauses, relations)


def _level(words: Sequence[str], begin: int) -> Iterator[int]:
    """The places of a SELECT that are outside of its brackets, or open one."""
    depth = 0
    for index in range(begin, len(words)):
        word = words[index]
        if word in (")", "]"):
            depth -= 1
            if depth < 0:
                return
        elif depth == 0:
            if word == ";" or word in _SET_OPERATORS:
                return
            yield index
        if word in ("(", "["):
            depth += 1


def _candidates(text: str, typed: str, scope: _Scope, names: KnownNames) -> Candidates:
    stack, accepted = _read(text)
    if "." in typed and typed[0] not in _QUOTES:
        qualifier = typed.partition(".")[0]
        columns = scope.columns(qualifier) if "QUALIFIED" in accepted else []
        return [(f"{qualifier}.{column}", "column") for column in columns]
    named = _Place(stack, accepted, scope, names).named() if "NAME" in accepted else []
    superfluous = scope.clauses & _ONCE_IN_A_SELECT
    if superfluous & {"WAIT", "NOWAIT"}:
        superfluous |= {"WAIT", "NOWAIT"}
    superfluous = (superfluous | _TRUTHS) - {typed.upper()}
    keywords = [
        (_PHRASES[word].phrase if word in _PHRASES else word, "keyword")
        for word in KEYWORD_WORDS
        if word in accepted and word not in superfluous
    ]
    return [*named, *keywords]


def _read(text: str) -> tuple[list[Token | Tree[Any]], set[str]]:
    """What is open on the parser's stack after `text`, and the terminals it accepts next; none where it is lost.

    A token that cannot stand where it does is read as if a name had been left out before it, or else passed over:
    `SELECT FROM models` is a question whose columns are still to be written.
    """
    parser = lark_parser().parse_interactive(text, start="start")
    while True:
        try:
            parser.exhaust_lexer()
            break
        except UnexpectedToken as error:
            if error.token.type in _CATCH_ALL:
                return [], set()
            if "NAME" in parser.accepts():
                parser.feed_token(Token("NAME", "?"))
                if error.token.type in parser.accepts():
                    parser.feed_token(error.token)
        except LarkError:
            return [], set()
    return list(parser.parser_state.value_stack), {terminal.lstrip("_") for terminal in parser.accepts()}


class _Place:
    """The place behind what the parser has read, where a name may stand."""

    def __init__(
        self, stack: Sequence[Token | Tree[Any]], accepted: set[str], scope: _Scope, names: KnownNames
    ) -> None:
        self._stack = stack
        self._kinds = [each.type.lstrip("_") if isinstance(each, Token) else "" for each in stack]
        self._accepted = accepted
        self._scope = scope
        self._names = names

    def named(self) -> Candidates:
        """The names that are called for."""
        last = self._kinds[-1] if self._kinds else ""
        if last not in KEYWORD_WORDS and last not in _SIGNS:
            return []
        place = max((index for index, kind in enumerate(self._kinds) if kind in KEYWORD_WORDS), default=0)
        keyword = self._kinds[place]
        call = self._open_call(place)
        if call is not None:
            return self._arguments(call)
        if (keyword == "IN" and last != "IN") or (last == "OPERATOR" and "NUMBER" in self._accepted):
            return self._values()
        if keyword in ("FROM", "JOIN", "RANK") and last == keyword and "REGISTER" not in self._kinds:
            return [*_all(RELATION_NAMES, "relation"), *self._declared()]
        if keyword == "BY":
            metrics = ("acc", "err", *(f"{function.upper()}(" for function in AGGREGATES))
            columns = self._columns() + _all(metrics, "metric") if "QUALIFIED" in self._accepted else []
            return [*self._rankers(), *columns]
        if "QUALIFIED" in self._accepted:
            return self._columns()
        if keyword == "BENCHMARK":
            return [*self._declared(), *self._datasets()]
        if keyword in ("ON", "TASK", "TO", "WITH"):
            return self._datasets()
        if keyword == "FINETUNE" and last != "LPAR":
            return _all(self._names.models, "model")
        if keyword in ("SHOW", "PURGE"):
            return _all(SHOWN if keyword == "SHOW" else PURGED, "keyword")
        if "SELECT" in self._accepted or last in ("THAN", "IN"):
            return self._declared()
        return []

    def _open_call(self, place: int) -> int | None:
        """Where the bracket of the ranker or of the settings stands whose arguments are being written."""
        opened = [index for index in range(place + 1, len(self._kinds)) if self._kinds[index] == "LPAR"]
        takes_arguments = self._kinds[place] in ("BY", "WITH") and "SELECT" not in self._accepted
        return opened[-1] if opened and takes_arguments else None

    def _arguments(self, call: int) -> Candidates:
        """The arguments that are not given yet, or the values of the one being given."""
        spec = RANKERS["finetune"] if "FINETUNE" in self._kinds else self._ranker(call)
        if spec is None or "REGISTER" in self._kinds:
            return []
        inside = self._kinds[call + 1 :]
        if "EQUAL" in inside:
            named = fold(str(self._stack[call + inside.index("EQUAL")]))
            chosen = [each for each in spec.arguments if named in map(fold, (each.name, *each.aliases))]
            return _all((str(value) for each in chosen for value in each.allowed), "value")
        if "LSQB" in inside:
            return []
        given = self._given(spec, call)
        return [(f"{each.name}=", "argument") for each in spec.arguments if each.name not in given]

    def _ranker(self, call: int) -> RankerSpec | None:
        try:
            return find_ranker(str(self._stack[call - 1]).strip(_QUOTES))
        except BindingError:
            return None

    def _given(self, spec: RankerSpec, call: int) -> set[str]:
        trees = [each for each in self._stack[call + 1 :] if isinstance(each, Tree)]
        arguments = [argument for tree in trees for argument in tree.find_data("argument")]
        names = {fold(str(argument.children[0])) for argument in arguments if argument.children[0] is not None}
        by_place = sum(argument.children[0] is None for argument in arguments)
        return {
            each.name
            for index, each in enumerate(spec.arguments)
            if index < by_place or names & set(map(fold, (each.name, *each.aliases)))
        }

    def _values(self) -> Candidates:
        """What the column on the left may be compared with, where the catalog tells."""
        trees = (each for each in reversed(self._stack) if isinstance(each, Tree) and each.data == "column")
        column = str(next(trees, Tree("column", [""])).children[0]).strip(_QUOTES)
        entity = self._scope.entity(column.rpartition(".")[2])
        if entity == "model.name":
            return _all(self._names.models, "model")
        if entity == "dataset.name":
            return self._datasets()
        return _all(_VALUES.get(entity, ()), "value")

    def _rankers(self) -> Candidates:
        ranked = "datasets" if RELATIONS["datasets"] in self._scope.relations.values() else "models"
        return _all((spec.label for spec in all_rankers() if spec.ranks == ranked), "ranker")

    def _columns(self) -> Candidates:
        return _all(self._scope.columns(), "column")

    def _datasets(self) -> Candidates:
        return _all(self._names.datasets, "dataset")

    def _declared(self) -> Candidates:
        return _all(self._names.declared, "declared")


def _all(names: Iterable[str], kind: str) -> Candidates:
    return [(name, kind) for name in names]
