"""What HELP answers and docs/language.md shows, made from the vocabulary, the relations and the rankers.

`python -m shiftql.reference > docs/language.md` writes the page anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from textwrap import indent, wrap

from shiftql.published import ORIGINS
from shiftql.relations import RELATION_NAMES, RELATIONS
from shiftql.shortcuts import SHORTCUTS
from shiftql.vocabulary import KEYWORDS, PURGED, SHOWN
from storage.errors import BindingError
from storage.names import did_you_mean, fold
from tasks.rankers.specs import RANKERS, Argument, RankerSpec, all_rankers


@dataclass(frozen=True)
class Topic:
    """Something to be explained: its `summary` in one line, more `details` a line each, and examples that run."""

    name: str
    kind: str
    summary: str
    examples: tuple[str, ...]
    details: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


# Every kind of topic, and the heading it stands under. The kinds in plural are topics too, which list theirs.
KINDS = {
    "clause": "Clauses of SELECT",
    "relation": "Relations",
    "column": "Columns",
    "ranker": "Rankers",
    "operator": "Conditions",
    "subject": "How things are written",
    "statement": "Statements",
    "word": "Other keywords",
}

SHAPE = """\
SELECT   what to show           name, num_params
FROM     what is asked about    models
WHERE    which of them          num_params < 10M AND modality = image
ORDER BY a column or a ranker   Linear
TRAINED ON … TESTED ON …        the dataset a ranker learns from and is measured on
LIMIT    how many               5"""

WORKED = (
    (
        "Which small image model was best at what it was pre-trained on? No dataset is named and no model is opened: "
        "the catalog knows.",
        "SELECT name, num_params, upstream_accuracy FROM image_models\n"
        "WHERE num_params < 10M ORDER BY upstream_accuracy DESC LIMIT 1",
    ),
    (
        "Which model should be fine-tuned to read drawn digits? Every model that takes images embeds both splits, a "
        "linear classifier is trained on the embeddings, and its accuracy on the test split is the score. Asked "
        "again, the answer comes at once: nothing is measured twice.",
        "SELECT name, upstream_accuracy FROM models WHERE num_params < 10M\n"
        "ORDER BY Linear TRAINED ON drawn-digits-train TESTED ON drawn-digits-test LIMIT 5",
    ),
    (
        "What would that cost? EXPLAIN shows the plan, what is known already, and what is left to compute.",
        "EXPLAIN SELECT name FROM models ORDER BY FineTune(epochs=5)\n"
        "TRAINED ON drawn-digits-train TESTED ON drawn-digits-test",
    ),
    (
        "Do two proxies agree? Both work on the same embeddings, and each gives a ranking of its own.",
        'SELECT name FROM models ORDER BY acc CLASSIFIED BY [Linear(lr=0.1), "Cosine NN"(k=5)]\n'
        "TRAINED ON counting-shapes-train TESTED ON counting-shapes-test",
    ),
    (
        "What if some rows are replaced? The question stays the same, and only the rows that changed are embedded.",
        "SELECT name FROM models ORDER BY Linear\n"
        "TRAINED ON (drawn-digits-train CHANGE [0, 1, 2] TO drawn-digits-test [0, 1, 2])\n"
        "TESTED ON drawn-digits-test",
    ),
)

_SUBJECTS = (
    Topic(
        "names and strings",
        "subject",
        "how names, strings and comments are written",
        (
            "SELECT NumParams FROM Models WHERE architecture = 'ViTForImageClassification'",
            "SELECT name -- of every text model\nFROM text_models",
        ),
        (
            'Keywords and built-in names have no case; num_params, NumParams and "Num Params" are one name.',
            "Strings and names stand in '…', \"…\" or `…`; inside, the quote is written twice.",
            "A bare word on the right of a comparison is a string; a qualified one, as results.name, is a column.",
            "-- and # start a comment that goes on to the end of the line. A statement ends at ;",
        ),
        ("name", "string", "comment"),
    ),
    Topic(
        "numbers and durations",
        "subject",
        "10M is ten million, 30m is half an hour",
        (
            "SELECT name FROM models WHERE num_params BETWEEN 50K AND 1.5M",
            "SELECT name FROM models ORDER BY Linear TRAINED ON drawn-digits-train TESTED ON drawn-digits-test\n"
            "WITHIN 1h30m",
        ),
        (
            "Numbers take K, M and B (thousand, million, billion) in any case: 10M, 1.5k, 2B.",
            "After BUDGET, WITHIN and EVERY, small s, m, h and d are seconds, minutes, hours and days: 90s, 1h30m.",
            "BUDGET 160 are pulls, BUDGET 500 EPOCHS are epochs, BUDGET 2h is the sum of all evaluations' time.",
        ),
        ("numbers", "durations", "time"),
    ),
    Topic(
        "datasets to learn from",
        "subject",
        "what stands after TRAINED ON and TESTED ON",
        (
            "SELECT name FROM models ORDER BY Linear TRAINED ON [drawn-digits-train] TESTED ON [drawn-digits-test]",
            "SELECT name FROM models ORDER BY Linear\n"
            "TRAINED ON (drawn-digits-train CHANGE [0, 1] TO drawn-digits-test [7, 8]) TESTED ON drawn-digits-test",
        ),
        (
            "A registered dataset by its name, or a file or folder by its path: TRAINED ON './photos'.",
            "Several in brackets are joined into one: [a, b].",
            "(d CHANGE [i, …] TO e [j, …]) is d with its rows i replaced by rows j of e; rows count from 0.",
            "A ranker that is measured on a test split needs TESTED ON too; LEEP and its like never see one.",
        ),
        ("trained", "tested"),
    ),
    Topic(
        "sets",
        "subject",
        "combining the answers of several questions",
        (
            "DECLARE small AS SELECT name FROM image_models WHERE num_params < 100K;\n"
            "SELECT name FROM image_models WHERE name NOT IN small",
            "SELECT name FROM models WHERE modality = image\nEXCEPT SELECT name FROM models WHERE num_params < 100K",
        ),
        (
            "UNION, EXCEPT and INTERSECT stand between questions, declared names and parentheses; "
            "INTERSECT binds more tightly.",
            "OTHER THAN x leaves out what x answers; NOT IN x compares one column with it.",
            "A declared name lives as long as the file or the prompt does.",
        ),
        ("set operations",),
    ),
    Topic(
        "aggregates",
        "subject",
        "SUM, AVG, MIN and MAX of a metric over a set of datasets",
        (
            "DECLARE images AS SELECT name FROM datasets WHERE modality = image;\n"
            "SELECT name FROM image_models ORDER BY AVG(err) TESTED ON BENCHMARK images",
        ),
        ("Models are ordered by the statistic over the recorded results on every dataset of the set.",),
        ("sum", "avg", "min", "max"),
    ),
    Topic(
        "published results",
        "subject",
        "fine-tunings that others published stand in benchmark_results beside your own",
        (
            "SELECT model_name, accuracy FROM benchmark_results WHERE dataset_name = 'caltech101'"
            " ORDER BY accuracy DESC LIMIT 5",
            "SELECT dataset_name, model_name, accuracy FROM benchmark_results WHERE origin = vision_1k"
            " RETRIEVE 2 GRP dataset_name ORD accuracy DESC",
            "SELECT name, dataset_name, accuracy FROM models NATURAL JOIN benchmark_results WHERE origin != measured",
        ),
        (
            "origin says from where a row is, protocol how it came about; accuracies of two origins do not compare.",
            "RETRIEVE takes a group from one origin: measured where there is any, else the first of "
            f"{', '.join(ORIGINS[1:])}. WHERE origin = … chooses.",
            "AVG(err) and its kin are over registered datasets, and so over what was measured here alone.",
            "A model is the registered one whose name or handle is the published name, also spelled org--name.",
        ),
    ),
    Topic(
        "shortcuts",
        "subject",
        "what can be typed at the prompt in two characters, ended by Enter",
        ("SHOW MODELS",),
        tuple(
            f"{shortcut.word}{f' [{shortcut.argument}]' if shortcut.argument else ''}: {shortcut.help}"
            for shortcut in SHORTCUTS
        ),
    ),
    Topic(
        "answers as JSON",
        "subject",
        "what --format json prints, one object a statement",
        ("SELECT name FROM models LIMIT 1",),
        (
            '"statement", "kind" (rows, ranking, explain, done or error) and "seconds" are always there.',
            'rows: "rows", a list of objects by column.',
            'ranking: "ranking", a list with "rank", "model", "score", "metric", "higher_is_better", "low", "high",'
            ' "tied", "n_test" and "layer"; "rankings" by ranker where there are several; "failed"; "evaluated" and'
            ' "reused" counts; "partial"; where it is, trainings that are "begun"; "work"; of FINETUNE also "kept",'
            ' with "name", "path" and "load" (two lines of Python), or null.',
            '"low" and "high" are the 95 % interval of the score; "tied" models cannot be told from the first one on'
            ' this test set; rows with "baseline" are no models, trainings that are "collapsed" tell all rows alike.',
            'error: "error" with "type", "message", "line" and "column".',
        ),
        ("json", "format"),
    ),
)

# What may be asked of a column, where IS NOT NULL would say little.
_CONDITIONS = {
    "model_id": "model_id = 1",
    "name": "name LIKE '%s%'",
    "source": "source = huggingface",
    "modality": "modality = image",
    "architecture": "architecture LIKE 'ViT%'",
    "num_params": "num_params < 100K",
    "size_bytes": "size_bytes < 1M",
    "dtype": "dtype != float16",
    "num_layers": "num_layers <= 12",
    "handle": "handle LIKE 'google/%'",
    "revision": "revision IS NOT NULL",
    "embedding_dim": "embedding_dim >= 64",
    "image_size": "image_size BETWEEN 32 AND 224",
    "upstream_dataset": "upstream_dataset IN (letters, greek)",
    "upstream_accuracy": "upstream_accuracy > 0.9",
    "date_added": "date_added >= '2026-01-01'",
    "licence": "licence IS NULL",
    "tags": "tags LIKE '%vision%'",
    "finetuned": "NOT finetuned",
    "parent": "parent = 'resnet-letters'",
    "trusted": "trusted = FALSE",
    "dataset_id": "dataset_id IN (1, 2)",
    "task": "task = classification",
    "type": "type != csv",
    "num_rows": "num_rows >= 500",
    "num_classes": "num_classes = 10",
    "model_name": "model_name = 'resnet-letters'",
    "dataset_name": "dataset_name = 'drawn-digits-train'",
    "method": "method IN (linear, finetune)",
    "metric": "metric = accuracy",
    "value": "value > 0.5",
    "accuracy": "accuracy BETWEEN 0.5 AND 1",
    "error": "error < 0.5",
    "cost_seconds": "cost_seconds > 1.5",
    "origin": "origin = vision_1k",
    "protocol": "protocol LIKE '%2204.01457%'",
    "probe": "probe = 'resnet-letters'",
}


@cache
def all_topics() -> tuple[Topic, ...]:
    """Everything there is help for, in the order of the documentation."""
    keywords = (Topic(word.phrase, word.role, word.help, (word.example,), _words_of(word.phrase)) for word in KEYWORDS)
    return (*keywords, *_relations(), *_columns(), *map(_ranker, RANKERS.values()), *_SUBJECTS)


def topics() -> list[str]:
    """The names that HELP knows, each once."""
    named = dict.fromkeys(topic.name for topic in all_topics())
    return [*named, *(kind for kind in map(_plural, KINDS) if kind not in named)]


def help_text(topic: str | None) -> str:
    """What HELP answers: the shape of a question and the topics there are, or one topic in any spelling.

    Raises BindingError with the near names for a topic there is not.
    """
    if topic is None:
        return _overview()
    wanted = fold(topic)
    found = [each for each in all_topics() if wanted in map(fold, (each.name, *each.aliases))]
    listed = next((kind for kind, title in KINDS.items() if wanted in (fold(_plural(kind)), fold(title))), None)
    if not found and listed is None:
        found = [_ranker(spec) for spec in all_rankers() if wanted in (fold(spec.name), fold(spec.label))]
    if not found and listed is None:
        _fail(topic)
    parts = [_explained(each) for each in found]
    if listed:
        parts.append(_listed(listed))
    return "\n\n".join(parts)


def as_markdown() -> str:
    """The page docs/language.md."""
    page = "\n".join(_page()).strip() + "\n"
    return re.sub("\n{3,}", "\n\n", page)


def _fail(topic: str) -> None:
    raise BindingError(
        f"there is no help for {topic!r}",
        subject=topic,
        allowed=list(map(_plural, KINDS)),
        fix=did_you_mean(topic, topics()) or "HELP alone lists every topic",
    )


def _words_of(phrase: str) -> tuple[str, ...]:
    listed = {"SHOW": SHOWN, "PURGE": PURGED}.get(phrase, {})
    return tuple(f"{word}: {meaning}" for word, meaning in listed.items())


def _relations() -> Iterator[Topic]:
    for name, relation in RELATIONS.items():
        aliases = tuple(alias for alias, named in RELATION_NAMES.items() if named == name and alias != name)
        yield Topic(
            name,
            "relation",
            f"one row per {relation.row}",
            (f"SELECT * FROM {name} LIMIT 3",),
            (f"columns: {', '.join(relation.columns)}", *_also(aliases)),
            aliases,
        )


def _columns() -> Iterator[Topic]:
    """A column once for all relations in which it says the same under the same names."""
    homes: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for relation in RELATIONS.values():
        for column, says in relation.columns.items():
            aliases = tuple(alias for alias, named in relation.aliases.items() if named == column)
            homes.setdefault((column, says, aliases), []).append(relation.name)
    for (column, says, aliases), names in homes.items():
        condition = _CONDITIONS.get(column, f"{column} IS NOT NULL")
        example = f"SELECT {RELATIONS[names[0]].order[0]} FROM {names[0]} WHERE {condition}"
        yield Topic(column, "column", says, (example,), (f"in {', '.join(names)}", *_also(aliases)), aliases)


def _ranker(spec: RankerSpec) -> Topic:
    sees = "measured on TESTED ON" if spec.needs_test else "never sees TESTED ON"
    details = [
        *(f"{' or '.join((each.name, *each.aliases))}: {_described(each)}" for each in spec.arguments),
        f"defined for {', '.join(sorted(spec.tasks))}; {sees}",
        *(["needs a model with classes of its own"] if spec.needs_source_probabilities else []),
        *(["orders datasets, not models"] if spec.ranks == "datasets" else []),
    ]
    return Topic(spec.label, "ranker", spec.summary, (spec.example,), tuple(details), (spec.name, *spec.aliases))


def _described(argument: Argument) -> str:
    kind = {int: "a whole number", float: "a number", str: "text"}[argument.kind]
    if argument.minimum is not None:
        # A tiny minimum only keeps zero out.
        kind += f" from {argument.minimum:g}" if argument.minimum == int(argument.minimum) else " above 0"
    if argument.allowed:
        kind = f"one of {', '.join(map(str, argument.allowed))}"
        if argument.may_be_number:
            kind += ", or a whole number"
    default = "chosen for you" if argument.default is None else str(argument.default).removesuffix(".0")
    return f"{kind}; where left out, {default}"


def _also(aliases: Sequence[str]) -> tuple[str, ...]:
    return (f"also {', '.join(aliases)}",) if aliases else ()


def _plural(kind: str) -> str:
    return f"{kind}s"


def _overview() -> str:
    names = {kind: [topic.name for topic in all_topics() if topic.kind == kind] for kind in KINDS}
    listed = (
        f"{KINDS[kind]}\n{indent(_wrapped(', '.join(dict.fromkeys(each))), '  ')}" for kind, each in names.items()
    )
    hint = "HELP and a topic explains it: HELP ORDER BY, HELP rankers, HELP num_params."
    return "\n\n".join([f"A question\n{indent(SHAPE, '  ')}", hint, *listed])


def _explained(topic: Topic) -> str:
    lines = [f"{topic.name} ({topic.kind})", indent(_wrapped(topic.summary), "  ")]
    lines += [indent(_wrapped(detail), "  ") for detail in topic.details]
    return "\n".join([*lines, *(f"\n{indent(example, '    ')};" for example in topic.examples)])


def _listed(kind: str) -> str:
    of_kind = [topic for topic in all_topics() if topic.kind == kind]
    width = max(len(topic.name) for topic in of_kind)
    return "\n".join([KINDS[kind], *(f"  {topic.name.ljust(width)}  {topic.summary}" for topic in of_kind)])


def _wrapped(text: str) -> str:
    return "\n".join(wrap(text, 96, break_long_words=False, break_on_hyphens=False))


def _page() -> Iterator[str]:
    yield "<!-- Made by `python -m shiftql.reference > docs/language.md`; a test compares. -->"
    yield "# SHiFT-QL"
    yield ""
    yield (
        "SHiFT-QL asks one question: which pre-trained model should I fine-tune for my dataset, and what does finding "
        "out cost? It is SQL where SQL suffices, and adds clauses that make a ranking depend on a dataset. "
        "The examples run on the models and datasets that `shiftql playground ./playground` makes; at the prompt, "
        "`HELP topic` shows what this page says."
    )
    yield ""
    yield "## The shape of a question"
    yield from _code(SHAPE, "text")
    yield "Only SELECT and FROM are needed; the clauses after WHERE come in any order."
    yield ""
    yield "## Five worked examples"
    for number, (story, example) in enumerate(WORKED, 1):
        yield f"{number}. {story}"
        yield from (f"   {line}".rstrip() for line in _code(f"{example};", "sql"))
    for kind, title in KINDS.items():
        of_kind = [topic for topic in all_topics() if topic.kind == kind]
        yield f"## {title}"
        yield from _subjects(of_kind) if kind == "subject" else _table(of_kind)
        yield ""


def _table(topics_of_kind: Iterable[Topic]) -> Iterator[str]:
    yield "| | meaning | example |"
    yield "|---|---|---|"
    for topic in topics_of_kind:
        meaning = "<br>".join([topic.summary, *topic.details]).replace("|", "\\|")
        example = "<br>".join(f"`{line}`" for line in topic.examples[0].split("\n"))
        yield f"| **{topic.name}** | {meaning} | {example} |"


def _subjects(subjects: Iterable[Topic]) -> Iterator[str]:
    for subject in subjects:
        yield f"### {subject.name[0].upper()}{subject.name[1:]}"
        yield f"{subject.summary[0].upper()}{subject.summary[1:]}."
        yield ""
        yield from (f"- {detail}" for detail in subject.details)
        for example in subject.examples:
            yield from _code(f"{example};", "sql")


def _code(text: str, language: str) -> Iterator[str]:
    yield ""
    yield f"```{language}"
    yield from text.split("\n")
    yield "```"
    yield ""


if __name__ == "__main__":
    print(as_markdown(), end="")
