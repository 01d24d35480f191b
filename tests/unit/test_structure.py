"""The floor plan: sizes of modules and functions, names that stand for one thing, light imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted([*(ROOT / "boltzgen").rglob("*.py"), *(ROOT / "systems").glob("*.py")])
MOST_LINES, MOST_PARAMETERS = 350, 6
SHARED = {"__init__", "__main__", "stage", "registry", "base", "tables"}
"""Names that modules of several packages have."""


def parsed() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in MODULES}


def test_modules_are_short() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {str(path): n for path, n in lengths.items() if n > MOST_LINES} == {}


def test_functions_take_few_parameters() -> None:
    """Six at most, besides ``self``: more means that a thing has no name yet."""
    many = {}
    for path, tree in parsed().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                names = [argument.arg for argument in given if argument.arg not in ("self", "cls")]
                if len(names) > MOST_PARAMETERS:
                    many[f"{path.relative_to(ROOT)}:{node.name}"] = len(names)
    assert many == {}


def test_a_name_stands_for_one_module_and_one_public_type() -> None:
    modules, types = defaultdict(list), defaultdict(list)
    for path, tree in parsed().items():
        if path.stem not in SHARED:
            modules[path.stem].append(str(path.relative_to(ROOT)))
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                types[node.name].append(str(path.relative_to(ROOT)))
    assert [places for places in [*modules.values(), *types.values()] if len(places) > 1] == []


def test_a_constant_has_one_value() -> None:
    """In the whole tree; what is private to a module may be called as anywhere else."""
    found = defaultdict(list)
    for path, tree in parsed().items():
        for node in tree.body:
            named = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            each = [part for target in named for part in getattr(target, "elts", [target])]
            for name in (target.id for target in each if isinstance(target, ast.Name)):
                if name.isupper() and name[0] != "_" and len(name) > 1:
                    found[name].append(str(path.relative_to(ROOT)))
    assert {name: places for name, places in found.items() if len(places) > 1} == {}


def test_importing_boltzgen_loads_no_engine() -> None:
    code = "import sys, boltzgen; print([m for m in ('torch', 'openmm', 'mdtraj') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    import boltzgen

    for name in boltzgen.__all__:
        assert getattr(boltzgen, name) is not None


@pytest.mark.parametrize(
    ("name", "text", "broken"),
    [
        ("boltzgen/newcomer.py", '"""Empty."""\n', "newcomer"),
        ("boltzgen/runtime/climber.py", "from boltzgen.workflow import runner  # noqa\n", "runtime"),
        (
            "boltzgen/smc/hidden.py",
            "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from boltzgen.system import labels\n",
            "smc",
        ),
    ],
)
def test_the_contract_notices(name: str, text: str, broken: str, tmp_path: Path) -> None:
    """A module outside the layers, and imports of what stands above, even for types alone."""
    for part in ("boltzgen", "systems", "workflows"):
        for path in (ROOT / part).rglob("*.py"):
            copy = tmp_path / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    (tmp_path / name).write_text(text)
    command = "from importlinter.cli import lint_imports_command; lint_imports_command(['--no-cache'])"
    result = subprocess.run(
        [sys.executable, "-c", command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(tmp_path), "PATH": ""},
    )
    assert result.returncode == 1 and broken in result.stdout, result.stdout + result.stderr
