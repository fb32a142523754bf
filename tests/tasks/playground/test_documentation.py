"""Laws of sentences read from docstrings."""

from pathlib import Path

import pytest

from tasks.playground.documentation import documentation

MODULE = '''"""Parcel is a module that tells how to wrap things.

>>> this paragraph is code and has many words that are never read.

Too short.
"""

def wrap():
    """The paper of a parcel is folded twice around it. This one goes on without an end
    """
'''


@pytest.fixture
def parcel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "parcel_package").mkdir()
    (tmp_path / "parcel_package" / "__init__.py").write_text(MODULE.replace("arcel", "arcel_package"))
    monkeypatch.syspath_prepend(tmp_path)
    return "parcel_package"


def test_whole_sentences_of_docstrings_are_read_without_the_packages_name(parcel: str) -> None:
    assert documentation(parcel) == (
        "is a module that tells how to wrap things.",
        "The paper of a is folded twice around it.",
    )


def test_a_missing_package_is_named() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        documentation("no_such_package")
