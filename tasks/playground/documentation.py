"""Sentences from the docstrings of installed packages."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

SENTENCES_PER_PACKAGE = 1000  # no more files are read once there are this many
WORDS = range(6, 31)  # sentences shorter or longer than this say nothing or are no sentences


@cache
def documentation(package: str) -> tuple[str, ...]:
    """Sentences of the docstrings of an importable package or one of its parts, each once, in file order.

    The package is found, read and parsed, never run; its own name is left out of every sentence.
    """
    name, *parts = package.split(".")
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(package)
    root = Path(spec.origin).parent.joinpath(*parts)
    own_name = re.compile(rf"\b{re.escape(name)}\b", re.IGNORECASE)
    sentences: dict[str, None] = {}
    for file in sorted(root.rglob("*.py")):
        if "test" in file.relative_to(root).as_posix():
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                for sentence in _sentences(ast.get_docstring(node) or ""):
                    sentences[" ".join(own_name.sub(" ", sentence).split())] = None
        if len(sentences) >= SENTENCES_PER_PACKAGE:
            break
    return tuple(sentences)


def _sentences(docstring: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", docstring):
        if re.search(r">>>|---|===|\.\. ", paragraph):
            continue
        for sentence in re.split(r"(?<=[.!?])\s+", " ".join(paragraph.split())):
            words = re.findall(r"[A-Za-z]+", sentence)
            if len(words) in WORDS and sentence.isascii() and re.fullmatch(r"[A-Z].*\.", sentence):
                yield sentence
