"""The words of SHiFT-QL, for error messages, completion and the documentation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keyword:
    """A keyword, or the two words of a clause, and what it is for in one line.

    A reserved word is a keyword wherever it stands and must be quoted as a name; the others are names wherever
    no keyword can stand.
    """

    phrase: str
    help: str
    is_reserved: bool = True


KEYWORDS: tuple[Keyword, ...] = (
    Keyword("SELECT", "ask a question: SELECT name FROM models"),
    Keyword("EXPLAIN", "how a question would be answered and at what cost, without answering: EXPLAIN SELECT …"),
    Keyword("DISTINCT", "every different row once: SELECT DISTINCT architecture FROM models"),
    Keyword("ALL", "every column, as *: SELECT ALL FROM models", is_reserved=False),
    Keyword("FROM", "what is asked about: FROM models"),
    Keyword("AS", "another name for a column or a relation: num_params AS size"),
    Keyword("WHERE", "the condition a row must meet: WHERE num_params < 10M AND modality = image"),
    Keyword("ORDER BY", "a column or a ranker, best first: ORDER BY Linear(lr=0.1)"),
    Keyword("CLASSIFIED BY", 'rankers, one ranking each: ORDER BY acc CLASSIFIED BY [Linear, "Cosine NN"]'),
    Keyword("TRAINED ON", "the dataset, or list of datasets, to learn from: TRAINED ON digits-train"),
    Keyword("TESTED ON", "the dataset, or list of datasets, to be measured on: TESTED ON digits-test"),
    Keyword("LIMIT", "how many rows at most: LIMIT 10"),
    Keyword("ASC", "smallest value or loss first (the default): ORDER BY num_params ASC"),
    Keyword("DESC", "the other way round: ORDER BY num_params DESC"),
    Keyword("AND", "both conditions hold: num_params < 10M AND finetuned"),
    Keyword("OR", "at least one condition holds: source = torch OR source = tfhub"),
    Keyword("NOT", "the condition does not hold: NOT finetuned"),
    Keyword("BETWEEN", "from one value to another, both included: image_size BETWEEN 32 AND 224"),
    Keyword("IN", "one of several values: source IN (huggingface, tfhub)"),
    Keyword("IS", "whether there is a value: upstream_accuracy IS NOT NULL"),
    Keyword("NULL", "no value: upstream_accuracy IS NULL"),
    Keyword("LIKE", "a pattern, % for any characters and _ for one: name LIKE 'resnet%'"),
    Keyword("TRUE", "the value true: trusted = TRUE", is_reserved=False),
    Keyword("FALSE", "the value false: trusted = FALSE", is_reserved=False),
)

RESERVED: frozenset[str] = frozenset(
    word for keyword in KEYWORDS if keyword.is_reserved for word in keyword.phrase.split()
)
