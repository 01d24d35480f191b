"""Every message to users has where, what and remedy, in a scientist's words and in one line."""

from __future__ import annotations

import ast
import pickle
import sys
from pathlib import Path

import pytest
from helpers.messages import ERRORS, Module, pair_functions

from boltzgen import errors
from boltzgen.cli import main

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for folder in ("boltzgen", "systems") for path in (ROOT / folder).rglob("*.py"))
PAIRS = frozenset().union(*(pair_functions(ast.parse(path.read_text(encoding="utf-8"))) for path in SOURCES))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_messages_of_a_module(path: Path):
    assert Module(path.read_text(encoding="utf-8"), PAIRS).faults == []


def test_the_walk_sees_the_messages():
    found = {path: Module(path.read_text(encoding="utf-8"), PAIRS).n_messages for path in SOURCES}
    assert sum(found.values()) > 150 and sum(map(bool, found.values())) > 40
    assert {name for name in vars(errors) if name.endswith("Error")} == ERRORS


GOOD = """
_DAMAGED = "is damaged", "write it again"
_WHOLE = "data", "is damaged", "write it again"


def said(error) -> tuple[str, str]:
    return "does not fit", "change it"


def read(path, n):
    hint = f"did you mean {n}? " if n else ""
    try:
        return open(path)
    except OSError as error:
        reason = " ".join(str(error).split())
        raise DataError(path, f"cannot be read ({reason})", f"{hint}check it") from error
    except UserError as error:
        raise DataError(error.where, error.what, error.remedy + ", once more") from None
    if n:
        raise DataError(path, *_DAMAGED)
    raise errors.DataError(*_WHOLE) if hint else ConfigError(path, *said(n))
"""


def test_good_messages_are_left_alone():
    module = Module(GOOD)
    assert module.faults == [] and module.n_messages == 5


BAD = {
    'DataError("data", "is damaged")': "three texts, not 2",
    'DataError("data: is damaged; write it again")': "three texts, not 1",
    "DataError()": "in this order",
    'DataError("data", what="is damaged", remedy="write it again")': "in this order",
    'type(error)(f"key: {error}")': "three texts, not 1",
    'DataError("data", *_UNKNOWN)': "not known to be texts",
    'DataError("data", *_ONE)': "three texts, not 2",
    "DataError(*_PAIR)": "three texts, not 2",
    'DataError("data", *_PAIR)': "a full stop",
    "DataError(*pair(3))": "another number",
    'DataError("", "is damaged", "write it again")': "empty",
    'DataError("data", "", "write it again")': "empty",
    'DataError("data", "is damaged", "")': "empty",
    'DataError("data", "is damaged", "write it again" if n else "")': "empty",
    'DataError("data", "is a NoneType", "write it again")': "NoneType",
    'DataError("data", f"{n} is None", "write it again")': "None",
    'DataError("data", "is a tuple", "write it again")': "tuple",
    'DataError("data", "is damaged", f"give a dict of {n}")': "dict",
    'DataError("data", "list index out of range", "write it again")': "list index",
    'DataError("data", "a float object has no attribute x", "write it again")': "has no attribute",
    'DataError("data", "createSystem() found no template", "write it again")': "createSystem",
    'DataError("data", "raised a KeyError", "write it again")': "KeyError",
    'DataError("data", "is not self.data", "write it again")': "self.",
    'DataError("data", f"is a {type(n).__name__}", "write it again")': "in parentheses",
    'DataError("data", f"is damaged: {error}", "write it again")': "in parentheses",
    'DataError("data", f"cannot be read now: {said_by(error)}", "write it again")': "in parentheses",
    'DataError("data", f"({error})", "write it again")': "in parentheses",
    'DataError("data", f"fails ({error})", "write it again")': "in parentheses",
    'DataError("data", reason, "write it again")': "in parentheses",
    'DataError("data", "nothing fits residue -1", "write it again")': "residue -1",
    'DataError("data", "is damaged.", "write it again")': "full stop",
    'DataError("data", "is damaged", f"write {n} again.")': "full stop",
    'DataError("data", "Is damaged", "write it again")': "capital",
    'DataError("data", "is damaged", "write it. Please look again")': "please",
    'DataError("data", "is damaged\\nbeyond repair", "write it again")': "one line",
}
AROUND = """
_PAIR = "is damaged.", "write it again"
_ONE = ("is damaged",)


def pair(n) -> tuple[str, str]:
    return "is damaged", "write it again"


def read(n):
    try:
        n()
    except Exception as error:
        reason = str(error)
        raise {} from error
"""


@pytest.mark.parametrize(("message", "fault"), BAD.items(), ids=BAD)
def test_the_walk_finds_what_is_wrong(message: str, fault: str):
    faults = Module(AROUND.replace("{}", message)).faults
    assert faults and any(fault in line for line in faults), faults


@pytest.mark.parametrize("name", sorted(ERRORS))
def test_an_error_goes_through_processes_and_is_one_line(name: str):
    error = getattr(errors, name)(Path("a") / "b.pdb", "is\n  damaged", "write it again")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and (again.where, again.what, again.remedy) == (
        str(Path("a") / "b.pdb"),
        "is\n  damaged",
        "write it again",
    )
    assert str(again) == str(error) == f"{Path('a') / 'b.pdb'}: is damaged; write it again"


def test_the_command_prints_one_line_and_exits_with_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fails(**_: object) -> None:
        raise errors.NumericalError("simulate", "run 1 broke\ndown", "try a smaller simulate.timestep_fs")

    monkeypatch.setattr("boltzgen.cli.app.app", fails)
    monkeypatch.setattr(sys, "argv", ["boltzgen", "run"])
    with pytest.raises(SystemExit) as caught:
        main()
    told = capsys.readouterr()
    line = "boltzgen: simulate: run 1 broke down; try a smaller simulate.timestep_fs\n"
    assert caught.value.code == 2 and told.err == line and not told.out
