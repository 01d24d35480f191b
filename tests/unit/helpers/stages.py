"""Stages that do something else for the length of a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from boltzgen.workflow.stages import NAMES, stage_named


@contextmanager
def changed(name: str, **attributes: object) -> Iterator[None]:
    """The stage of that name with other attributes, such as ``work``."""
    stage = stage_named(name)
    before = {key: getattr(stage, key) for key in attributes}
    try:
        for key, value in attributes.items():
            object.__setattr__(stage, key, value)
        yield
    finally:
        for key, value in before.items():
            object.__setattr__(stage, key, value)


@contextmanager
def none_started() -> Iterator[None]:
    """A stage that starts is a failure."""

    def started(*_: object) -> None:
        raise AssertionError("a stage was started")

    with ExitStack() as stack:
        for name in NAMES:
            stack.enter_context(changed(name, work=started))
        yield
