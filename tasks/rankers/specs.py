"""The rankers there are, by name, with their arguments: all the binder and the terminal need to know.

Importing this module loads neither numpy nor torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from storage.errors import BindingError
from storage.names import fold, near


@dataclass(frozen=True)
class Argument:
    """One argument of a ranker. `minimum` is inclusive; `allowed`, where not empty, lists every value.

    A `default` of None is chosen by the planner for each model.
    """

    name: str
    kind: type
    default: Any
    aliases: tuple[str, ...] = ()
    minimum: float | None = None
    allowed: tuple[Any, ...] = ()


@dataclass(frozen=True)
class RankerSpec:
    """A ranker as the language knows it.

    `version` is part of the fingerprint of every score: raise it whenever the same input may score
    differently. `kind` tells whether it scores features or fine-tunes the model itself.
    `implementation` is "module:Class"; None for what is not an estimator on features.
    """

    name: str
    label: str
    version: int
    summary: str
    arguments: tuple[Argument, ...]
    tasks: frozenset[str]
    needs_test: bool
    needs_source_probabilities: bool
    kind: Literal["features", "finetune"]
    aliases: tuple[str, ...] = ()
    implementation: str | None = None


_CLASSIFICATION = frozenset({"classification"})
_NEIGHBOURS = Argument("k", int, 1, minimum=1)
_SMALLEST_LEARNING_RATE = 1e-9

RANKERS: dict[str, RankerSpec] = {
    spec.name: spec
    for spec in (
        RankerSpec(
            name="euclidean_nn",
            label="Euclidean NN",
            version=1,
            summary="test accuracy of a majority vote of the k nearest training rows",
            arguments=(_NEIGHBOURS,),
            tasks=_CLASSIFICATION,
            needs_test=True,
            needs_source_probabilities=False,
            kind="features",
            implementation="tasks.rankers.nearest_neighbour:EuclideanNN",
        ),
        RankerSpec(
            name="cosine_nn",
            label="Cosine NN",
            version=1,
            summary="test accuracy of a majority vote of the k training rows at the smallest angle",
            arguments=(_NEIGHBOURS,),
            tasks=_CLASSIFICATION,
            needs_test=True,
            needs_source_probabilities=False,
            kind="features",
            implementation="tasks.rankers.nearest_neighbour:CosineNN",
        ),
        RankerSpec(
            name="linear",
            label="Linear",
            version=2,
            summary="test accuracy of a linear classifier on standardised features",
            arguments=(
                Argument("learning_rate", float, 0.02, aliases=("lr",), minimum=_SMALLEST_LEARNING_RATE),
                Argument("num_epochs", int, 60, aliases=("epochs",), minimum=1),
            ),
            tasks=_CLASSIFICATION,
            needs_test=True,
            needs_source_probabilities=False,
            kind="features",
            implementation="tasks.rankers.linear:Linear",
        ),
        RankerSpec(
            name="finetune",
            label="FineTune",
            version=1,
            summary="test accuracy after fine-tuning the whole model",
            arguments=(
                Argument("epochs", int, 20, aliases=("num_epochs",), minimum=1),
                Argument("lr", float, None, aliases=("learning_rate",), minimum=_SMALLEST_LEARNING_RATE),
                Argument("batch_size", int, 32, minimum=1),
                Argument("seed", int, 0, minimum=0),
            ),
            tasks=_CLASSIFICATION,
            needs_test=True,
            needs_source_probabilities=False,
            kind="finetune",
        ),
    )
}


def find_ranker(name: str) -> RankerSpec:
    """The ranker called `name`, in any spelling. Raises BindingError with the near names when there is none.

    >>> find_ranker("CosineNN").name
    'cosine_nn'
    """
    for spec in RANKERS.values():
        if fold(name) in map(fold, (spec.name, spec.label, *spec.aliases)):
            return spec
    labels = [spec.label for spec in RANKERS.values()]
    raise BindingError(
        f"there is no ranker {name!r}{_did_you_mean(name, labels)}",
        subject=name,
        allowed=labels,
        fix="write one of the allowed names, in any spelling",
    )


def bind_arguments(spec: RankerSpec, positional: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """Every argument's value by its canonical name, defaults filled in, in the order of the spec.

    A whole number is taken for a float and a whole float for an integer; a truth value is neither.
    Raises BindingError on an unknown argument, one given twice, and a value of wrong type or size.
    """
    names = [argument.name for argument in spec.arguments]
    if len(positional) > len(names):
        raise BindingError(
            f"{spec.label} takes at most {len(names)} arguments, not {len(positional)}",
            subject=spec.label,
            allowed=names,
            fix=f"leave out the last {len(positional) - len(names)}",
        )
    given = {
        argument.name: _checked(spec, argument, value)
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
        given[argument.name] = _checked(spec, argument, value)
    return {argument.name: given.get(argument.name, argument.default) for argument in spec.arguments}


def _find_argument(spec: RankerSpec, name: str) -> Argument:
    for argument in spec.arguments:
        if fold(name) in map(fold, (argument.name, *argument.aliases)):
            return argument
    names = [argument.name for argument in spec.arguments]
    spellings = [*names, *(alias for argument in spec.arguments for alias in argument.aliases)]
    raise BindingError(
        f"{spec.label} has no argument {name!r}{_did_you_mean(name, spellings)}",
        subject=name,
        allowed=names,
    )


def _checked(spec: RankerSpec, argument: Argument, value: Any) -> Any:
    def refuse(requirement: str) -> NoReturn:
        raise BindingError(
            f"the value of {spec.label}'s {argument.name} is {value!r}, but must be {requirement}",
            subject=argument.name,
            allowed=[str(choice) for choice in argument.allowed],
            fix=f"leave {argument.name} out to have it chosen for each model"
            if argument.default is None
            else f"write for example {argument.name}={argument.default}",
        )

    kinds = {int: "a whole number", float: "a finite number", str: "text"}
    # bool is a subclass of int, and k=TRUE is a slip.
    numeric = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if argument.kind is float and numeric:
        value = float(value)
    elif argument.kind is int and numeric and value == int(value):
        value = int(value)
    elif argument.kind is not str or not isinstance(value, str):
        refuse(kinds[argument.kind])
    if argument.minimum is not None and value < argument.minimum:
        refuse(f"at least {argument.minimum}")
    if argument.allowed and value not in argument.allowed:
        refuse("one of the allowed values")
    return value


def _did_you_mean(name: str, candidates: Sequence[str]) -> str:
    matches = near(name, candidates)
    return f"; did you mean {' or '.join(matches)}?" if matches else ""
