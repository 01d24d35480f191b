"""Lines of progress in a log file."""

from __future__ import annotations

import pytest

from boltzgen.runtime import progress


def test_time_left_of_resumed_work_counts_what_was_gained_since(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with progress.progress_bar("train") as on_progress:
        on_progress(5.0, 10.0, "resumed")
        now += 60.0
        on_progress(6.0, 10.0, "step 7")
    assert capsys.readouterr().err == "train:  60%, 1:00 elapsed, about 4:00 left  step 7\n"
