"""The prompt reads statements over several lines and survives whatever goes wrong."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput

from shiftql.repl import Names, QueryCompleter, is_complete, run_repl

ENTER, CONTROL_C, CONTROL_D = "\r", "\x03", "\x04"


@pytest.fixture
def keyboard(home) -> Iterator[PipeInput]:
    with create_pipe_input() as pipe, create_app_session(input=pipe, output=DummyOutput()):
        yield pipe


def _typed(keyboard, session, *keys):
    keyboard.send_text("".join(keys))
    run_repl(session, "json")
    return session.asked


@pytest.mark.parametrize("leave", [CONTROL_D, "exit" + ENTER, "quit;" + ENTER, "EXIT" + ENTER, "\\q" + ENTER])
def test_the_prompt_can_be_left(keyboard, fake_session, leave):
    assert _typed(keyboard, fake_session(), leave) == []


def test_a_statement_goes_on_until_its_semicolon(keyboard, fake_session):
    asked = _typed(keyboard, fake_session(), "SELECT name", ENTER, "FROM models;", ENTER, CONTROL_D)
    assert asked == ["SELECT name\nFROM models;"]


def test_enter_on_an_empty_line_does_nothing(keyboard, fake_session):
    assert _typed(keyboard, fake_session(), ENTER, "  ", ENTER, "SELECT 1;", ENTER, CONTROL_D) == ["  SELECT 1;"]


def test_errors_are_shown_and_the_prompt_goes_on(keyboard, fake_session, misnamed, capsys):
    asked = _typed(keyboard, fake_session([misnamed]), "a;", ENTER, "b;", ENTER, CONTROL_D)
    assert asked == ["a;", "b;"]
    assert capsys.readouterr().err.count("^^^") == 2


def test_an_interrupted_query_does_not_end_the_prompt(keyboard, fake_session, capsys):
    asked = _typed(keyboard, fake_session(interrupted=True), "a;", ENTER, "b;", ENTER, CONTROL_D)
    assert asked == ["a;", "b;"]
    assert "interrupted" in capsys.readouterr().err


def test_control_c_gives_up_the_line(keyboard, fake_session):
    assert _typed(keyboard, fake_session(), "SELECT", CONTROL_C, "b;", ENTER, CONTROL_D) == ["b;"]


def test_history_is_kept_between_starts(keyboard, fake_session, home):
    _typed(keyboard, fake_session(), "SELECT a;", ENTER, CONTROL_D)
    assert "SELECT a;" in (home / "history").read_text()


def test_answers_are_in_the_format_asked_for(keyboard, fake_session, rows, capsys):
    _typed(keyboard, fake_session([rows]), "a;", ENTER, CONTROL_D)
    assert '"kind": "rows"' in capsys.readouterr().out


def test_the_banner_counts_the_catalog(keyboard, fake_session, home, capsys):
    _typed(keyboard, fake_session(), CONTROL_D)
    banner = capsys.readouterr().out
    assert f"home {home} · 1 models, 2 datasets" in banner


def test_the_banner_of_an_empty_pool_says_how_to_fill_it(keyboard, fake_session, capsys):
    _typed(keyboard, fake_session(models=()), CONTROL_D)
    assert "shiftql playground" in capsys.readouterr().out


@pytest.mark.parametrize("statement", ["help", "HELP order by", "help;"])
def test_help_needs_no_semicolon(keyboard, fake_session, statement):
    assert _typed(keyboard, fake_session(), statement, ENTER, CONTROL_D) == [statement]


def test_shortcuts_are_asked_as_the_statements_they_stand_for(keyboard, fake_session):
    asked = _typed(keyboard, fake_session(), "\\m", ENTER, "\\d digits-test", ENTER, "\\?", ENTER, CONTROL_D)
    assert asked == ["SHOW MODELS", "SELECT * FROM datasets WHERE name = 'digits-test'", "HELP shortcuts"]


def test_an_unknown_shortcut_is_told_and_the_prompt_goes_on(keyboard, fake_session, capsys):
    assert _typed(keyboard, fake_session(), "\\x", ENTER, "a;", ENTER, CONTROL_D) == ["a;"]
    assert "there is no shortcut \\x" in capsys.readouterr().err


def test_names_of_the_catalog_and_of_the_session_can_be_completed(fake_session):
    names = Names(fake_session(declared={"small": SimpleNamespace(name="Small")}))
    for text, name in (("PRINT sm", "Small"), ("FINETUNE res", "resnet-letters")):
        found = QueryCompleter(names).get_completions(Document(text), CompleteEvent(text_inserted=True))
        assert [completion.text for completion in found] == [name]


def test_a_history_that_cannot_be_kept_ends_nothing(keyboard, fake_session, home):
    (home / "history").mkdir(parents=True)
    assert _typed(keyboard, fake_session(), "a;", ENTER, "b;", ENTER, CONTROL_D) == ["a;", "b;"]


@pytest.mark.parametrize(("asked_for", "suggested"), [(False, []), (True, ["FROM"])])
def test_keywords_that_can_follow_are_suggested_on_demand_only(fake_session, asked_for, suggested):
    event = CompleteEvent(text_inserted=not asked_for, completion_requested=asked_for)
    found = QueryCompleter(Names(fake_session())).get_completions(Document("SELECT * "), event)
    assert [completion.text for completion in found] == suggested


@pytest.mark.parametrize(
    "text", ["a;", "a; ", "a;\n", "a; -- why", "help", "HELP order by", "exit", "'a';", "\\m", " \\d x"]
)
def test_enter_ends_a_finished_statement(text):
    assert is_complete(text)


@pytest.mark.parametrize("text", ["", "a", "a -- b;", "a # b;", "WHERE name = 'a;'", "'exit'", "SELECT help"])
def test_enter_goes_on_in_an_unfinished_statement(text):
    assert not is_complete(text)
