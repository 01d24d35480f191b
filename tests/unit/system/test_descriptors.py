"""What arrangements are called, and amino acids that are not L."""

from __future__ import annotations

import builtins
import sys
from dataclasses import replace

import pytest
from helpers.molecules import ethene, grown

from boltzgen import load_system
from boltzgen.cli.tables import check_table
from boltzgen.system.stereochemistry.descriptors import described
from boltzgen.system.stereochemistry.domain import Domain
from boltzgen.workflow.check import check


def test_names_of_alanine_and_of_its_mirror_image() -> None:
    system = load_system("alanine_dipeptide")
    mirrored = replace(system, positions=system.positions * [1.0, 1.0, -1.0])
    natural, unnatural = (described(Domain(each)) for each in (system, mirrored))
    assert [entry.name for entry in natural] == ["centre CA(8)", "amide C(4)-N(6)", "amide C(14)-N(16)"]
    assert natural[0].remark == "L-amino acid" and unnatural[0].remark == "D-amino acid, not L"
    assert [entry.arrangement for entry in natural[1:]] == ["trans", "trans"]


def test_cip_labels_by_rdkit() -> None:
    """L-alanine is S; two centres with substituents exchanged differ; equal halogens on one side are Z."""
    pytest.importorskip("rdkit")
    system = load_system("alanine_dipeptide")
    assert described(Domain(system))[0].arrangement == "S"
    left = grown(("C", ["Br", "Cl", "F", "H"]))
    right = grown(("C", ["Cl", "Br", "F", "H"]))
    labels = [described(Domain(each))[0].arrangement for each in (left, right)]
    assert sorted(labels) == ["R", "S"]
    for ends, label in (("FH", "Z"), ("HF", "E")):
        assert described(Domain(ethene("FH", ends)))[0].arrangement == label


def test_signs_stand_where_rdkit_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    import_module = builtins.__import__

    def without(name: str, *args: object, **kwargs: object) -> object:
        if name.startswith("rdkit"):
            raise ImportError(name)
        return import_module(name, *args, **kwargs)  # type: ignore[arg-type]

    for module in [name for name in sys.modules if name.startswith("rdkit")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(builtins, "__import__", without)
    assert described(Domain(load_system("alanine_dipeptide")))[0].arrangement in "+-"


def test_check_shows_every_element(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    system = load_system("alanine_dipeptide")
    unnatural = replace(system, positions=system.positions * [1.0, 1.0, -1.0])
    Console(width=200).print(check_table(check(unnatural, seconds=0.01, compiled=False)))
    shown = capsys.readouterr().out
    for words in (
        "centre CA(8) of ALA2",
        "D-amino acid, not L",
        "amide C(14)-N(16)",
        "trans",
        "216 relabellings",
    ):
        assert words in shown
