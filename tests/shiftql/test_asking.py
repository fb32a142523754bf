"""Results go to standard output, everything else to standard error, and the status says whether it was answered."""

import json

import pytest

from shiftql.asking import ask


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ("rows", 0),
        ("no_rows", 0),
        ("ranking", 0),
        ("no_model", 0),
        ("all_failed", 1),
        ("out_of_time", 1),
        ("interrupted", 130),
        ("unreadable", 1),
        ("misnamed", 2),
    ],
)
def test_status_says_whether_it_was_answered(request, fake_session, answer, status):
    assert ask(fake_session([request.getfixturevalue(answer)]), "…", "table") == status


def test_the_worst_status_of_several_counts(fake_session, rows, all_failed):
    assert ask(fake_session([all_failed, rows]), "…", "table") == 1


def test_errors_stand_on_standard_error_with_their_caret(capsys, fake_session, misnamed):
    ask(fake_session([misnamed]), "…", "table")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "   1 | SELECT nam FROM models\n              ^^^\n" in shown.err
    assert "did you mean name?" in shown.err


def test_json_has_an_object_for_every_statement_that_ran(capsys, fake_session, rows, misnamed):
    ask(fake_session([rows, misnamed]), "…", "json")
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["rows", "error"]


def test_statements_are_a_blank_line_apart(capsys, fake_session, rows):
    ask(fake_session([rows, rows]), "…", "csv")
    assert capsys.readouterr().out == "name,num_params\na|b,1234567\nc,\n\nname,num_params\na|b,1234567\nc,\n"


def test_csv_tells_failures_on_standard_error(capsys, fake_session, ranking):
    ask(fake_session([ranking]), "…", "csv")
    assert capsys.readouterr().err == "failed: broken: its weights are truncated\n"


@pytest.mark.parametrize("answer", ["no_rows", "no_model", "misnamed"])
def test_an_empty_pool_is_told_with_how_to_fill_it(capsys, request, fake_session, answer):
    ask(fake_session([request.getfixturevalue(answer)], models=()), "…", "json")
    note = capsys.readouterr().err
    assert "shiftql playground" in note
    assert "shiftql models add" in note


def test_a_condition_no_model_meets_is_told(capsys, fake_session, no_model):
    ask(fake_session([no_model]), "…", "json")
    assert "no model meets the condition" in capsys.readouterr().err


@pytest.mark.parametrize("answer", ["rows", "ranking", "no_rows"])
def test_an_answer_from_a_filled_pool_needs_no_note(capsys, request, fake_session, answer):
    ask(fake_session([request.getfixturevalue(answer)]), "…", "json")
    assert capsys.readouterr().err == ""
