"""The strategies there are, and how one is named with its arguments: `BestAverage(k=5)`."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

from shiftql.strategies.base import Problem, Strategy
from storage.errors import BindingError
from storage.names import did_you_mean, fold

# How LEEP is shared within a cluster by TwoPhase.
MODES = ("own", "representative")

# By name, the module of shiftql.strategies that holds it.
STRATEGIES: Mapping[str, str] = {
    "Auto": "auto",
    "Enumerate": "enumerate",
    "Random": "random",
    "Upstream": "upstream",
    "BestAverage": "best_average",
    "BestPerBenchmark": "best_per_benchmark",
    "NearestBenchmark": "nearest_benchmark",
    "Proxy": "proxy",
    "Hybrid": "hybrid",
    "SuccessiveHalving": "successive_halving",
    "Hyperband": "hyperband",
    "TwoPhase": "two_phase",
}


@dataclass(frozen=True)
class NamedStrategy:
    """A strategy with its arguments, to be made for any problem."""

    name: str
    arguments: Mapping[str, Any]

    def make(self, problem: Problem) -> Strategy:
        strategy: Strategy = _kind(self.name)(problem, **self.arguments)
        return strategy

    @property
    def takes_seed(self) -> bool:
        """Whether it may choose otherwise with another seed."""
        return "seed" in inspect.signature(_kind(self.name)).parameters

    def with_seed(self, seed: int) -> NamedStrategy:
        return replace(self, arguments={**self.arguments, "seed": seed})

    def __str__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        return f"{self.name}({arguments})" if arguments else self.name


def read_strategy(text: str) -> NamedStrategy:
    """The strategy that a text names, such as `Random(10, seed=3)`.

    Raises BindingError where the text names none, or gives it what it does not take.
    """
    written, positional, named = _read_call(text)
    known = {fold(each): each for each in STRATEGIES}
    if fold(written) not in known:
        fix = did_you_mean(written, STRATEGIES, 1) or "name one of those"
        raise BindingError(f"there is no strategy {written}", subject=written, allowed=list(STRATEGIES), fix=fix)
    name = known[fold(written)]
    _, *parameters = inspect.signature(_kind(name)).parameters.values()
    allowed = [each.name for each in parameters]
    if len(positional) > len(allowed):
        raise BindingError(f"{name} takes {len(allowed)} arguments, not {len(positional)}", allowed=allowed)
    arguments = {**dict(zip(allowed, positional, strict=False)), **named}
    for argument in arguments:
        if argument not in allowed:
            raise BindingError(f"{name} takes no {argument}", subject=argument, allowed=allowed)
    for parameter in parameters:
        _check(name, parameter, arguments)
    return NamedStrategy(name, arguments)


def _check(strategy: str, parameter: inspect.Parameter, arguments: Mapping[str, Any]) -> None:
    name, default = parameter.name, parameter.default
    if name not in arguments:
        if default is parameter.empty:
            raise BindingError(f"{strategy} needs {name}", subject=name, fix=f"write {strategy}({name}='…')")
        return
    value, kind = arguments[name], str(parameter.annotation).split(" | ")[0]
    least = 2 if name == "eta" else 0 if name == "seed" else 1
    if kind == "int" and (type(value) is not int or value < least):
        raise BindingError(f"{name} of {strategy} is {value!r}, and must be a whole number of at least {least}")
    if kind == "float" and (type(value) not in (int, float) or value < 0):
        raise BindingError(f"{name} of {strategy} is {value!r}, and must be a number of at least 0")
    if kind == "str" and not isinstance(value, str):
        raise BindingError(f"{name} of {strategy} is {value!r}, and must be a text such as 'linear'")
    if name == "mode" and value not in MODES:
        raise BindingError(f"mode of {strategy} is {value!r}", allowed=MODES, fix="write one of those")


def _kind(name: str) -> Callable[..., Any]:
    kind: Callable[..., Any] = getattr(import_module(f"shiftql.strategies.{STRATEGIES[name]}"), name)
    return kind


def _read_call(text: str) -> tuple[str, list[Any], dict[str, Any]]:
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if isinstance(call, ast.Name):
            return call.id, [], {}
        assert isinstance(call, ast.Call)
        assert isinstance(call.func, ast.Name)
        named = {str(each.arg): ast.literal_eval(each.value) for each in call.keywords}
        return call.func.id, [ast.literal_eval(each) for each in call.args], named
    except (SyntaxError, ValueError, AssertionError) as error:
        raise BindingError(
            f"{text!r} names no strategy", allowed=list(STRATEGIES), fix="write one as BestAverage or Random(k=10)"
        ) from error
