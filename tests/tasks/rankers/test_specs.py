from __future__ import annotations

import math
import subprocess
import sys
from importlib import import_module

import pytest

from shiftql.ast import Literal, Name, RankerCall, Select
from shiftql.parser import parse
from storage.errors import BindingError
from storage.names import fold
from tasks.rankers import get_ranker
from tasks.rankers.specs import RANKERS, Argument, RankerSpec, bind_arguments, find_ranker

LINEAR = RANKERS["linear"]


def argument_of(spec: RankerSpec, name: str) -> Argument:
    return next(argument for argument in spec.arguments if argument.name == name)


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("Euclidean NN", "euclidean_nn"),
        ("euclideanNN", "euclidean_nn"),
        ("COSINE_NN", "cosine_nn"),
        ("linear", "linear"),
        ("fine_tune", "finetune"),
        ("h-score", "hscore"),
        ("Two Phase", "twophase"),
        ("task2vec", "task2vec"),
        ("TransRate", "transrate"),
    ],
)
def test_any_spelling_finds_the_ranker(spelling: str, name: str) -> None:
    assert find_ranker(spelling) is RANKERS[name]


def test_unknown_ranker_names_the_near_and_the_allowed() -> None:
    with pytest.raises(BindingError, match="did you mean Cosine NN") as caught:
        find_ranker("cosin nn")
    assert caught.value.allowed == tuple(spec.label for spec in RANKERS.values())
    assert caught.value.subject == "cosin nn"


@pytest.mark.parametrize(
    ("slip", "meant"),
    [("linnear", "Linear"), ("logm", "LogME"), ("nlep", "NLEEP"), ("twophas", "TwoPhase"), ("upstrem", "Upstream")],
)
def test_a_slip_is_answered_with_the_nearest_ranker_first(slip: str, meant: str) -> None:
    with pytest.raises(BindingError, match=f"did you mean {meant}"):
        find_ranker(slip)


def test_no_two_rankers_answer_to_one_name() -> None:
    names = [fold(name) for spec in RANKERS.values() for name in {spec.label, *spec.aliases}]
    assert len(set(names)) == len(names)


def test_only_rankers_that_use_the_models_own_classes_ask_for_their_probabilities() -> None:
    assert {spec.label for spec in RANKERS.values() if spec.needs_source_probabilities} == {"LEEP", "NCE"}


def test_scores_of_the_training_split_alone_need_no_test_split() -> None:
    without = {spec.label for spec in RANKERS.values() if spec.kind == "features" and not spec.needs_test}
    assert without == {"LEEP", "NLEEP", "LogME", "HScore", "NCE", "TransRate", "GBC"}


@pytest.mark.parametrize("spec", RANKERS.values(), ids=RANKERS)
def test_example_parses_and_gives_the_ranker_what_it_needs(spec: RankerSpec) -> None:
    (question,) = parse(spec.example)
    assert isinstance(question, Select)
    assert question.trained_on
    assert not spec.needs_test or question.tested_on
    (key,) = question.order_by
    assert isinstance(key.key, Name | RankerCall)
    assert find_ranker(key.key.name) is spec
    if isinstance(key.key, RankerCall):
        given = {a.name: a.value.value for a in key.key.arguments if a.name and isinstance(a.value, Literal)}
        bound = bind_arguments(spec, (), given)
        assert [name for name, value in bound.items() if value != argument_of(spec, name).default] != []


@pytest.mark.parametrize("spec", RANKERS.values(), ids=RANKERS)
def test_spec_is_keyed_by_its_name_and_its_defaults_bind(spec: RankerSpec) -> None:
    assert RANKERS[spec.name] is spec
    defaults = bind_arguments(spec, (), {})
    assert bind_arguments(spec, (), defaults) == defaults
    assert all(type(a.default) is a.kind for a in spec.arguments if a.default is not None)


@pytest.mark.parametrize("spec", RANKERS.values(), ids=RANKERS)
def test_implementation_takes_exactly_the_arguments_of_its_spec(spec: RankerSpec) -> None:
    if spec.implementation is None:
        with pytest.raises(BindingError, match="scores no features"):
            get_ranker(spec.name)
        return
    module, _, name = spec.implementation.partition(":")
    defaults = bind_arguments(spec, (), {})
    assert get_ranker(spec.name) == getattr(import_module(module), name)(**defaults)
    assert get_ranker(spec.name) == getattr(import_module(module), name)()
    # As a recorded evaluation names them.
    assert get_ranker(spec.name, **defaults) == get_ranker(spec.name)


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
        ((0.1, 2, "accuracy", "last", "cls", 3), {}, "at most 5 arguments, not 6"),
        ((), {"metric": "f1"}, "'f1', but must be one of the allowed values"),
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
    assert caught.value.allowed == ("learning_rate", "num_epochs", "metric", "layer", "pooling")


@pytest.mark.parametrize("name", ["euclidean_nn", "cosine_nn", "linear", "finetune"])
def test_accuracy_asked_for_by_name_is_the_same_question_as_unasked(name: str) -> None:
    spec = RANKERS[name]
    unasked = bind_arguments(spec, (), {})
    assert "metric" not in unasked
    assert bind_arguments(spec, (), {"metric": "accuracy"}) == unasked
    assert bind_arguments(spec, (), {"Metric": "Macro F1"}) == {**unasked, "metric": "macro_f1"}


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
        example="",
    )
    assert bind_arguments(spec, ("representative",), {}) == {"mode": "representative"}
    assert bind_arguments(spec, ("Representative",), {}) == {"mode": "representative"}
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
