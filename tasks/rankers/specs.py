"""The rankers there are, by name, with their arguments: all the binder and the terminal need to know.

Importing this module loads neither numpy nor torch, and no plug-in. An installed package adds rankers by entry points
of the group `shiftql.rankers`, each of which names a RankerSpec; they are looked at only when a name is none of
`RANKERS`, and when all rankers are listed.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, NoReturn

from storage.errors import BindingError
from storage.names import did_you_mean, fold


@dataclass(frozen=True)
class Argument:
    """One argument of a ranker. `minimum` is inclusive; `allowed`, where not empty, lists every value.

    A `default` of None is chosen by the planner for each model. An argument that `is_dropped_at_default` is then no
    part of the parameters, so that scores from before there was the argument stay known. Text that `may_be_number`
    may also be a whole number. One that `chooses_features` says which features are scored, not how: rankers do not
    get it. One that stands `in_place_of` another is not given beside it.
    """

    name: str
    kind: type
    default: Any
    aliases: tuple[str, ...] = ()
    minimum: float | None = None
    allowed: tuple[Any, ...] = ()
    is_dropped_at_default: bool = False
    may_be_number: bool = False
    chooses_features: bool = False
    in_place_of: str | None = None


@dataclass(frozen=True)
class RankerSpec:
    """A ranker as the language knows it.

    `version` is part of the fingerprint of every score: raise it whenever the same input may score
    differently. `tasks` are those it is defined for. `kind` tells what it works on: features, the model itself
    (finetune), columns of the catalog, embeddings of datasets (task2vec), or what a strategy of shiftql.strategies
    chooses to evaluate (strategy). `example` is a question on the playground's names. `implementation` is
    "module:Class"; None for what is not an estimator on features. `ranks` tells what stands in its rows.
    A plug-in's `version` is its own, followed by the package and its version.
    """

    name: str
    label: str
    version: int | str
    summary: str
    arguments: tuple[Argument, ...]
    tasks: frozenset[str]
    needs_test: bool
    needs_source_probabilities: bool
    kind: Literal["features", "finetune", "catalog", "task2vec", "strategy"]
    example: str
    aliases: tuple[str, ...] = ()
    implementation: str | None = None
    ranks: Literal["models", "datasets"] = "models"


_CLASSIFICATION = frozenset({"classification"})
# Tasks whose labels are classes, whatever a row is.
_CLASSES = _CLASSIFICATION | {"token_classification", "pair_classification"}
_ALL_TASKS = _CLASSES | {"multilabel_classification", "regression"}
_METRICS_OF_CLASSES = ("accuracy", "macro_f1", "balanced_accuracy")
# Where they are others; the first is the default.
_METRICS = {
    "multilabel_classification": ("macro_f1", "micro_f1"),
    "regression": ("rmse", "mae", "r2", "spearman"),
}
_NEIGHBOURS = Argument("k", int, 1, minimum=1)
_METRIC = Argument(
    "metric",
    str,
    "accuracy",
    # Where left out, the default of the task.
    allowed=tuple(dict.fromkeys((*_METRICS_OF_CLASSES, *(name for names in _METRICS.values() for name in names)))),
    is_dropped_at_default=True,
)
_SMALLEST_LEARNING_RATE = 1e-9
# Which view of the features is scored: see storage.views. `best` is the layer that does best on training rows alone.
_FEATURES = (
    Argument(
        "layer",
        str,
        "last",
        allowed=("last", "mean", "best"),
        is_dropped_at_default=True,
        may_be_number=True,
        chooses_features=True,
    ),
    Argument(
        "pooling",
        str,
        "default",
        allowed=("default", "cls", "mean", "max", "first", "last"),
        is_dropped_at_default=True,
        chooses_features=True,
    ),
)

_PROXY = Argument(
    "proxy",
    str,
    "LEEP",
    allowed=("LEEP", "NLEEP", "LogME", "HScore", "NCE", "TransRate", "GBC", "Linear", "Cosine NN", "Euclidean NN"),
)


# To how many epochs the models that a strategy chooses are trained.
_EPOCHS = Argument("epochs", int, 20, aliases=("num_epochs",), minimum=1, is_dropped_at_default=True)


def _strategy(label: str, summary: str, example: str, *arguments: Argument) -> RankerSpec:
    """A strategy of shiftql.strategies under its own name, which ranks by the accuracy after fine-tuning."""
    return RankerSpec(
        name=fold(label),
        label=label,
        version=1,
        summary=summary,
        arguments=(*arguments, _EPOCHS),
        tasks=_CLASSIFICATION,
        needs_test=True,
        needs_source_probabilities=False,
        kind="strategy",
        example=example,
    )


RANKERS: dict[str, RankerSpec] = {
    spec.name: spec
    for spec in (
        RankerSpec(
            name="euclidean_nn",
            label="Euclidean NN",
            version=2,
            summary="test score of a majority vote of the k nearest training rows, or of their mean",
            arguments=(_NEIGHBOURS, _METRIC, *_FEATURES),
            tasks=_ALL_TASKS,
            needs_test=True,
            needs_source_probabilities=False,
            kind="features",
            example="SELECT name FROM image_models ORDER BY EuclideanNN(k=3)\n"
            "TRAINED ON drawn-digits-train TESTED ON drawn-digits-test",
            implementation="tasks.rankers.nearest_neighbour:EuclideanNN",
        ),
        RankerSpec(
            name="cosine_nn",
            label="Cosine NN",
            version=2,
            summary="test score of a majority vote of the k training rows at the smallest angle, or of their mean",
            arguments=(_NEIGHBOURS, _METRIC, *_FEATURES),
            tasks=_ALL_TASKS,
            needs_test=True,
            needs_source_probabilities=False,
            kind="features",
            example="SELECT name FROM text_models ORDER BY 'Cosine NN'\n"
            "TRAINED ON sentence-topics-train TESTED ON sentence-topics-test",
            implementation="tasks.rankers.nearest_neighbour:CosineNN",
        ),
        RankerSpec(
            name="linear",
            label="Linear",
            version=3,
            summary="test score of a linear model on standardised features: logistic regression, or ridge for numbers",
            arguments=(
                Argument("learning_rate", float, 0.02, aliases=("lr",), minimum=_SMALLEST_LEARNING_RATE),
                Argument("num_epochs", int, 60, aliases=("epochs",), minimum=1),
                _METRIC,
                *_FEATURES,
            ),
            tasks=_ALL_TASKS,
            needs_test=True,
            needs_source_probabilities=False,
            kind="features",
            example="SELECT name FROM image_models ORDER BY Linear(lr=0.1)\n"
            "TRAINED ON counting-shapes-train TESTED ON counting-shapes-test LIMIT 3",
            implementation="tasks.rankers.linear:Linear",
        ),
        RankerSpec(
            name="finetune",
            label="FineTune",
            version=3,
            summary="test score after fine-tuning the model",
            arguments=(
                Argument("epochs", int, 20, aliases=("num_epochs",), minimum=1),
                Argument("lr", float, None, aliases=("learning_rate",), minimum=_SMALLEST_LEARNING_RATE),
                Argument("batch_size", int, 32, minimum=1),
                Argument("seed", int, 0, minimum=0),
                _METRIC,
                # What is trained: the whole model, its head alone, or its head and low-rank changes of its layers.
                Argument("mode", str, "full", allowed=("full", "head", "lora"), is_dropped_at_default=True),
                # Of all steps, the share that the learning rate rises for.
                Argument("warmup", float, 0.1, minimum=0, is_dropped_at_default=True),
                # Epochs without anything better, after which it ends; 0 never ends it early.
                Argument("patience", int, 0, minimum=0, is_dropped_at_default=True),
                # The planner makes whole epochs of them.
                Argument("steps", int, None, minimum=1, is_dropped_at_default=True, in_place_of="epochs"),
            ),
            tasks=_ALL_TASKS,
            needs_test=True,
            needs_source_probabilities=False,
            kind="finetune",
            example="SELECT name FROM image_models WHERE num_params < 80K ORDER BY FineTune(epochs=2)\n"
            "TRAINED ON drawn-digits-train TESTED ON drawn-digits-test",
        ),
        RankerSpec(
            name="leep",
            label="LEEP",
            version=1,
            summary="log-likelihood of the labels given the model's own classes",
            arguments=(),
            tasks=_CLASSES,
            needs_test=False,
            needs_source_probabilities=True,
            kind="features",
            example="SELECT name FROM image_models ORDER BY LEEP TRAINED ON drawn-digits-train",
            implementation="tasks.rankers.leep:LEEP",
        ),
        RankerSpec(
            name="nleep",
            label="NLEEP",
            version=1,
            summary="LEEP with the clusters of a Gaussian mixture on the features in place of the model's own classes",
            arguments=(Argument("num_components", int, None, aliases=("components",), minimum=1), *_FEATURES),
            tasks=_CLASSES,
            needs_test=False,
            needs_source_probabilities=False,
            kind="features",
            example="SELECT name FROM image_models ORDER BY NLEEP(num_components=50) TRAINED ON drawn-digits-train",
            implementation="tasks.rankers.nleep:NLEEP",
        ),
        RankerSpec(
            name="logme",
            label="LogME",
            version=1,
            summary="log-evidence of a Bayesian linear model of the labels on the features",
            arguments=_FEATURES,
            tasks=_ALL_TASKS,
            needs_test=False,
            needs_source_probabilities=False,
            kind="features",
            example="SELECT name FROM text_models ORDER BY LogME TRAINED ON sentence-topics-train",
            implementation="tasks.rankers.logme:LogME",
        ),
        RankerSpec(
            name="hscore",
            label="HScore",
            version=1,
            summary="how much of the features' variance lies between the classes",
            arguments=(
                Argument("covariance", str, "regularised", allowed=("regularised", "plain")),
                *_FEATURES,
            ),
            tasks=_CLASSES,
            needs_test=False,
            needs_source_probabilities=False,
            kind="features",
            example="SELECT name FROM image_models ORDER BY HScore TRAINED ON counting-shapes-train",
            implementation="tasks.rankers.hscore:HScore",
        ),
        RankerSpec(
            name="nce",
            label="NCE",
            version=1,
            summary="negative conditional entropy of the labels given the class the model predicts",
            arguments=(),
            tasks=_CLASSES,
            needs_test=False,
            needs_source_probabilities=True,
            kind="features",
            example="SELECT name FROM image_models ORDER BY NCE TRAINED ON drawn-digits-train",
            implementation="tasks.rankers.nce:NCE",
        ),
        RankerSpec(
            name="transrate",
            label="TransRate",
            version=1,
            summary="mutual information between features and labels, by their coding rates",
            arguments=_FEATURES,
            tasks=_CLASSES,
            needs_test=False,
            needs_source_probabilities=False,
            kind="features",
            example="SELECT name FROM image_models ORDER BY TransRate TRAINED ON counting-shapes-train",
            implementation="tasks.rankers.transrate:TransRate",
        ),
        RankerSpec(
            name="gbc",
            label="GBC",
            version=1,
            summary="how little the classes overlap as Gaussians in feature space, by their Bhattacharyya coefficients",
            arguments=(
                Argument("covariance", str, "diagonal", allowed=("diagonal", "spherical")),
                *_FEATURES,
            ),
            tasks=_CLASSES,
            needs_test=False,
            needs_source_probabilities=False,
            kind="features",
            example="SELECT name FROM text_models ORDER BY GBC TRAINED ON sentence-topics-train",
            implementation="tasks.rankers.gbc:GBC",
        ),
        RankerSpec(
            name="task2vec",
            label="Task2Vec",
            version=2,
            summary="distance of a dataset to TRAINED ON, by the Fisher information of a probe model",
            arguments=(
                Argument("probe", str, None),
                Argument("alpha", float, 0.0, minimum=0, is_dropped_at_default=True),
            ),
            tasks=_CLASSIFICATION,
            needs_test=False,
            needs_source_probabilities=False,
            kind="task2vec",
            example="SELECT name FROM datasets ORDER BY Task2Vec(probe='resnet-letters') TRAINED ON drawn-digits-train",
            ranks="datasets",
        ),
        _strategy(
            "TwoPhase",
            "clusters models by what they did elsewhere, asks a proxy of one of each, fine-tunes the k most promising",
            "SELECT name FROM image_models ORDER BY TwoPhase(k=3, proxy='LogME')\n"
            "TRAINED ON drawn-digits-train TESTED ON drawn-digits-test",
            Argument("k", int, 10, minimum=1),
            Argument("threshold", float, 0.05, minimum=0),
            _PROXY,
        ),
        _strategy(
            "SuccessiveHalving",
            "fine-tunes all models a little, or the k best on average elsewhere, and the better 1/eta of them on",
            "SELECT name FROM image_models ORDER BY SuccessiveHalving(eta=3)\n"
            "TRAINED ON drawn-digits-train TESTED ON drawn-digits-test",
            Argument("eta", int, 2, minimum=2),
            Argument("k", int, None, minimum=1),
        ),
        _strategy(
            "Hyperband",
            "brackets of successive halving, from many models trained a little to few trained fully",
            "SELECT name FROM image_models ORDER BY Hyperband(eta=3)\n"
            "TRAINED ON drawn-digits-train TESTED ON drawn-digits-test",
            Argument("eta", int, 2, minimum=2),
            Argument("seed", int, 0, minimum=0),
        ),
        _strategy(
            "Proxy",
            "a proxy of every model, then fine-tunes the k best by it",
            "SELECT name FROM image_models ORDER BY Proxy('LogME', k=2)\n"
            "TRAINED ON drawn-digits-train TESTED ON drawn-digits-test",
            replace(_PROXY, default="Linear"),
            Argument("k", int, 1, minimum=1),
        ),
        _strategy(
            "Hybrid",
            "fine-tunes the best models by upstream accuracy beside the k best by a proxy",
            "SELECT name FROM image_models ORDER BY Hybrid(k=2)\n"
            "TRAINED ON drawn-digits-train TESTED ON drawn-digits-test",
            replace(_PROXY, default="Linear"),
            Argument("k", int, 1, minimum=1),
            Argument("upstream", int, 1, minimum=1),
        ),
        _strategy(
            "BestAverage",
            "fine-tunes the k models that ranked best on other datasets, on average",
            "SELECT name FROM image_models ORDER BY BestAverage(k=3)\n"
            "TRAINED ON drawn-digits-train TESTED ON drawn-digits-test",
            Argument("k", int, 10, minimum=1),
        ),
        _strategy(
            "BestPerBenchmark",
            "fine-tunes the k best models of every other dataset",
            "SELECT name FROM image_models ORDER BY BestPerBenchmark\n"
            "TRAINED ON drawn-digits-train TESTED ON drawn-digits-test",
            Argument("k", int, 1, minimum=1),
        ),
        _strategy(
            "NearestBenchmark",
            "fine-tunes the k best models of the datasets on which some probes, or a proxy of all models, did alike",
            "SELECT name FROM image_models ORDER BY NearestBenchmark(k=2, probes=2)\n"
            "TRAINED ON drawn-digits-train TESTED ON drawn-digits-test",
            Argument("k", int, 10, minimum=1),
            Argument("probes", int, 10, minimum=1),
            replace(_PROXY, default=None),
        ),
        RankerSpec(
            name="random",
            label="Random",
            version=1,
            summary="an order by chance, to compare with",
            arguments=(Argument("seed", int, 0, minimum=0),),
            tasks=_ALL_TASKS,
            needs_test=False,
            needs_source_probabilities=False,
            kind="catalog",
            example="SELECT name FROM image_models ORDER BY Random(seed=1) TRAINED ON drawn-digits-train LIMIT 3",
        ),
        RankerSpec(
            name="upstream",
            label="Upstream",
            version=1,
            summary="accuracy on the dataset the model was pre-trained on, to compare with",
            arguments=(),
            tasks=_ALL_TASKS,
            needs_test=False,
            needs_source_probabilities=False,
            kind="catalog",
            example="SELECT name FROM image_models ORDER BY Upstream TRAINED ON drawn-digits-train LIMIT 3",
        ),
        _strategy(
            "Auto",
            "predicted accuracy after fine-tuning, with whatever evaluations pay to find it out",
            "SELECT name FROM image_models ORDER BY Auto\nTRAINED ON drawn-digits-train TESTED ON drawn-digits-test",
            Argument("share", float, 0.06, minimum=0),
        ),
    )
}


def metrics_of(task: str) -> tuple[str, ...]:
    """The metrics that predictions of a task can be compared by, its default first."""
    return _METRICS.get(task, _METRICS_OF_CLASSES)


def find_ranker(name: str) -> RankerSpec:
    """The ranker called `name`, in any spelling; a plug-in where none of our own is called so.

    Raises BindingError with the near names when there is none, and with the reason when the plug-in is broken.

    >>> find_ranker("CosineNN").name
    'cosine_nn'
    """
    for spec in RANKERS.values():
        if fold(name) in map(fold, (spec.name, spec.label, *spec.aliases)):
            return spec
    for entry in _entry_points():
        if fold(name) == fold(entry.name):
            return _plugin(entry)
    labels = [*(spec.label for spec in RANKERS.values()), *(entry.name for entry in _entry_points())]
    raise BindingError(
        f"there is no ranker {name!r}",
        subject=name,
        allowed=labels,
        fix=did_you_mean(name, labels) or "write one of the allowed names, in any spelling",
    )


def all_rankers() -> list[RankerSpec]:
    """Our own rankers and those of the installed plug-ins, without the broken ones."""
    specs = list(RANKERS.values())
    taken = {fold(name) for spec in specs for name in (spec.name, spec.label, *spec.aliases)}
    for entry in _entry_points():
        if fold(entry.name) not in taken:
            try:
                specs.append(_plugin(entry))
            except BindingError:
                continue
    return specs


def _entry_points() -> tuple[EntryPoint, ...]:
    return _entry_points_on(tuple((folder, _modified(folder)) for folder in sys.path))


def _modified(folder: str) -> int:
    try:
        return os.stat(folder or ".").st_mtime_ns
    except OSError:
        return 0


# Reading the metadata of every installed package takes tens of milliseconds; what is installed meanwhile is seen.
@lru_cache(maxsize=1)
def _entry_points_on(path: tuple[tuple[str, int], ...]) -> tuple[EntryPoint, ...]:
    return tuple(sorted(entry_points(group="shiftql.rankers"), key=lambda entry: entry.name))


def _plugin(entry: EntryPoint) -> RankerSpec:
    package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.module
    problem = None
    try:
        spec = entry.load()
    # A plug-in may raise whatever it likes.
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    else:
        if not isinstance(spec, RankerSpec):
            problem = f"{entry.value} is a {type(spec).__name__}, not a RankerSpec"
        elif fold(spec.name) != fold(entry.name):
            problem = f"its RankerSpec is named {spec.name!r}, and its entry point {entry.name!r}"
        elif spec.kind != "features" or spec.implementation is None:
            problem = "only rankers of features with an implementation can be plugged in"
    if problem:
        raise BindingError(
            f"the ranker {entry.name!r} of the package {package} cannot be used: {problem}",
            subject=entry.name,
            fix="update or uninstall the package; docs/rankers.md says what a plug-in must be",
        )
    return replace(spec, version=f"{spec.version}+{package.replace(' ', '-')}")


def bind_arguments(spec: RankerSpec, positional: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """Every argument's value by its canonical name, defaults filled in (but those that are dropped), in spec order.

    A whole number is taken for a float and a whole float for an integer; a truth value is neither.
    Raises BindingError on an unknown argument, one given twice or beside the one that it stands for, and a value of
    wrong type or size; its subject is the argument as it was named.
    """
    names = [argument.name for argument in spec.arguments]
    if len(positional) > len(names):
        raise BindingError(
            f"{spec.label} takes {f'at most {len(names)}' if names else 'no'} arguments, not {len(positional)}",
            subject=spec.label,
            allowed=names,
            fix=f"leave out the last {len(positional) - len(names)}" if names else f"write {spec.label}",
        )
    given = {
        argument.name: _checked(spec, argument, value, argument.name)
        for argument, value in zip(spec.arguments, positional, strict=False)
    }
    for name, value in named.items():
        argument = _find_argument(spec, name)
        if argument.name in given:
            raise BindingError(
                f"{spec.label} is given {argument.name} twice",
                subject=name,
                fix=f"give {argument.name} once; by position it is number {names.index(argument.name) + 1}",
            )
        given[argument.name] = _checked(spec, argument, value, name)
    for argument in spec.arguments:
        if argument.name in given and argument.in_place_of in given:
            raise BindingError(
                f"{spec.label} is given {argument.in_place_of} and {argument.name}",
                subject=argument.name,
                fix=f"give {argument.in_place_of} or {argument.name}",
            )
    bound = ((argument, given.get(argument.name, argument.default)) for argument in spec.arguments)
    return {
        argument.name: value
        for argument, value in bound
        if not (argument.is_dropped_at_default and value == argument.default)
    }


def _find_argument(spec: RankerSpec, name: str) -> Argument:
    for argument in spec.arguments:
        if fold(name) in map(fold, (argument.name, *argument.aliases)):
            return argument
    names = [argument.name for argument in spec.arguments]
    spellings = [*names, *(alias for argument in spec.arguments for alias in argument.aliases)]
    raise BindingError(
        f"{spec.label} has no argument {name!r}",
        subject=name,
        allowed=names,
        fix=did_you_mean(name, spellings)
        or ("write one of the allowed names" if names else f"{spec.label} takes no arguments: leave them out"),
    )


def _checked(spec: RankerSpec, argument: Argument, value: Any, written: str) -> Any:
    def refuse(requirement: str) -> NoReturn:
        raise BindingError(
            f"the value of {spec.label}'s {argument.name} is {value!r}, but must be {requirement}",
            subject=written,
            allowed=[str(choice) for choice in argument.allowed],
            fix=did_you_mean(str(value), list(map(str, argument.allowed)))
            or (
                f"leave {argument.name} out to have it chosen for each model"
                if argument.default is None
                else f"write for example {argument.name}={argument.default}"
            ),
        )

    if value is None and argument.default is None:
        return None
    kinds = {int: "a whole number", float: "a finite number", str: "text"}
    # bool is a subclass of int, and k=TRUE is a slip.
    numeric = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if argument.kind is float and numeric:
        value = float(value)
    elif argument.kind is int and numeric and value == int(value):
        value = int(value)
    elif argument.may_be_number and numeric and value == int(value):
        return str(int(value))
    elif argument.kind is not str or not isinstance(value, str):
        refuse(kinds[argument.kind])
    if argument.minimum is not None and value < argument.minimum:
        refuse(f"at least {argument.minimum}")
    if argument.allowed and isinstance(value, str):
        value = next((choice for choice in argument.allowed if fold(choice) == fold(value)), value)
    if argument.may_be_number and value.lstrip("-").isdecimal():
        return str(int(value))
    if argument.allowed and value not in argument.allowed:
        refuse("one of the allowed values" + (" or a whole number" if argument.may_be_number else ""))
    return value
