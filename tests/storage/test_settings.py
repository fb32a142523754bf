from __future__ import annotations

from pathlib import Path

import pytest

from storage.settings import current_settings


def test_everything_lies_in_the_home_by_default(home: Path) -> None:
    settings = current_settings()
    assert settings.home == home
    assert settings.home.is_dir()
    assert settings.features.is_relative_to(home)
    assert settings.manifests.is_relative_to(home)
    assert settings.database_url == f"sqlite:///{home / 'shift.db'}"
    assert settings.tracking_uri == f"sqlite:///{home / 'mlflow.db'}"


def test_the_environment_names_other_places(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHIFT_DATABASE_URL", "postgresql+psycopg://team/shift")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://team:5000")
    settings = current_settings()
    assert settings.database_url == "postgresql+psycopg://team/shift"
    assert settings.tracking_uri == "http://team:5000"


def test_empty_variables_are_not_set(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHIFT_DATABASE_URL", "")
    assert current_settings().database_url.startswith("sqlite:///")


def test_a_home_may_be_relative(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHIFT_HOME", "nearby")
    assert current_settings().home == tmp_path / "nearby"
