"""Which stages run and which are skipped, with stages that only write their name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.stages import changed

from boltzgen.config.load import load_workflow
from boltzgen.config.schema import Workflow
from boltzgen.errors import BusyError, ConfigError, DataError, NumericalError
from boltzgen.rundir.manifest import Manifest, changes
from boltzgen.runtime.progress import OnProgress
from boltzgen.system.registry import build_system, load_system
from boltzgen.workflow import rehearsal
from boltzgen.workflow import runner as workflow
from boltzgen.workflow.stage import Dependencies, Goal, Run, Stage
from boltzgen.workflow.stages import NAMES, STAGES, stage_named


class Chain:
    """A run directory, the stages that ran in the last call, and what was said."""

    def __init__(self, out: Path) -> None:
        self.out, self.ran, self.said, self.reported = out, [], [], []
        self.fails: dict[str, BaseException] = {}

    def work(self, run: Run, stage: Stage, on_progress: OnProgress) -> dict[str, object] | None:
        name = stage.name
        for output in stage.writes:
            path = run.out / output
            if not path.suffix:
                path.mkdir(parents=True, exist_ok=True)
                if name in self.fails:
                    raise self.fails.pop(name)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            if name in self.fails:
                path.with_name("checkpoint").touch()
                raise self.fails.pop(name)
            path.write_text(json.dumps({"seed": run.seed(stage)}))
        self.ran.append(name)
        recorded = {"train_steps": 77, "compile": "never"} if name == "train" else None
        return {"platform": "Reference"} if name == "simulate" else recorded

    def __call__(self, *overrides: str, until: str = "export", force: tuple[str, ...] = ()) -> list[str]:
        self.ran, self.said = [], []
        settings, base = load_workflow("harmonic_dimer", list(overrides), device="cpu")
        workflow.run(settings, base, self.out, Goal(until, tuple(force)), log=self.said.append)
        return self.ran


@pytest.fixture
def chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Chain]:
    chain = Chain(tmp_path / "run")
    monkeypatch.setattr(workflow, "warn_of_states", lambda run, data: None)
    monkeypatch.setattr(Run, "data", lambda run: None)
    monkeypatch.setattr(workflow, "_report", lambda out: chain.reported.append(out))
    with ExitStack() as stack:
        for name in NAMES:
            done = {"work": chain.work, "prepare": lambda run: run, "forecast": lambda *_: "estimate"}
            stack.enter_context(changed(name, **done))
        yield chain


ALL = list(NAMES)


def test_everything_runs_once(chain: Chain) -> None:
    assert chain() == ALL
    assert chain() == []
    assert all("skipped" in line for line in chain.said) and len(chain.said) == len(ALL)


def test_what_would_run_is_what_runs(chain: Chain) -> None:
    def planned(*overrides: str) -> list[str]:
        settings, base = load_workflow("harmonic_dimer", list(overrides), device="cpu")
        run = Run(settings, base, chain.out, "cpu", build_system(settings, base), lambda line: None)
        return [stage for stage, why in rehearsal.planned(run, []).items() if why is not None]

    assert planned() == ALL and chain() == ALL and planned() == []
    changes = ("train.steps=9", "sample.n_levels=9", "analyze.n_bins=9", "export.n_resampled=9")
    for change in changes:
        assert planned(change) == chain(change) != []
    (chain.out / "model" / "energy.safetensors").write_text("other")
    with pytest.raises(DataError, match="is not as the stage train wrote it"):
        planned("sample.n_levels=8")


def test_stages_up_to_one(chain: Chain) -> None:
    assert chain(until="train") == ["simulate", "train"]
    assert chain(until="sample") == ["sample"]
    assert chain() == ["analyze", "export"]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("simulate.production_ps=9", ALL),
        ("seed=3", ALL),
        ("system.parameters.stiffness=5000", ALL),
        ("system.parameters.temperature_k=310", ALL),
        ("model.n_layers=3", ALL[1:]),
        ("train.steps=9", ALL[1:]),
        ("sample.n_levels=9", ALL[2:]),
        ("analyze.n_bins=9", ["analyze"]),
        ("export.n_resampled=9", ["export"]),
        ("description=other", []),
        ("collective_variables.size={kind: radius_of_gyration}", ["analyze", "export"]),
        ("states.long={cv: bond, intervals: [[0.2, .inf]]}", ALL[1:]),
    ],
)
def test_a_change_redoes_what_depends_on_it(chain: Chain, override: str, expected: list[str]) -> None:
    chain()
    assert chain(override) == expected
    assert chain(override) == []


def test_states_on_a_variable_that_changes_are_noticed(chain: Chain) -> None:
    state = "states.large={cv: size, intervals: [[0.1, .inf]]}"
    chain("collective_variables.size={kind: radius_of_gyration}", state)
    assert chain("collective_variables.size={kind: distance, atoms: [0, 1]}", state) == ALL[1:]
    assert "states changed" in chain.said[1]
    assert chain() == ALL[1:]
    settings, _ = load_workflow(
        str(chain.out / "config.yaml"), [state, "collective_variables.size={kind: rmsd}"]
    )
    assert settings.states["large"].cv == "size" and settings.collective_variables["size"].kind == "rmsd"


def test_the_report_follows_the_analysis(chain: Chain) -> None:
    chain(until="sample")
    assert chain.reported == []
    chain(until="analyze")
    chain()
    assert chain.reported == [chain.out, chain.out]


def test_reasons_are_given(chain: Chain) -> None:
    chain()
    chain("train.steps=9")
    assert chain.said[1] == "train: running (train.steps changed from 1500 to 9); estimate"
    assert chain.said[2].startswith("sample: running (the model changed)")


def test_a_change_of_the_network_to_start_from_is_noticed(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boltzgen.workflow.preflight._check_start", lambda *_: None)
    network = tmp_path / "other" / "model" / "energy.safetensors"
    network.parent.mkdir(parents=True)
    network.write_text("a network")
    start = f"train.start={tmp_path / 'other'}"
    chain(start)
    assert chain(start) == []
    network.write_text("a better one")
    assert chain(start) == ALL[1:]
    assert "the network to start from changed" in chain.said[1]


@pytest.mark.parametrize(
    ("override", "stage", "expected"),
    [
        ("seed=3", 0, "seed changed from 0 to 3"),
        ("system.parameters.stiffness=5000", 0, "system.parameters.stiffness changed from not given to 5000"),
        ("simulate.method=parallel_tempering", 0, 'changed from "langevin" to "parallel_tempering"'),
        ("model.prior=none", 1, 'model.prior changed from "bonded" to "none"'),
        ("sample.temperature_k=310", 2, "sample.temperature_k changed from null to 310"),
        ("export={formats: [dcd], stride: 2}", 4, 'to ["dcd"] and export.stride changed from 1 to 2'),
        ("analyze={n_bins: 3, n_bootstrap: 4, max_transport_samples: 5}", 3, "from 36 to 3 and analyze.max"),
    ],
)
def test_the_setting_that_changed_is_named(chain: Chain, override: str, stage: int, expected: str) -> None:
    chain()
    chain(override)
    assert expected in chain.said[stage]
    assert all("skipped" in line for line in chain.said[:stage])
    chain()
    assert "running" in chain.said[stage]  # back again


def test_a_message_does_not_list_everything() -> None:
    before, now = ({f"sample.{k}": v for k in "abcde"} for v in ("1", "2"))
    assert changes(before, now).endswith("sample.c changed from 1 to 2 and 2 more")
    assert changes(now, now) == ""
    assert changes({"sample.a": "1"}, now | {"sample.a": "1"}).startswith("sample.b changed from not given")


def test_force_redoes_a_stage_and_those_after_it(chain: Chain) -> None:
    chain()
    assert chain(force=("sample",)) == ALL[2:]
    assert chain.said[1] == "train: skipped, nothing it depends on has changed"
    assert chain.said[2].startswith("sample: running (asked for)")
    assert chain(force=("analyze", "export")) == ["analyze", "export"]
    assert chain() == []


def test_what_cannot_be_forced(chain: Chain) -> None:
    with pytest.raises(ConfigError, match="--force trian: no such stage; there are simulate, train"):
        chain(force=("trian",))
    with pytest.raises(ConfigError, match="--force sample: this command ends with train"):
        chain(until="train", force=("sample",))
    assert not chain.out.exists()


def test_a_lost_output_is_made_again(chain: Chain) -> None:
    chain()
    (chain.out / "results" / "results.json").unlink()
    assert chain() == ["analyze"]


def test_a_killed_stage_resumes_with_its_files(chain: Chain) -> None:
    chain.fails["train"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        chain()
    checkpoint = chain.out / "model" / "checkpoint"
    assert checkpoint.exists()
    assert chain() == ALL[1:]
    assert checkpoint.exists() and "train: running (resuming)" in chain.said[1]


def test_what_a_stage_keeps_to_resume_from_is_removed_when_it_is_done(chain: Chain) -> None:
    pieces = chain.out / "resume" / "train"
    chain.fails["train"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        chain()
    pieces.mkdir(parents=True)
    assert chain(until="train") == ["train"]
    assert not pieces.parent.exists()
    pieces.mkdir(parents=True)  # as if killed between the record and the removal
    assert chain(until="train") == []
    assert not pieces.parent.exists()


def test_a_kill_while_an_earlier_attempt_is_cleared_away_leaves_nothing_that_is_trusted(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain()

    def killed(run: Run, stage: Stage) -> None:
        (run.out / "model" / "energy.json").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(workflow, "_clear", killed)
        chain("model.n_layers=3")
    (chain.out / "model" / "energy.json").touch()
    assert chain() == ALL[1:]
    assert "train: running (not done yet)" in chain.said[1]


def test_a_killed_stage_starts_afresh_when_its_settings_changed(chain: Chain) -> None:
    chain.fails["train"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        chain()
    assert chain("model.n_layers=3") == ALL[1:]
    assert not (chain.out / "model" / "checkpoint").exists()


@pytest.mark.parametrize("stage", ALL)
def test_force_starts_an_interrupted_stage_anew(chain: Chain, stage: str) -> None:
    """And one that is interrupted after it was forced is resumed as ever."""
    kept = chain.out / "resume" / stage / "last.ckpt"
    chain()
    for forced, there in (((stage,), False), ((), True), ((stage,), False)):
        chain.fails[stage] = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            chain(force=forced)
        assert kept.exists() == there and ("resuming" in chain.said[-1]) == there
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.touch()
    assert chain(force=(stage,))[0] == stage and not kept.exists()


def test_an_error_in_a_later_stage_keeps_earlier_ones(chain: Chain) -> None:
    chain.fails["sample"] = NumericalError("weights are all zero")
    with pytest.raises(NumericalError):
        chain()
    assert chain() == ALL[2:]


def test_an_error_before_anything_is_made_leaves_nothing(chain: Chain) -> None:
    def fails(run: Run, stage: Stage, on_progress: OnProgress) -> None:
        (run.out / "data").mkdir()
        raise DataError("no frames")

    with changed("simulate", work=fails), pytest.raises(DataError):
        chain()
    assert not chain.out.exists()


def test_what_is_written_down(chain: Chain) -> None:
    chain()
    manifest = json.loads((chain.out / "manifest.json").read_text())
    assert set(manifest["stages"]) == set(ALL)
    assert manifest["versions"]["torch"] and manifest["seed"] == 0 and manifest["in_progress"] is None
    seeds = {json.loads((chain.out / stage.writes[0]).read_text())["seed"] for stage in STAGES[:4]}
    assert len(seeds) == 4


def test_the_saved_config_is_the_same_run(chain: Chain) -> None:
    chain("train.minutes=3")
    settings, base = load_workflow(str(chain.out / "config.yaml"))
    assert isinstance(settings, Workflow) and settings.train.steps == 77
    assert (settings.train.compile, settings.simulate.platform) == ("never", "Reference")
    chain.ran = []
    workflow.run(settings, base, chain.out, log=lambda line: None)
    assert chain.ran == []


def test_what_an_earlier_training_came_to_is_not_that_of_an_interrupted_one(chain: Chain) -> None:
    chain("train.steps=9")
    chain.fails["train"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        chain("train.minutes=3")
    train = load_workflow(str(chain.out / "config.yaml"))[0].train
    assert (train.minutes, train.compile) == (3.0, "auto")
    chain.ran = []
    settings, base = load_workflow(str(chain.out / "config.yaml"))
    workflow.run(settings, base, chain.out, log=chain.said.append)
    assert chain.ran == ALL[1:] and "train: running (resuming)" in chain.said[-4]


def test_training_does_not_start_from_the_network_it_replaces(chain: Chain) -> None:
    chain()
    with pytest.raises(ConfigError, match="training would replace the network"):
        chain(f"train.start={chain.out}")
    assert (chain.out / "model").is_dir()


def test_the_other_enantiomer_is_another_system(tmp_path: Path) -> None:
    """Energies are the same; what is sampled is not."""
    settings, _ = load_workflow("alanine_dipeptide")
    peptide = load_system("alanine_dipeptide")
    mirrored = replace(peptide, positions=peptide.positions * [1.0, 1.0, -1.0])
    manifest = Manifest(tmp_path, {})
    stage, digests = stage_named("simulate"), []
    for system in (peptide, mirrored):
        run = Run(settings, tmp_path, tmp_path, "cpu", system, lambda line: None)
        digests.append(stage.inputs(Dependencies(run, manifest, ()), stage)["the system"])
    assert digests[0] != digests[1]


def test_one_run_at_a_time(chain: Chain) -> None:
    def again(run: Run, stage: Stage, on_progress: OnProgress) -> None:
        with pytest.raises(BusyError, match="choose another --out"):
            chain()
        raise KeyboardInterrupt

    assert chain(until="train") == ["simulate", "train"]
    with changed("sample", work=again), pytest.raises(KeyboardInterrupt):
        chain()
    assert not (chain.out / "run.lock").exists()
    assert chain() == ALL[2:]


def test_refused_data_leave_earlier_data_alone(chain: Chain) -> None:
    def refuses(run: Run) -> Run:
        raise DataError("another molecule")

    assert chain() == ALL
    with changed("simulate", prepare=refuses), pytest.raises(DataError):
        chain("simulate.production_ps=9")
    assert chain.said == [] and chain() == []


def test_a_kill_before_the_first_record_leaves_a_directory_that_can_be_used(chain: Chain) -> None:
    chain.out.mkdir()
    (chain.out / "run.lock").touch()
    (chain.out / ".manifest.partial.json").write_text("{")
    assert chain() == ALL


def test_a_file_that_is_not_as_its_stage_wrote_it_is_refused(chain: Chain) -> None:
    chain()
    (chain.out / "samples" / "ensemble.h5").write_text("other")
    with pytest.raises(
        DataError, match=r"ensemble.h5: is not as the stage sample wrote it.*`--force sample`"
    ):
        chain(force=("export",))
    assert chain(force=("sample",)) == ALL[2:]


def test_another_system_is_refused(chain: Chain) -> None:
    chain()
    with pytest.raises(ConfigError, match="holds a run of the system harmonic_dimer, which one of lj13"):
        chain("system={name: lj13}")
    assert chain() == []


def test_changed_trajectories_are_noticed(chain: Chain, tmp_path: Path) -> None:
    trajectory = tmp_path / "md.dcd"
    trajectory.write_bytes(b"frames")
    override = f"data.trajectory=[{trajectory}]"
    assert chain(override) == ALL
    assert chain(override) == []
    trajectory.write_bytes(b"other frames")
    assert chain(override) == ALL
