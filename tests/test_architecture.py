"""The import table of docs/architecture.md, enforced: who may know whom, and what loads nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("storage", "tasks", "shiftql", "flows", "deployments")
HEAVY = {"torch", "tensorflow", "tensorflow_hub", "tf_keras", "keras", "transformers", "sklearn", "prefect", "mlflow"}

# Which of our packages each may import from.
ARROWS = {
    "storage": {"storage"},
    "tasks": {"tasks", "storage"},
    "shiftql": {"shiftql", "storage"},
    "flows": {"flows", "tasks", "shiftql", "storage"},
    "deployments": set(PACKAGES),
}
# The registry of rankers, which loads nothing.
LIGHT_REGISTRY = "tasks.rankers.specs"
ENGINE = Path("shiftql/engine.py")

# Which libraries of weight each may use, wherever in a file.
LIBRARIES = {
    "storage": {"mlflow"},
    "tasks": HEAVY - {"mlflow"},
    "shiftql": set(),
    "flows": {"prefect"},
    "deployments": {"prefect"},
}


@dataclass(frozen=True)
class Import:
    """One imported module: where it stands, and whether it is loaded together with the file."""

    file: Path
    line: int
    module: str
    at_import: bool
    for_types: bool

    @property
    def top(self) -> str:
        return self.module.split(".")[0]

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


def _imports_of(file: Path) -> Iterator[Import]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    yield from _walk(tree, file.relative_to(ROOT), at_import=True, for_types=False)


def _walk(node: ast.AST, file: Path, *, at_import: bool, for_types: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(file, node.lineno, alias.name, at_import, for_types)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"{file}:{node.lineno} imports relatively"
        # `from tasks.rankers import specs` names the module tasks.rankers.specs.
        for alias in node.names:
            is_module = _is_module(f"{node.module}.{alias.name}")
            yield Import(
                file,
                node.lineno,
                f"{node.module}.{alias.name}" if is_module else str(node.module),
                at_import,
                for_types,
            )
    elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        for typed in node.body:
            yield from _walk(typed, file, at_import=False, for_types=True)
    else:
        inner = at_import and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from _walk(child, file, at_import=inner, for_types=for_types)


def _is_module(name: str) -> bool:
    path = ROOT / Path(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def _files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


IMPORTS = [found for package in PACKAGES for file in _files(package) for found in _imports_of(file)]


def test_there_is_something_to_check() -> None:
    assert {found.file.parts[0] for found in IMPORTS} >= {"storage", "tasks", "shiftql", "flows"}
    assert len(IMPORTS) > 200


def _is_allowed_arrow(found: Import) -> bool:
    importer = found.file.parts[0]
    if found.top in ARROWS[importer] or found.for_types:
        return True
    if importer == "shiftql" and found.module == LIGHT_REGISTRY:
        return True
    return found.file == ENGINE and found.top in {"flows", "deployments"} and not found.at_import


def test_packages_import_only_along_the_arrows() -> None:
    ours = [found for found in IMPORTS if found.top in PACKAGES]
    assert [str(found) for found in ours if not _is_allowed_arrow(found)] == []


def test_only_the_engine_reaches_the_flows_and_only_when_it_runs() -> None:
    reaching = {
        found
        for found in IMPORTS
        if found.top in {"flows", "deployments"}
        and found.file.parts[0] not in {"flows", "deployments"}
        and not found.for_types
    }
    assert {found.file for found in reaching} == {ENGINE}
    assert not any(found.at_import for found in reaching)


def test_libraries_of_weight_are_used_where_they_belong() -> None:
    used = [found for found in IMPORTS if found.top in HEAVY and not found.for_types]
    assert [str(found) for found in used if found.top not in LIBRARIES[found.file.parts[0]]] == []


@pytest.mark.parametrize("package", ["storage", "shiftql"])
def test_libraries_of_weight_are_imported_where_they_are_used(package: str) -> None:
    at_import = [found for found in IMPORTS if found.file.parts[0] == package and found.at_import]
    assert [str(found) for found in at_import if found.top in HEAVY] == []


@pytest.mark.parametrize(
    "module", ["shiftql", "shiftql.engine", "shiftql.cli", "tasks.rankers.specs", "tasks.sources", "tasks.readers"]
)
def test_importing_loads_nothing_heavy(module: str) -> None:
    program = f"import sys, {module}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout
    assert not set(loaded.split()) & (HEAVY | {"numpy", "pandas"})


def test_asking_what_is_known_loads_nothing_heavy(home: Path) -> None:
    program = (
        "import sys, shiftql\n"
        "shiftql.query('SELECT name FROM models WHERE num_params < 10M')\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout
    assert not set(loaded.split()) & (HEAVY | {"numpy", "pandas"})
