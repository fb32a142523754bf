"""Where everything is kept: the home directory and the servers, read from the environment."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from storage.errors import StoreError

_DEFAULT_LIMIT = 50_000_000_000
_DEFAULT_CHECKPOINT_BYTES = 5_000_000_000
DEFAULT_CLAIM_SECONDS = 30.0
_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


@dataclass(frozen=True)
class Settings:
    """The places of one installation. Every default lies inside `home`; nothing has to be started.

    Who has claimed an evaluation and gives no sign of life for `claim_seconds` is taken for dead. `notify` names the
    Prefect block through which changes of standing questions are told, as `slack-webhook/team`.
    """

    home: Path
    database_url: str
    tracking_uri: str
    models_limit: int = _DEFAULT_LIMIT
    features_limit: int = _DEFAULT_LIMIT
    checkpoint_bytes: int = _DEFAULT_CHECKPOINT_BYTES
    store_url: str | None = None
    claim_seconds: float = DEFAULT_CLAIM_SECONDS
    notify: str | None = None

    @property
    def features(self) -> Path:
        """Stored features, `features_limit` bytes of which are kept; other machines find them at `store_url`."""
        return self.home / "features"

    @property
    def checkpoints(self) -> Path:
        """What trainings go on from; `checkpoint_bytes` of it are kept."""
        return self.home / "checkpoints"

    @property
    def neighbours(self) -> Path:
        """What was searched in the features, under the same keys as these."""
        return self.home / "neighbours"

    @property
    def clusters(self) -> Path:
        """Clusters of models that did alike in the performance matrix."""
        return self.home / "clusters"

    @property
    def running(self) -> Path:
        """A file for every query that runs and uses features."""
        return self.home / "running"

    @property
    def manifests(self) -> Path:
        return self.home / "manifests"

    @property
    def models(self) -> Path:
        """What was downloaded from hubs; `models_limit` bytes of it and of `shared` together are kept."""
        return self.home / "models"

    @property
    def shared(self) -> Path:
        """Copies of models and datasets that other machines put into the store at `store_url`."""
        return self.home / "shared"

    @property
    def finetuned(self) -> Path:
        """The models that FINETUNE keeps, a directory for each under the folder of its name; nothing deletes them."""
        return self.home / "finetuned"


def current_settings() -> Settings:
    """The settings of this process: SHIFT_HOME, SHIFT_DATABASE_URL, MLFLOW_TRACKING_URI, SHIFT_STORE_URL,
    SHIFT_MODELS_LIMIT, SHIFT_FEATURES_LIMIT and SHIFT_CHECKPOINT_BYTES (sizes such as 50GB), SHIFT_CLAIM_SECONDS and
    SHIFT_NOTIFY, or their defaults.

    Raises StoreError when the home cannot be made, a limit is no size, the seconds are no number above 0, or there is a
    password in the URL of the shared store.
    """
    home = Path(os.environ.get("SHIFT_HOME") or Path.home() / ".shift").expanduser().absolute()
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"the home directory cannot be made: {error.strerror or error}",
            subject=str(home),
            fix="set SHIFT_HOME to a directory that can be written",
        ) from error
    return Settings(
        home=home,
        database_url=os.environ.get("SHIFT_DATABASE_URL") or f"sqlite:///{home / 'shift.db'}",
        tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow.db'}",
        models_limit=_size("SHIFT_MODELS_LIMIT"),
        features_limit=_size("SHIFT_FEATURES_LIMIT"),
        checkpoint_bytes=_size("SHIFT_CHECKPOINT_BYTES", _DEFAULT_CHECKPOINT_BYTES),
        store_url=_store_url(),
        claim_seconds=_seconds(os.environ.get("SHIFT_CLAIM_SECONDS")),
        notify=os.environ.get("SHIFT_NOTIFY") or None,
    )


def _store_url() -> str | None:
    url = os.environ.get("SHIFT_STORE_URL") or None
    if url is not None and urlsplit(url).password is not None:
        raise StoreError(
            "SHIFT_STORE_URL holds a password, which would stand in logs",
            subject="SHIFT_STORE_URL",
            fix="take it out, and give credentials by variables of their own: AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY for S3",
        )
    return url


def tracking_page(settings: Settings) -> str | None:
    """Where people look at MLflow: SHIFT_MLFLOW_URL, or the tracking server where that speaks HTTP; else None.

    Credentials in the server's address are left out.
    """
    url = urlsplit(os.environ.get("SHIFT_MLFLOW_URL") or settings.tracking_uri)
    if url.scheme not in {"http", "https"}:
        return None
    return f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path.rstrip('/')}"


def _seconds(written: str | None) -> float:
    if not written:
        return DEFAULT_CLAIM_SECONDS
    with contextlib.suppress(ValueError):
        if 0 < (seconds := float(written)) < float("inf"):
            return seconds
    raise StoreError(
        f"SHIFT_CLAIM_SECONDS is {written!r}, and must be a number of seconds above 0",
        subject="SHIFT_CLAIM_SECONDS",
        fix="write for example SHIFT_CLAIM_SECONDS=30",
    )


def _size(variable: str, default: int = _DEFAULT_LIMIT) -> int:
    written = os.environ.get(variable)
    if not written:
        return default
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?B?)\s*", written.upper())
    if found is None:
        raise StoreError(
            f"{variable} is {written!r}, and must be a size",
            subject=variable,
            fix=f"write for example {variable}=50GB",
        )
    unit = found[2].removesuffix("B")
    return int(float(found[1]) * _UNITS[f"{unit}B" if unit else ""])
