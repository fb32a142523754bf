"""The command line: what it accepts, where it writes, and its exit statuses."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

import shiftql.engine
from shiftql.cli import main
from shiftql.progress import progress
from storage.catalog import Catalog
from storage.database import Database
from storage.errors import StoreError
from storage.settings import current_settings

FINGERPRINTS = {"fingerprint": "0" * 32, "signature": "s"}
MODEL = {
    "source": "huggingface",
    "path": "/m",
    "modality": "image",
    "architecture": "ResNet",
    "num_params": 84512,
}
QUERY = "SELECT name FROM models"


def run(*arguments, **options):
    return CliRunner().invoke(main, arguments, **options)


@pytest.fixture
def catalog(home):
    return Catalog(Database(current_settings()))


@pytest.fixture
def pool(catalog):
    catalog.save_model("resnet", {**MODEL, **FINGERPRINTS})
    return catalog


@pytest.fixture
def session(fake_session, monkeypatch, rows):
    made = fake_session([rows])
    monkeypatch.setattr(shiftql.engine, "Session", lambda **_: made)
    return made


def test_a_query_is_given_after_c(session):
    assert run("-c", QUERY).exit_code == 0
    assert session.asked == [QUERY]


@pytest.mark.parametrize("arguments", [(), ("-",), ("--format", "json"), ("-", "--format", "json")])
def test_queries_are_read_from_standard_input(session, arguments):
    assert run(*arguments, input=QUERY).exit_code == 0
    assert session.asked == [QUERY]


@pytest.mark.parametrize("name", ["queries.shiftql", "queries.sql", "down"])
def test_queries_are_read_from_a_file(session, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(QUERY, encoding="utf-8-sig")
    assert run(f"./{name}").exit_code == 0
    assert session.asked == [QUERY]


def test_a_command_wins_over_a_file_of_its_name(session, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("parse").write_text(QUERY)
    assert json.loads(run("parse", "-c", QUERY).stdout)["node"] == "Select"
    assert session.asked == []


@pytest.mark.parametrize("arguments", [("--format", "json", "-c", QUERY), ("-c", QUERY, "--format", "json")])
def test_the_format_holds_wherever_it_stands(session, arguments):
    assert json.loads(run(*arguments).stdout)["kind"] == "rows"


def test_the_format_holds_before_and_behind_a_file(session, tmp_path):
    file = tmp_path / "q.shiftql"
    file.write_text(QUERY)
    for arguments in (["--format", "json", str(file)], [str(file), "--format", "json"]):
        assert json.loads(run(*arguments).stdout)["kind"] == "rows"


def test_the_status_is_that_of_the_answer(session, all_failed, misnamed):
    session.answers = [all_failed]
    assert run("-c", QUERY).exit_code == 1
    session.answers = [misnamed]
    assert run("-c", QUERY).exit_code == 2


def test_a_rule_that_is_turned_off_has_to_be_one(home):
    result = run("--no-rule", "share_embedings", "-c", QUERY)
    assert result.exit_code == 2
    assert "did you mean share_embeddings" in result.stderr
    assert run("--no-rule", "ShareEmbeddings", "--no-rule", "reuse-known-results", "-c", QUERY).exit_code == 0


def test_control_c_exits_with_130(session):
    session.interrupted = True
    result = run("-c", QUERY)
    assert result.exit_code == 130
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["modles"], "Did you mean 'models'?"),
        (["models", "lst"], "Did you mean 'list'?"),
        ([QUERY], f'shiftql -c "{QUERY}"'),
        (["missing.shiftql"], "No such file"),
        (["-c", QUERY, "models", "list"], "-c takes the place"),
        (["parse", "-c", QUERY, "-"], "-c takes the place"),
        (["--format", "xml", "-c", QUERY], "'xml' is not one of"),
        (["datasets", "add", "a", "b", "--option", "key"], "key=value"),
    ],
)
def test_bad_usage_is_told_with_status_2(arguments, said):
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""


def test_a_file_that_is_no_text_is_bad_usage(tmp_path):
    file = tmp_path / "q.shiftql"
    file.write_bytes(b"SELECT \xff")
    result = run(str(file))
    assert result.exit_code == 2
    assert "not UTF-8 text" in result.stderr


def test_help_shows_queries_and_every_command():
    shown = run("--help").stdout
    for expected in ("SELECT name", "TRAINED ON", "models", "datasets", "playground", "parse", "down"):
        assert expected in shown


def test_parse_prints_a_line_for_each_statement():
    lines = run("parse", "-c", f"{QUERY}; EXPLAIN {QUERY}").stdout.splitlines()
    assert [json.loads(line)["node"] for line in lines] == ["Select", "Explain"]


def test_parse_reads_files_and_standard_input(tmp_path):
    file = tmp_path / "q.shiftql"
    file.write_text(QUERY)
    given = [run("parse", str(file)), run("parse", input=QUERY), run("parse", "-", input=QUERY)]
    assert {json.loads(result.stdout)["node"] for result in given} == {"Select"}


def test_what_does_not_parse_is_a_bad_query():
    result = run("parse", "-c", "SELEC name FROM models")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "did you mean SELECT?" in result.stderr


@pytest.mark.parametrize("arguments", [("models", "list", "--format", "json"), ("--format", "json", "models", "list")])
def test_models_are_listed_as_one_json_list(pool, arguments):
    (model,) = json.loads(run(*arguments).stdout)
    assert (model["name"], model["modality"], model["num_params"]) == ("resnet", "image", 84512)
    assert "signature" not in model


def test_an_empty_pool_is_listed_empty_and_told(home):
    result = run("models", "list", "--format", "json")
    assert json.loads(result.stdout) == []
    assert "shiftql playground" in result.stderr


def test_a_model_is_shown_with_its_columns(pool):
    assert json.loads(run("models", "show", "resnet", "--format", "json").stdout)["architecture"] == "ResNet"


@pytest.mark.parametrize("command", ["show", "remove"])
@pytest.mark.parametrize("kind", ["models", "datasets"])
def test_what_is_not_there_is_told_with_status_1(pool, kind, command):
    result = run(kind, command, "resnett")
    assert result.exit_code == 1
    assert "there is no" in result.stderr


def test_a_removed_model_is_gone(pool):
    assert run("models", "remove", "resnet").exit_code == 0
    assert pool.models() == []


def test_a_dataset_is_added_listed_updated_and_removed(catalog, tmp_path):
    file = tmp_path / "reviews.csv"
    file.write_text("said,mood\ngood,pos\nbad,neg\nfine,pos\n")
    columns = ["--text-column", "said", "--option", "label_column=mood"]
    assert (
        "added reviews: 3 text rows for classification, 2 classes (neg, pos)"
        in run("datasets", "add", "reviews", str(file), *columns).stdout
    )
    part = run("datasets", "add", "part", str(file), *columns, "--split", "[:2]", "--task", "classification")
    assert "added part: 2 text rows" in part.stdout
    run("datasets", "remove", "part")
    assert "updated reviews" in run("datasets", "add", "reviews", str(file), *columns).stdout
    (listed,) = json.loads(run("datasets", "list", "--format", "json").stdout)
    assert (listed["name"], listed["modality"], listed["num_rows"]) == ("reviews", "text", 3)
    assert listed["options"] == {"text_column": "said", "label_column": "mood"}
    assert json.loads(run("datasets", "show", "reviews", "--format", "json").stdout) == listed
    assert run("datasets", "remove", "reviews").exit_code == 0
    assert catalog.datasets() == []


def test_a_model_is_added_with_what_is_told_of_it(session, pool, monkeypatch):
    added = {}

    def add_model(name, location, *, source, columns):
        added.update(columns, location=location, source=source)
        return SimpleNamespace(modality="image", architecture="ViT", num_params=300_123, source="huggingface")

    session.add_model = add_model
    told = ["--trust", "--upstream-accuracy", "0.5", "--tag", "a", "--tag", "b", "--licence", "mit"]
    result = run("models", "add", "vit", "./vit", *told)
    assert result.stdout == "added vit: image model, ViT, 300K parameters, source huggingface\n"
    assert added == {
        "trusted": True,
        "upstream_accuracy": 0.5,
        "tags": "a,b",
        "licence": "mit",
        "location": "./vit",
        "source": None,
    }
    assert run("models", "add", "resnet-letters", "./vit").stdout.startswith("updated resnet-letters")


def test_starters_are_added_and_counted(session):
    session.add_starters = lambda modality: SimpleNamespace(
        rows=[{"name": modality, "status": status} for status in ("added", "added", "updated")]
    )
    result = run("models", "add", "--starter", "image")
    assert result.stdout.startswith("2 image models are added and 1 updated; their weights are downloaded when")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--starter", "text", "name", "owner/name"), "--starter stands alone"),
        (("--starter", "text", "--trust"), "--starter stands alone"),
        (("--starter", "audio"), "'audio' is not one of"),
        (("name",), "write a name and a location"),
        ((), "write a name and a location"),
    ],
)
def test_models_are_added_by_name_or_as_starters(session, arguments, message):
    result = run("models", "add", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_refused_model_is_told_with_status_1(session):
    def add_model(*_, **__):
        raise StoreError("./vit is not a directory", fix="give a directory")

    session.add_model = add_model
    result = run("models", "add", "vit", "./vit")
    assert (result.exit_code, result.stderr) == (
        1,
        "error: ./vit is not a directory\nfix: give a directory\n",
    )


def test_the_playground_is_made_as_asked_and_counted(session, tmp_path):
    made = []

    def make_playground(directory, size, seed):
        progress.get().note("training")
        made.append((directory, size, seed))
        return SimpleNamespace(models=[1, 2], datasets=[1])

    session.make_playground = make_playground
    result = run("playground", str(tmp_path), "--size", "full", "--seed", "7")
    assert made == [(tmp_path, "full", 7)]
    assert "2 models and 1 dataset splits" in result.stdout
    assert result.stderr == "training\n"


@pytest.mark.parametrize(
    ("stopped", "said"), [(["mlflow", "prefect"], "stopped: mlflow, prefect"), ([], "nothing was running")]
)
def test_down_says_what_it_stopped(session, stopped, said):
    session.stop_stack = lambda: stopped
    result = run("down")
    assert result.exit_code == 0
    assert said in result.stdout


def _part(name="prefect", state="started", **more):
    return SimpleNamespace(**{"name": name, "state": state, "url": None, "log": None, **more})


def test_up_says_what_runs_where_and_what_to_do_next(session, home):
    asked = []

    def start_stack(workers, mlflow, port):
        asked.append((workers, mlflow, port))
        yield _part(url="http://127.0.0.1:4200")
        yield _part("worker cpu-1", "running")

    session.start_stack = start_stack
    result = run("up", "--workers", "2", "--no-mlflow", "--port", "4200")
    assert asked == [(2, False, 4200)]
    assert "http://127.0.0.1:4200" in result.stdout
    assert str(home / "logs") in result.stdout
    assert "shiftql down" in result.stdout
    assert run("up").exit_code == 0
    assert asked[1] == (None, None, None)


def test_status_fails_where_something_is_dead(session):
    session.stack = lambda: [_part("mlflow", "dead", log="/logs/mlflow.log"), _part(state="running")]
    result = run("status")
    assert result.exit_code == 1
    assert "dead" in result.stdout
    assert "/logs/mlflow.log" in result.stdout
    assert "shiftql up" in result.stdout


def test_status_says_that_nothing_runs(session):
    session.stack = list
    result = run("status")
    assert result.exit_code == 0
    assert "nothing runs" in result.stdout


def _process(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "shiftql", *arguments], capture_output=True, text=True, check=False, **options
    )


def test_the_process_parses_without_reading_standard_input():
    with subprocess.Popen(
        [sys.executable, "-m", "shiftql", "parse", "-c", QUERY], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.wait(timeout=60) == 0


def test_the_process_says_bad_query_by_its_status(home):
    result = _process("--format", "json", "-c", "SELECT")
    assert result.returncode == 2
    assert json.loads(result.stdout)["error"]["type"] == "QuerySyntaxError"


def test_a_reader_that_leaves_early_hears_no_complaint(home):
    query = ";".join([QUERY] * 2000)
    with subprocess.Popen(
        [sys.executable, "-m", "shiftql", "parse", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        process.stdin.write(query)
        process.stdin.close()
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""


HEAVY = {
    "torch",
    "tensorflow",
    "prefect",
    "mlflow",
    "transformers",
    "sqlalchemy",
    "numpy",
    "rich",
    "prompt_toolkit",
}


def test_importing_the_package_and_the_command_line_is_light():
    code = "import sys, shiftql, shiftql.cli; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "shiftql" in loaded
    assert HEAVY.isdisjoint(loaded)
