from __future__ import annotations

from pathlib import Path

import pytest

from storage.errors import StoreError
from storage.settings import current_settings


def test_everything_lies_in_the_home_by_default(home: Path) -> None:
    settings = current_settings()
    assert settings.home == home
    assert settings.home.is_dir()
    assert settings.features.is_relative_to(home)
    assert settings.manifests.is_relative_to(home)
    assert settings.database_url == f"sqlite:///{home / 'shift.db'}"
    assert settings.tracking_uri == f"sqlite:///{home / 'mlflow.db'}"
    assert settings.store_url is None


def test_the_environment_names_other_places(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHIFT_DATABASE_URL", "postgresql+psycopg://team/shift")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://team:5000")
    monkeypatch.setenv("SHIFT_STORE_URL", "s3://team/shift")
    settings = current_settings()
    assert settings.database_url == "postgresql+psycopg://team/shift"
    assert settings.tracking_uri == "http://team:5000"
    assert settings.store_url == "s3://team/shift"


def test_empty_variables_are_not_set(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHIFT_DATABASE_URL", "")
    assert current_settings().database_url.startswith("sqlite:///")


def test_a_home_may_be_relative(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHIFT_HOME", "nearby")
    assert current_settings().home == tmp_path / "nearby"


@pytest.mark.parametrize(
    ("written", "size"),
    [("", 50 * 10**9), ("7", 7), ("1.5GB", 1_500_000_000), ("20 mb", 20_000_000), ("2T", 2 * 10**12), ("0", 0)],
)
@pytest.mark.parametrize("limited", ["models", "features"])
def test_a_limit_is_a_size(home: Path, monkeypatch: pytest.MonkeyPatch, written: str, size: int, limited: str) -> None:
    monkeypatch.setenv(f"SHIFT_{limited.upper()}_LIMIT", written)
    assert getattr(current_settings(), f"{limited}_limit") == size


def test_checkpoints_have_a_limit_of_their_own(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert current_settings().checkpoint_bytes == 5 * 10**9
    monkeypatch.setenv("SHIFT_CHECKPOINT_BYTES", "20MB")
    assert current_settings().checkpoint_bytes == 20 * 10**6


@pytest.mark.parametrize("written", ["much", "-1GB", "5 apples", "GB"])
@pytest.mark.parametrize("variable", ["SHIFT_MODELS_LIMIT", "SHIFT_FEATURES_LIMIT", "SHIFT_CHECKPOINT_BYTES"])
def test_a_limit_that_is_no_size_is_an_error(
    home: Path, monkeypatch: pytest.MonkeyPatch, written: str, variable: str
) -> None:
    monkeypatch.setenv(variable, written)
    with pytest.raises(StoreError, match=f"{variable} is .* must be a size"):
        current_settings()


@pytest.mark.parametrize(("written", "seconds"), [("", 30.0), ("5", 5.0), ("0.5", 0.5), (" 90 ", 90.0)])
def test_a_claim_expires_after_what_is_set(
    home: Path, monkeypatch: pytest.MonkeyPatch, written: str, seconds: float
) -> None:
    monkeypatch.setenv("SHIFT_CLAIM_SECONDS", written)
    assert current_settings().claim_seconds == seconds


@pytest.mark.parametrize("written", ["soon", "0", "-1", "inf", "nan", "30s"])
def test_a_limit_of_claims_that_is_no_number_above_0_is_an_error(
    home: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    monkeypatch.setenv("SHIFT_CLAIM_SECONDS", written)
    with pytest.raises(StoreError, match="number of seconds above 0"):
        current_settings()
