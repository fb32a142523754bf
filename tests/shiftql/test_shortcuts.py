"""Every shortcut of the prompt stands for a statement."""

from types import SimpleNamespace

import pytest

from shiftql.parser import parse
from shiftql.shortcuts import LEAVE, SHORTCUTS, is_shortcut, statement_of
from storage.errors import BindingError

NAMES = SimpleNamespace(models=["resnet-letters", "it's"], datasets=["digits-train", "resnet-letters"])


@pytest.mark.parametrize("shortcut", [each for each in SHORTCUTS if each.word != LEAVE], ids=lambda each: each.word)
def test_every_shortcut_but_the_one_that_leaves_is_a_statement(shortcut):
    assert is_shortcut(shortcut.word)
    assert parse(statement_of(shortcut.word, NAMES))


@pytest.mark.parametrize("typed", ["\\m", " \\M ;", "\\m\n"])
def test_case_blanks_and_semicolons_do_not_matter(typed):
    assert statement_of(typed, NAMES) == "SHOW MODELS"


@pytest.mark.parametrize(
    ("name", "statement"),
    [
        ("models", "HELP models"),
        ("DataReaders", "HELP DataReaders"),
        ("digits-train", "SELECT * FROM datasets WHERE name = 'digits-train'"),
        ("'digits-train'", "SELECT * FROM datasets WHERE name = 'digits-train'"),
        ("resnet-letters;", "SELECT * FROM models WHERE name = 'resnet-letters'"),
        ("it's", "SELECT * FROM models WHERE name = 'it''s'"),
    ],
)
def test_a_name_is_described_as_what_it_names(name, statement):
    assert statement_of(f"\\d {name}", NAMES) == statement
    assert parse(statement)


def test_help_takes_a_topic_of_several_words():
    assert statement_of("\\h order by", NAMES) == "HELP order by"


@pytest.mark.parametrize(
    ("typed", "message"),
    [("\\x", "no shortcut"), ("\\", "no shortcut"), ("\\m now", "nothing after"), ("\\d digit-trian", "did you mean")],
)
def test_what_cannot_be_meant_says_what_can(typed, message):
    with pytest.raises(BindingError) as caught:
        statement_of(typed, NAMES)
    assert message in str(caught.value)
