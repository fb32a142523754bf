"""Where everything is kept: the home directory and the servers, read from the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from storage.errors import StoreError


@dataclass(frozen=True)
class Settings:
    """The places of one installation. Every default lies inside `home`; nothing has to be started."""

    home: Path
    database_url: str
    tracking_uri: str

    @property
    def features(self) -> Path:
        return self.home / "features"

    @property
    def manifests(self) -> Path:
        return self.home / "manifests"


def current_settings() -> Settings:
    """The settings of this process: SHIFT_HOME, SHIFT_DATABASE_URL, MLFLOW_TRACKING_URI or their defaults.

    Raises StoreError when the home cannot be made.
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
    )
