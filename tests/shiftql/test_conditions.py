"""Conditions of any size, on the small catalog in every kind of database."""

from __future__ import annotations

import time
from typing import Any

import pytest
from sqlalchemy import ColumnElement, not_, select

from shiftql.conditions import Like, all_of, any_of, value
from storage.catalog import ModelRecord
from storage.database import Database

MODELS = ModelRecord.__table__  # type: ignore[attr-defined]
size, name, accuracy = MODELS.c.num_params, MODELS.c.name, MODELS.c.upstream_accuracy
ALL = ["bert-old", "hub-mobile", "odd'; DROP", "resnet-noise", "vit-letters"]
MANY = 10_000


def names(database: Database, condition: ColumnElement[bool]) -> list[str]:
    with database.session() as session:
        return list(session.connection().execute(select(name).where(condition).order_by(name)).scalars())


def sql(database: Database, condition: ColumnElement[bool]) -> str:
    return str(condition.compile(database.engine))


def params(number: Any) -> Any:
    return value(number, size.type)


def mixed(number: int) -> ColumnElement[bool]:
    """A condition that holds for no model."""
    match number % 4:
        case 0:
            return size < params(-number)
        case 1:
            return size.between(params(number), params(number + 1))
        case 2:
            return Like(name, value(f"{number}%", name.type))
        case _:
            return all_of([accuracy > value(number, accuracy.type), name != value(f"{number}", name.type)])


def test_the_operands_are_joined(any_database: Database) -> None:
    small, bert = size < params(1_000_000), name == value("bert-old", name.type)
    assert names(any_database, any_of([small, bert])) == ["bert-old", "hub-mobile", "vit-letters"]
    assert names(any_database, all_of([small, bert])) == []
    assert names(any_database, all_of([small])) == ["hub-mobile", "vit-letters"]


def test_ten_thousand_mixed_operands_are_taken(any_database: Database) -> None:
    nothing = [mixed(number) for number in range(MANY)]
    assert names(any_database, any_of(nothing)) == []
    assert names(any_database, any_of([*nothing, name == value("vit-letters", name.type)])) == ["vit-letters"]
    assert names(any_database, all_of([not_(size < params(-n - 1)) for n in range(MANY)])) == [
        model for model in ALL if model != "odd'; DROP"
    ]


def test_ten_thousand_equalities_are_one_in(any_database: Database) -> None:
    equal = any_of([size == params(number) for number in range(25_000_000 - MANY + 1, 25_000_001)])
    unequal = all_of([size != params(number) for number in range(25_000_000 - MANY + 1, 25_000_001)])
    assert names(any_database, equal) == ["resnet-noise"]
    assert names(any_database, unequal) == ["bert-old", "hub-mobile", "vit-letters"]
    assert " IN (" in sql(any_database, equal)
    assert " NOT IN (" in sql(any_database, unequal)
    assert "=" not in sql(any_database, equal) + sql(any_database, unequal)


def test_equalities_are_folded_column_by_column_among_other_operands(any_database: Database) -> None:
    operands = [
        size == params(300_000),
        name == value("bert-old", name.type),
        Like(name, value("hub%", name.type)),
        size == params(25_000_000),
        name == value("xyzzy", name.type),
    ]
    assert sql(any_database, any_of(operands)).count(" IN (") == 2
    assert names(any_database, any_of(operands)) == ["bert-old", "hub-mobile", "resnet-noise", "vit-letters"]


@pytest.mark.parametrize("width", [2, 65, 5000])
def test_what_is_unknown_stays_unknown(any_database: Database, width: int) -> None:
    """One model has no size: neither a condition on it nor its contrary holds."""
    for condition in (
        any_of([size < params(-number) for number in range(width)]),
        any_of([size == params(-number - 1) for number in range(width)]),
    ):
        assert names(any_database, condition) == []
        assert names(any_database, not_(condition)) == [model for model in ALL if model != "odd'; DROP"]


def test_the_time_grows_with_the_number_of_operands(any_database: Database) -> None:
    def seconds(width: int) -> float:
        condition = any_of([mixed(number) for number in range(width)])
        started = time.process_time()
        names(any_database, condition)
        return time.process_time() - started

    # Another width is another statement, which no cache knows. Quadratic would be 64 times.
    assert min(seconds(8_000 + n) for n in range(2)) < 32 * min(seconds(1_000 + n) for n in range(3))


def test_like_ignores_case_and_takes_nothing_for_an_escape(any_database: Database) -> None:
    def like(pattern: str) -> list[str]:
        return names(any_database, Like(name, value(pattern, name.type)))

    assert like("BERT-%") == like("%ert-ol_") == ["bert-old"]
    assert like("bert\\-%") == like("bert-old\\") == []
    assert names(any_database, not_(Like(name, value("BERT-%", name.type)))) == ALL[1:]


@pytest.mark.parametrize("number", [0.5, 110_000_000.5, 10**12, 2**63, 10**30, 10**400, -(10**400)])
def test_a_number_may_be_any_number(any_database: Database, number: float) -> None:
    sizes = {"bert-old": 110_000_000, "hub-mobile": 500_000, "resnet-noise": 25_000_000, "vit-letters": 300_000}
    assert names(any_database, size < params(number)) == [model for model, held in sizes.items() if held < number]
    assert names(any_database, any_of([size == params(number), size == params(300_000)])) == ["vit-letters"]
