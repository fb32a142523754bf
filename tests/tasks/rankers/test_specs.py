from __future__ import annotations

import math
import subprocess
import sys
from importlib import import_module

import pytest

from storage.errors import BindingError
from tasks.rankers import get_ranker
from tasks.rankers.specs import RANKERS, Argument, RankerSpec, bind_arguments, find_ranker

LINEAR = RANKERS["linear"]


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("Euclidean NN", "euclidean_nn"),
        ("euclideanNN", "euclidean_nn"),
        ("COSINE_NN", "cosine_nn"),
        ("linear", "linear"),
        ("fine_tune", "finetune"),
    ],
)
def test_any_spelling_finds_the_ranker(spelling: str, name: str) -> None:
    assert find_ranker(spelling) is RANKERS[name]


def test_unknown_ranker_names_the_near_and_the_allowed() -> None:
    with pytest.raises(BindingError, match="did you mean Cosine NN") as caught:
        find_ranker("cosin nn")
    assert caught.value.allowed == ("Euclidean NN", "Cosine NN", "Linear", "FineTune")
    assert caught.value.subject == "cosin nn"


@pytest.mark.parametrize("spec", RANKERS.values(), ids=RANKERS)
def test_spec_is_keyed_by_its_name_and_its_defaults_bind(spec: RankerSpec) -> None:
    assert RANKERS[spec.name] is spec
    defaults = bind_arguments(spec, (), {})
    fixed = {name: value for name, value in defaults.items() if value is not None}
    assert bind_arguments(spec, (), fixed) == defaults
    assert all(type(fixed[a.name]) is a.kind for a in spec.arguments if a.default is not None)


@pytest.mark.parametrize("spec", RANKERS.values(), ids=RANKERS)
def test_implementation_takes_exactly_the_arguments_of_its_spec(spec: RankerSpec) -> None:
    if spec.implementation is None:
        with pytest.raises(BindingError, match="trains the model itself"):
            get_ranker(spec.name)
        return
    module, _, name = spec.implementation.partition(":")
    defaults = bind_arguments(spec, (), {})
    assert get_ranker(spec.name) == getattr(import_module(module), name)(**defaults)
    assert get_ranker(spec.name) == getattr(import_module(module), name)()


def test_aliases_and_spellings_of_arguments_bind_to_the_canonical_name() -> None:
    assert bind_arguments(LINEAR, (), {"LR": 0.5, "numEpochs": 3}) == {"learning_rate": 0.5, "num_epochs": 3}
    assert bind_arguments(LINEAR, (0.5,), {"epochs": 3}) == {"learning_rate": 0.5, "num_epochs": 3}


def test_whole_numbers_and_whole_floats_are_exchanged() -> None:
    bound = bind_arguments(LINEAR, (1, 3.0), {})
    assert bound == {"learning_rate": 1.0, "num_epochs": 3}
    assert [type(value) for value in bound.values()] == [float, int]


@pytest.mark.parametrize(
    ("positional", "named", "message"),
    [
        ((0.1, 2, 3), {}, "at most 2 arguments, not 3"),
        ((), {"learning_rat": 0.1}, "did you mean learning_rate"),
        ((), {"momentum": 0.9}, "no argument 'momentum'"),
        ((0.1,), {"lr": 0.1}, "learning_rate twice"),
        ((), {"lr": 0.1, "learning_rate": 0.1}, "learning_rate twice"),
        ((), {"epochs": 2.5}, "2.5, but must be a whole number"),
        ((), {"epochs": True}, "True, but must be a whole number"),
        ((), {"epochs": "many"}, "'many', but must be a whole number"),
        ((), {"epochs": None}, "None, but must be a whole number"),
        ((), {"epochs": 0}, "0, but must be at least 1"),
        ((), {"lr": False}, "False, but must be a finite number"),
        ((), {"lr": math.nan}, "nan, but must be a finite number"),
        ((), {"lr": math.inf}, "inf, but must be a finite number"),
        ((), {"epochs": math.inf}, "inf, but must be a whole number"),
        ((), {"lr": 0}, "0.0, but must be at least"),
        ((), {"lr": -1}, "-1.0, but must be at least"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    positional: tuple[object, ...], named: dict[str, object], message: str
) -> None:
    with pytest.raises(BindingError, match=message):
        bind_arguments(LINEAR, positional, named)


def test_unknown_argument_lists_the_allowed_ones() -> None:
    with pytest.raises(BindingError) as caught:
        bind_arguments(LINEAR, (), {"momentum": 0.9})
    assert caught.value.allowed == ("learning_rate", "num_epochs")


def test_value_outside_the_allowed_ones_is_refused() -> None:
    spec = RankerSpec(
        name="example",
        label="Example",
        version=1,
        summary="",
        arguments=(Argument("mode", str, "own", allowed=("own", "representative")),),
        tasks=frozenset(),
        needs_test=False,
        needs_source_probabilities=False,
        kind="features",
    )
    assert bind_arguments(spec, ("representative",), {}) == {"mode": "representative"}
    with pytest.raises(BindingError, match="'other', but must be one of the allowed values") as caught:
        bind_arguments(spec, ("other",), {})
    assert caught.value.allowed == ("own", "representative")
    with pytest.raises(BindingError, match="must be text"):
        bind_arguments(spec, (1,), {})


def test_importing_rankers_loads_no_numerical_library() -> None:
    program = (
        "import sys, tasks.rankers, tasks.rankers.specs;"
        "print(sorted({'numpy', 'torch', 'sklearn', 'scipy'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
