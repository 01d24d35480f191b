"""The wheel: one top-level name, every entry point works outside the repository, clean layering."""

from __future__ import annotations

import ast
import configparser
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

BUILD_EVERY_SYSTEM = """
import sys
from pathlib import Path

import boltzgen
from boltzgen.system.registry import available_systems, load_system
from openmm import app

assert Path(boltzgen.__file__).is_relative_to(sys.prefix), boltzgen.__file__
alanine = load_system("alanine_dipeptide")
with open("alanine.pdb", "w") as file:
    app.PDBFile.writeFile(alanine.topology, alanine.positions * 10, file)
for name in available_systems():
    parameters = {"molecule": {"pdb": "alanine.pdb"}, "peptide": {"sequence": "AC"}}.get(name, {})
    system = load_system(name, parameters)
    print(name, system.n_atoms)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy so that no stale build directory gets into it."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("boltzgen", "systems", "workflows"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(target),
        str(source),
    ]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return next(target.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of a fresh environment that holds the wheel and sees the dependencies installed here."""
    directory = tmp_path_factory.mktemp("environment")
    venv.create(directory, with_pip=False, symlinks=os.name != "nt")
    python = directory / ("Scripts" if os.name == "nt" else "bin") / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    query = "import sysconfig; print(sysconfig.get_path('purelib'))"
    purelib = subprocess.run([python, "-c", query], check=True, capture_output=True, text=True).stdout.strip()
    here = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (Path(purelib) / "dependencies.pth").write_text("\n".join(sorted(here)) + "\n")
    return python


def run(python: Path, directory: Path, *arguments: str) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [python, *arguments], cwd=directory, env=environment, capture_output=True, text=True, timeout=200
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def entry_points(wheel: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(delimiters="=")
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith("entry_points.txt"))
        parser.read_string(archive.read(name).decode())
    return parser


def test_contents(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top = {name.partition("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"boltzgen"}
    for path in (ROOT / "boltzgen").rglob("*.py"):
        assert path.relative_to(ROOT).as_posix() in names
    for folder in ("systems", "workflows"):
        for path in (ROOT / folder).glob("*.[py]*"):
            assert f"boltzgen/{folder}/{path.name}" in names
    assert "boltzgen/py.typed" in names
    for path in (ROOT / "boltzgen" / "report" / "templates").iterdir():
        assert path.relative_to(ROOT).as_posix() in names
    for path in (ROOT / "boltzgen" / "pretrained").glob("*/*"):
        assert path.relative_to(ROOT).as_posix() in names


def test_entry_points_import(wheel: Path, installed: Path, tmp_path: Path) -> None:
    parser = entry_points(wheel)
    targets = [*parser["console_scripts"].values(), *parser["boltzgen.systems"].values()]
    assert len(targets) > 5
    lines = ["from importlib import import_module"]
    for target in targets:
        module, _, name = target.partition(":")
        lines.append(f"assert callable(getattr(import_module({module!r}), {name!r}))")
    run(installed, tmp_path, "-c", "\n".join(lines))


def test_every_system_builds_outside_the_repository(wheel: Path, installed: Path, tmp_path: Path) -> None:
    built = run(installed, tmp_path, "-c", BUILD_EVERY_SYSTEM).split()[::2]
    assert set(built) >= set(entry_points(wheel)["boltzgen.systems"])


def test_every_workflow_is_found(installed: Path, tmp_path: Path) -> None:
    listed = run(installed, tmp_path, "-c", "from boltzgen.cli.app import main; main()", "workflows")
    assert {path.stem for path in (ROOT / "workflows").glob("*.yaml")} == {
        line.split()[0] for line in listed.splitlines()
    }


def test_the_public_names_resolve(installed: Path, tmp_path: Path) -> None:
    code = "import boltzgen; print([getattr(boltzgen, name) for name in boltzgen.__all__])"
    run(installed, tmp_path, "-c", code)


def test_the_core_names_no_system() -> None:
    for path in (ROOT / "boltzgen").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.startswith("boltzgen.systems") for name in names), path


SPRINGS = """#springs
C 0.000 0.000 0.000
C 0.150 0.000 0.000
C 0.075 0.130 0.000
0 1 0.15 20000
1 2 0.15 20000
0 2 0.15 20000
"""


def test_the_plugin_of_the_docs_works_installed(installed: Path, tmp_path: Path) -> None:
    """A package of somebody else's: its system by name, and its format in a workflow file and in `new`."""
    shutil.copytree(ROOT / "docs" / "plugin", tmp_path / "plugin")
    pip = [sys.executable, "-m", "pip", "--python", str(installed), "install", "--no-deps", "--no-index"]
    done = subprocess.run(
        [*pip, "--no-build-isolation", str(tmp_path / "plugin")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Three carbon beads" in run(installed, tmp_path, "-m", "boltzgen", "systems")
    (tmp_path / "my.txt").write_text(SPRINGS)
    said = run(installed, tmp_path, "-m", "boltzgen", "new", "mine", "my.txt", "--solvent", "vacuum")
    assert "3 atoms" in said
    assert "nothing stands in its way" in run(installed, tmp_path, "-m", "boltzgen", "check", "mine.yaml")
