"""The pages under docs/: links lead somewhere, examples build, commands name what there is."""

from __future__ import annotations

import re
import shlex
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
from openmm import app
from openmmtools.testsystems import get_data_filename

from boltzgen import make_potential
from boltzgen.config.load import load_workflow
from boltzgen.ensemble.tails import Tail
from boltzgen.sample import verdict
from boltzgen.smc.divergences import Measured
from boltzgen.smc.presence import Presence
from boltzgen.system.registry import build_system, load_system
from boltzgen.testing import check_system

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NOTEBOOK = sorted((ROOT / "benchmarks" / "notebook").glob("*.md"))
NAMED_FILE = re.compile(r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOK], ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        name, _, heading = target.partition("#")
        if name.startswith("http"):
            continue
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in [re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings], target


def test_the_example_of_a_system_is_one(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "adding_a_system.md").read_text(encoding="utf-8")
    for name, text in NAMED_FILE.findall(page):
        (tmp_path / name).write_text(text)
    for name in ("exact.py", "md.py"):
        compile((tmp_path / name).read_text(), name, "exec")
    result = check_system(load_system("butane.py", base=tmp_path))
    assert result.mirror_symmetric
    found = {}
    for name in ("butane.yaml", "more.yaml"):
        for quick in (False, True):
            workflow, base = load_workflow(str(tmp_path / name), quick=quick)
            system = build_system(workflow, base)
            assert [state.name for state in system.states] == ["trans", "gauche"]
            found[name] = [cv.name for cv in system.collective_variables]
    assert found["butane.yaml"] == ["phi"] and found["more.yaml"] == ["phi", "ends", "bend", "size", "fold"]


WITH_BONDS_OF_ITS_OWN = """

by_openmm = build

def build():
    molecule = by_openmm()
    molecule.openmm_system.removeForce(0)
    molecule.openmm_system.addForce(bonds())
    return molecule
"""


def test_the_energy_of_ones_own_is_one(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "adding_a_system.md").read_text(encoding="utf-8")
    module = dict(NAMED_FILE.findall(page))["butane.py"]
    energy = page.split("### An energy of your own")[1].split("```python\n")[1].split("```")[0]
    (tmp_path / "morse.py").write_text(module + energy + WITH_BONDS_OF_ITS_OWN)
    system = load_system("morse.py", base=tmp_path)
    assert check_system(system).mirror_symmetric
    assert make_potential(system, backend="batched").backend == "batched"


def test_the_example_of_amber_files_is_one(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "your_molecule.md").read_text(encoding="utf-8")
    (tmp_path / "my.yaml").write_text("name: my\n" + page.split("```yaml\n")[2].split("```")[0])
    prmtop = Path(get_data_filename("data/alanine-dipeptide-gbsa/alanine-dipeptide.prmtop"))
    shutil.copy(prmtop, tmp_path / "my.prmtop")
    shutil.copy(prmtop.with_suffix(".crd"), tmp_path / "my.rst7")
    assert build_system(*load_workflow(str(tmp_path / "my.yaml"))).n_atoms == 22


@pytest.mark.parametrize(
    ("page", "variables"), [("README.md", ["phi"]), ("docs/your_molecule.md", ["phi", "ends", "fold"])]
)
def test_the_molecule_of_a_page_is_one(page: str, variables: list[str], tmp_path: Path) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    (tmp_path / "my.yaml").write_text(text.split("```yaml\n")[1].split("```")[0])
    alanine = load_system("alanine_dipeptide")
    with (tmp_path / "my.pdb").open("w") as stream:
        app.PDBFile.writeFile(alanine.topology, 10 * alanine.positions, stream)
    system = build_system(*load_workflow(str(tmp_path / "my.yaml")))
    assert [cv.name for cv in system.collective_variables] == variables
    assert system.collective_variables[0].atoms == alanine.collective_variables[0].atoms
    assert [state.name for state in system.states] == ["positive", "negative"]


def commands(page: Path) -> list[list[str]]:
    """Commands that a page names: lines of its shell blocks, and code that starts like one."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = [
        line for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) for line in block.splitlines()
    ]
    inline = re.findall(r"`((?:boltzgen|pytest|python benchmarks)[ /][^`]+)`", text)
    return [words for words in (shlex.split(line, comments=True) for line in [*blocks, *inline]) if words]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_name_files_settings_and_workflows_that_there_are(page: Path) -> None:
    for words in commands(page):
        settings = [b for a, b in pairwise(words) if a == "--set"]
        if words[:2] == ["boltzgen", "run"] and "." not in words[2] and not words[2].startswith("-"):
            load_workflow(words[2], settings, quick="--quick" in words)
        if words[0] in ("pytest", "python") and not (words[0] == "python" and "/" not in words[1]):
            path = next(word for word in words[1:] if word.endswith(".py"))
            assert (ROOT / path).is_file(), words


def test_the_verdicts_of_the_concepts_are_those_of_the_code() -> None:
    """A run just inside every threshold of the page is trusted, and just outside it is not."""
    good = {
        "genealogical_ess": 100.0,
        "log_z_error": 0.3,
        "jeffreys": 8.0,
        "ancestors_per_state": {"a": 30},
        "data_populations": {"a": 0.5},
        "n_particles": 100,
        "n_lost": 5,
    }
    inside = {
        "jeffreys": -1.0,
        "bar_gap": Measured(0.2, 0.01),
        "lost_data_paths": 0.01,
        "tail": Tail(0.79, 0.1, 0.5),
        "regions": [Presence("a tenth", 0.1, 10.0, 0.011, 1.1)],
    }
    few, missing = (Presence("a tenth", 0.1, 10.0, share, 90 * share) for share in (0.009, 0.0009))
    assert verdict.judge(verdict.Evidence(**good)).level == "trusted"  # type: ignore[arg-type]
    assert verdict.judge(verdict.Evidence(**good | inside)).level == "trusted"  # type: ignore[arg-type]
    for level, changes in (
        ("caution", [{"genealogical_ess": 99.0}, {"log_z_error": 0.31}, {"jeffreys": 8.1}, {"n_lost": 6}]),
        ("caution", [{"genealogical_ess": 20.0}, {"log_z_error": 0.6}, {"jeffreys": 30.0}]),
        (
            "caution",
            [
                {"jeffreys": -1.1, "jeffreys_error": 0.05},
                {"lost_data_paths": 0.02},
                {"bar_gap": Measured(0.21, 0.05)},
            ],
        ),
        ("caution", [{"tail": Tail(0.81, 0.1, 0.4)}, {"tail": Tail(0.6, 0.1, 0.51)}, {"regions": [few]}]),
        ("caution", [{"ancestors_per_state": {"a": 29}}]),
        ("not trusted", [{"genealogical_ess": 19.0}, {"log_z_error": 0.61}, {"jeffreys": 30.1}]),
        ("not trusted", [{"jeffreys": -1.1, "jeffreys_error": 0.02}, {"lost_data_paths": 0.051}]),
        ("not trusted", [{"bar_gap": Measured(2.1, 0.5)}, {"regions": [missing]}]),
        ("not trusted", [{"ancestors_per_state": {"a": 0}}]),
    ):
        for change in changes:
            assert verdict.judge(verdict.Evidence(**{**good, **change})).level == level  # type: ignore[arg-type]
