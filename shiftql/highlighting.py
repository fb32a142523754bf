"""Colours for SHiFT-QL: a pygments lexer, for the prompt, the documentation and whoever asks pygments for `shiftql`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, ClassVar

from pygments.lexer import RegexLexer
from pygments.token import Comment, Keyword, Name, Number, Operator, Punctuation, String, Text

from shiftql.parser import AGGREGATES
from shiftql.relations import RELATION_NAMES, RELATIONS
from shiftql.vocabulary import KEYWORD_WORDS, RESERVED
from storage.names import fold
from tasks.rankers.specs import RANKERS

_CONSTANTS = frozenset({"TRUE", "FALSE", "NULL"})
_BUILT_IN: dict[str, Any] = {
    **{
        fold(column): Name.Attribute
        for relation in RELATIONS.values()
        for column in (*relation.columns, *relation.aliases)
    },
    **{fold(name): Name.Class for name in RELATION_NAMES},
    **{fold(function): Name.Function for function in AGGREGATES},
    **{fold(name): Name.Function for spec in RANKERS.values() for name in (spec.name, *spec.aliases)},
}


def _kind_of(word: str) -> Any:
    """A keyword that may be a name is one in capitals, or where nothing is called so: `task` is a column, TASK not."""
    is_keyword = word.upper() in KEYWORD_WORDS
    if word.upper() in _CONSTANTS:
        return Keyword.Constant
    if is_keyword and (word.upper() in RESERVED or word.isupper()):
        return Keyword
    return _BUILT_IN.get(fold(word)) or (Keyword if is_keyword else Name)


class ShiftQLLexer(RegexLexer):
    """Statements of SHiFT-QL, finished or not; characters that are none of it become error tokens."""

    name = "SHiFT-QL"
    aliases: ClassVar = ["shiftql"]
    filenames: ClassVar = ["*.shiftql"]
    mimetypes: ClassVar = ["text/x-shiftql"]

    def _word(self, match: re.Match[str]) -> Iterator[tuple[int, Any, str]]:
        yield match.start(), _kind_of(match.group()), match.group()

    tokens: ClassVar = {
        "root": [
            (r"\s+", Text),
            (r"(--|#)[^\n]*", Comment.Single),
            (r"'([^'\n]|'')*'?", String.Single),
            (r'"([^"\n]|"")*"?', String.Double),
            (r"`([^`\n]|``)*`?", String.Backtick),
            (r"(\d+(\.\d+)?[smhd])+(?![\w.])", Number),
            (r"-?(\d+\.\d*|\.\d+)([eE][-+]?\d+|[kmbKMB])?(?![\w.])", Number.Float),
            (r"-?\d+([eE][-+]?\d+|[kmbKMB])?(?![\w.])", Number.Integer),
            (r"[^\W\d]\w*(-\w+)*", _word),
            (r"==?|!=|<>|<=?|>=?|\*", Operator),
            (r"[()\[\],;.:/]", Punctuation),
            (r"\\[a-z?]", Keyword.Pseudo),
        ]
    }
