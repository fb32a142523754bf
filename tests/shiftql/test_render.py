"""Each format says the same answer, exactly as written here."""

import csv
import io
import json
from dataclasses import fields, replace
from datetime import UTC, datetime

import pytest

from shiftql.answers import FinetuneAnswer
from shiftql.render import render, render_record, render_records

RECORDS = [
    {
        "name": "resnet",
        "num_params": 84512,
        "date_added": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "tags": "",
    }
]


def test_table_of_a_ranking_has_intervals_baselines_beneath_failures_and_a_summary(ranking):
    assert render(ranking, "table").splitlines() == [
        "rank  model           num_params  score  95 % interval  tied  metric    n test",
        "──────────────────────────────────────────────────────────────────────────────",
        "   1  resnet-letters       84.5K  0.877  0.827 – 0.927        accuracy     600",
        "   2  vit-noise             300K  0.125  0.075 – 0.175        accuracy     600",
        "──────────────────────────────────────────────────────────────────────────────",
        "      majority                    0.100  0.050 – 0.150        accuracy     600",
        "failed",
        "- broken: its weights are truncated",
        "evaluated 8, reused 4, 3.2 s",
    ]


def test_models_that_failed_for_the_same_reason_share_a_line(ranking):
    reasons = {"a": "the hub cannot be reached", "b": "no weights", "c": "the hub cannot be reached"}
    failed = tuple({"model": model, "reason": reason} for model, reason in reasons.items())
    lines = render(replace(ranking, failed=failed), "table").splitlines()
    assert lines[lines.index("failed") + 1 : -1] == ["- a, c: the hub cannot be reached", "- b: no weights"]


def test_trainings_that_did_not_come_to_their_end_are_told_with_how_far_they_are(begun):
    text = render(begun, "table")
    assert "- vit (lr 0.001): 7 of 10 epochs, validation_accuracy 0.750\n- bert (lr 0.001): 1 of 10 epochs" in text


@pytest.mark.parametrize("name", ["all_failed", "out_of_time"])
def test_where_no_model_is_ranked_there_is_no_table(name, request):
    answer = replace(request.getfixturevalue(name), rankings={"FineTune": ()})
    assert "rank " not in render(answer, "table")


def test_models_that_tell_all_rows_alike_are_said_beneath_their_ranking(ranking):
    ((label, (best, *others)),) = ranking.rankings.items()
    told = replace(ranking, rankings={label: (best | {"collapsed": True}, *others)})
    assert "collapsed, telling all rows alike: resnet-letters" in render(told, "table").splitlines()


LOAD = ["from transformers import A, B", 'model, processor = A.from_pretrained("/m"), B.from_pretrained("/m")']


def finetuned(ranking):
    told = {field.name: getattr(ranking, field.name) for field in fields(ranking)}
    return FinetuneAnswer(**told, kept={"name": "digits", "path": "/m", "load": LOAD})


def test_how_a_kept_model_is_loaded_is_said_in_lines_that_are_never_broken(ranking):
    assert render(finetuned(ranking), "table", width=40).splitlines()[-3:] == [
        "kept as digits, which loads with",
        *LOAD,
    ]
    markdown = render(finetuned(ranking), "markdown")
    assert markdown.endswith("\n\n```python\n" + "\n".join(LOAD) + "\n```")
    assert json.loads(render(finetuned(ranking), "json"))["kept"]["load"] == LOAD


def test_table_of_rows_has_a_count(rows):
    assert render(rows, "table").splitlines() == [
        "name  num_params",
        "────────────────",
        "a|b        1.23M",
        "c",
        "2 rows, 0.01 s",
    ]


def test_each_of_several_rankings_is_headed_by_its_ranker(two_rankings):
    lines = render(two_rankings, "table").splitlines()
    assert [line for line in lines if line.startswith("by ")] == ["by Linear", "by Cosine NN"]


def test_markdown_of_rows_escapes_bars(rows):
    assert render(rows, "markdown").splitlines() == [
        "| name | num_params |",
        "| --- | --: |",
        "| a\\|b | 1.23M |",
        "| c |  |",
        "",
        "2 rows, 0.01 s",
    ]


def test_markdown_fences_a_plan(plan):
    assert render(plan, "markdown") == "```\nRank\n└─ Scan\n```"


@pytest.mark.parametrize("format", ["table", "csv"])
def test_a_plan_stays_a_tree(plan, format):
    assert "Rank\n└─ Scan" in render(plan, format)


def test_csv_of_a_ranking_holds_raw_values(ranking):
    table = list(csv.DictReader(io.StringIO(render(ranking, "csv"))))
    assert [(row["rank"], row["model"], row["score"], row["num_params"], row["baseline"]) for row in table] == [
        ("1", "resnet-letters", "0.8766", "84512", ""),
        ("2", "vit-noise", "0.125", "300123", ""),
        ("", "majority", "0.1", "", "true"),
    ]


def test_csv_of_several_rankings_names_the_ranker_first(two_rankings):
    header, *table = csv.reader(io.StringIO(render(two_rankings, "csv")))
    assert header[0] == "ranker"
    assert [row[0] for row in table] == ["Linear", "Linear", "Cosine NN"]


def test_csv_quotes_what_csv_must(rows):
    assert render(rows, "csv") == "name,num_params\na|b,1234567\nc,"


def test_json_is_the_answer_on_one_line(ranking, rows, plan, misnamed):
    for answer in (ranking, rows, plan, misnamed):
        line = render(answer, "json")
        assert "\n" not in line
        assert json.loads(line) == answer.to_json()


def test_records_in_json_are_one_list_with_all_columns():
    listed = json.loads(render_records(RECORDS, ["name"], "json"))
    assert listed == [{**RECORDS[0], "date_added": "2026-01-02T03:04:05+00:00"}]


def test_records_in_a_table_show_the_columns_asked_for():
    assert render_records(RECORDS, ["name", "num_params"], "table").splitlines()[-1] == "resnet       84.5K"


def test_no_records_are_an_empty_list_and_a_header_alone():
    assert render_records([], ["name"], "json") == "[]"
    assert render_records([], ["name", "type"], "csv") == "name,type"


def test_one_record_is_an_object_a_row_or_a_line_for_each_column():
    record = {"name": "resnet", "date_added": datetime(2026, 1, 2, tzinfo=UTC), "classes": ["a", "b"]}
    assert json.loads(render_record(record, "json"))["classes"] == ["a", "b"]
    assert render_record(record, "csv").splitlines()[0] == "name,date_added,classes"
    assert render_record(record, "markdown").splitlines()[2:] == [
        "| name | resnet |",
        "| date_added | 2026-01-02T00:00:00+00:00 |",
        "| classes | a, b |",
    ]


@pytest.mark.parametrize("width", [20, 40, 79, 120])
def test_a_table_keeps_to_the_width_of_the_terminal(ranking, rows, width):
    for answer in (ranking, rows):
        assert max(map(len, render(answer, "table", width=width).splitlines())) <= width


def test_what_is_too_narrow_for_a_table_is_drawn_as_a_block_a_row(ranking):
    lines = render(ranking, "table", width=40).splitlines()
    assert "model          resnet-letters" in lines
    assert "num_params     84.5K" in lines


def test_nothing_is_cut_without_a_width():
    assert "x" * 5000 in render_records([{"name": "x" * 5000}], ["name"], "table")


def test_only_a_terminal_gets_colours(ranking, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[" not in render(ranking, "table")
    assert "\x1b[" in render(ranking, "table", width=120, colour=True)


def test_square_brackets_in_data_are_data():
    assert "[bold]x" in render_records([{"name": "[bold]x"}], ["name"], "table")
