"""Fine-tuned models as versions of registered models in MLflow's model registry."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from sqlmodel import select

from storage.database import Database
from storage.lineage import Lineage
from storage.mlflow_model import describe_for_mlflow
from storage.results import EvaluationRecord
from storage.settings import current_settings
from storage.tracking import export_pending, reach_mlflow

if TYPE_CHECKING:
    from mlflow import MlflowClient

_CONTENT_TAG = "shift.fingerprint"
# Where the files of a version lie among the artifacts of its run.
_ARTIFACTS = "model"
_SQLITE = "sqlite:///"


def register_version(name: str, directory: str, lineage: str) -> str:
    """Register the model in a directory, of the lineage as JSON, under a name; its name and version there.

    What is registered already keeps its version. Where MLflow is the home's own, the version says where the directory
    is, which is made one that MLflow opens; a server gets a copy of it, as artifacts of the run that won. Raises
    StoreError when MLflow is out of reach.
    """
    from mlflow.exceptions import MlflowException

    settings = current_settings()
    client = reach_mlflow(settings)
    told = Lineage.from_json(lineage)
    # MLflow allows no separators and no leading dots in a name, and quotes would end it in a filter.
    known_as = re.sub(r"[/:'\"`]|^\.+", "-", name)
    with contextlib.suppress(MlflowException):
        client.create_registered_model(known_as, tags={"shift.name": name})
    for version in client.search_model_versions(f"name = '{known_as}'"):
        if version.tags.get(_CONTENT_TAG) == told.content:
            return f"{known_as}/{version.version}"
    describe_for_mlflow(Path(directory))
    if (run := _run_of(told.evaluation)) is None:
        export_pending()
        run = _run_of(told.evaluation)
    is_own = run is None or settings.tracking_uri.startswith(_SQLITE)
    made = client.create_model_version(
        known_as,
        source=Path(directory).as_uri() if is_own else _uploaded(client, str(run), directory),
        run_id=run,
        tags={
            _CONTENT_TAG: str(told.content),
            "shift.evaluation": told.evaluation,
            "shift.parent": told.parent.name,
            "shift.parent_fingerprint": told.parent.fingerprint,
            "shift.statement": told.statement,
            "shift.datasets": ", ".join(dataset.name for dataset in told.datasets),
            told.metric: str(told.value),
        },
    )
    return f"{known_as}/{made.version}"


def _run_of(evaluation: str) -> str | None:
    with Database(current_settings()).session() as session:
        wanted = select(EvaluationRecord.mlflow_run_id).where(EvaluationRecord.fingerprint == evaluation)
        return session.exec(wanted).first()


def _uploaded(client: MlflowClient, run: str, directory: str) -> str:
    client.log_artifacts(run, directory, _ARTIFACTS)
    return f"{client.get_run(run).info.artifact_uri}/{_ARTIFACTS}"
