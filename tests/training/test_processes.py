"""Several processes: the same result as one process, and a common end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.training.helpers import ROOT, assert_same_run, run_processes, start_processes
from w2v_edge import data
from w2v_edge.model import build_model, load_checkpoint, preset, save_checkpoint
from w2v_edge.training.metrics import read_log
from w2v_edge.training.recordings import is_validation

PRETRAIN = (
    *("--cpu", "--crop-seconds", "3", "--batch-seconds", "10", "--min-seconds", "0.3"),
    *("--learning-rate", "0.001", "--save-every", "2", "--log-every", "1"),
)


def _copy_clips(folder: Path) -> Path:
    folder.mkdir()
    for clip in data.FOLDER.glob("*.flac"):
        (folder / clip.name).write_bytes(clip.read_bytes())
    return folder


@pytest.mark.parametrize(
    ("name", "accumulate", "batch_seconds"), [("large-small", 2, 3), ("tutorial-small", 1, 10)]
)
def test_two_processes_pretrain_as_one(
    name: str, accumulate: int, batch_seconds: int, initial: Callable[..., Path], tmp_path: Path
) -> None:
    """Losses and weights agree, even if all batches of one process are empty."""
    for world_size in (1, 2):
        arguments = ("pretrain", data.FOLDER, "--init", initial(name), *PRETRAIN)
        more = ("--accumulate", accumulate, "--updates", 3, "--validation-fraction", "0.3")
        sizes = ("--batch-seconds", batch_seconds, "-o", tmp_path / str(world_size))
        ended = run_processes([*map(str, (*arguments, *more, *sizes))], world_size)
        assert [x.code for x in ended] == [0] * world_size, ended
        assert [bool(x.out) for x in ended] == [True, False][:world_size]
    assert_same_run(tmp_path / "1", tmp_path / "2")


def test_processes_may_drop_different_layers(initial: Callable[..., Path], tmp_path: Path) -> None:
    """The run ends normally if layer drop skips other layers in each process."""
    init = initial("base-small", layer_drop=0.5)
    arguments = ("pretrain", data.FOLDER, "--init", init, "-o", tmp_path / "run", *PRETRAIN)
    sizes = ("--crop-seconds", 1, "--batch-seconds", 2, "--updates", 4, "--save-every", 9)
    ended = run_processes([*map(str, (*arguments, *sizes)), "--validation-fraction", "0"], 2)
    assert [x.code for x in ended] == [0, 0], ended


def test_two_processes_finetune_as_one(initial: Callable[..., Path], tmp_path: Path) -> None:
    """Losses, error rates and weights agree; some batches of one process are empty."""
    init = initial("large-small")
    rows = (data.FOLDER / "clips.tsv").read_text("utf-8").splitlines()[1:]
    lines = [f"{data.FOLDER}/{row}" for row in rows]
    for name, chosen in (("train.tsv", lines[1:]), ("valid.tsv", lines[:1])):
        (tmp_path / name).write_text("\n".join(["path\tsamples\ttext", *chosen]) + "\n", "utf-8")
    for world_size in (1, 2):
        arguments = ("finetune", init, tmp_path / "train.tsv", "--valid", tmp_path / "valid.tsv")
        more = ("-o", tmp_path / str(world_size), "--cpu", "--updates", 3, "--accumulate", 2)
        options = ("--batch-seconds", 30, "--learning-rate", "0.001", "--freeze-updates", 1)
        every = ("--save-every", 2, "--log-every", 1)
        ended = run_processes(list(map(str, (*arguments, *more, *options, *every))), world_size)
        assert [x.code for x in ended] == [0] * world_size, ended
    assert_same_run(tmp_path / "1", tmp_path / "2")


@pytest.mark.parametrize("failure", ["recording", "validation", "output", "disk"])
def test_a_failure_of_one_process_ends_all(failure: str, tmp_path: Path) -> None:
    """An unreadable recording, a run that exists, a full disk: one line in all, and exit code 1."""
    speech, run = _copy_clips(tmp_path / "speech"), tmp_path / "run"
    clip = speech / "fr-demo-abouttotry.flac"
    arguments = ["pretrain", str(speech), "--preset", "tiny", "-o", str(run), "--updates", "30"]
    fraction = "0"
    if failure in {"recording", "validation"}:
        clip.write_bytes(clip.read_bytes()[:20_000])
    if failure == "validation":
        # The share at which the damaged recording is the first of the validation split.
        shares = (x / 100 for x in range(1, 100))
        fraction = str(next(x for x in shares if is_validation(clip.name, x)))
    if failure == "output":
        run.mkdir()
        (run / "file").touch()
    limit = 0
    if failure == "disk":
        # There is room for the model, but not for the optimiser's state.
        save_checkpoint(build_model(preset("tiny")), tmp_path / "tiny.pt")
        limit = 2 * (tmp_path / "tiny.pt").stat().st_size
    arguments += ["--validation-fraction", fraction, *PRETRAIN]
    ended = run_processes(arguments, 2, max_file_bytes=limit)
    assert [x.code for x in ended] == [1, 1], ended
    lines = [line for x in ended for line in x.err.splitlines()]
    assert sum(line.startswith("error: ") for line in lines) == 1, lines
    assert not any("Traceback" in line or "internal error" in line for line in lines), lines
    if failure != "output":
        assert (run / "model.pt").is_file()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends processes without a signal")
def test_a_signal_to_torchrun_saves_and_the_run_resumes(tmp_path: Path) -> None:
    """SIGTERM stops all after the same update; resuming equals an uninterrupted run."""
    command = ["pretrain", str(data.FOLDER), "--preset", "tiny", *PRETRAIN]
    command += ["--save-every", "1000", "--validation-fraction", "0", "--crop-seconds", "1"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launcher += ["--nproc-per-node", "2", "-m", "w2v_edge"]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "export")])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    run = tmp_path / "run"
    with subprocess.Popen(
        [*launcher, *command, "-o", str(run), "--updates", "2000"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        _wait_for_update(run / "log.jsonl", 1)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
    state = torch.load(run / "training.pt", weights_only=True)
    done = state["update"]
    assert 0 < done < 2000
    assert not list(run.glob("*.part*"))
    assert len({tuple(position) for position in state["positions"]}) == 1
    model = load_checkpoint(run / "model.pt").state_dict()
    assert all(torch.equal(model[name], state["model"][name]) for name in model)
    for output, resume in ((run, ["--resume"]), (tmp_path / "whole", [])):
        updates = ["--updates", "2000", "-o", str(output), *resume]
        started = start_processes([*command, *updates], 2)
        _wait_for_update(output / "log.jsonl", done + 2)
        # A signal to one process stops both.
        started[1].signal(signal.SIGTERM)
        ended = [x.wait() for x in started]
        assert [x.code for x in ended] == [0, 0], ended
    losses = [_losses(path / "log.jsonl") for path in (run, tmp_path / "whole")]
    common = losses[0].keys() & losses[1].keys()
    assert max(common) > done
    assert [losses[0][x] for x in common] == pytest.approx([losses[1][x] for x in common], abs=1e-4)


def _losses(log: Path) -> dict[float, float]:
    return {line["update"]: line["loss"] for line in read_log(log) if "loss" in line}


def _wait_for_update(log: Path, update: int) -> None:
    end = time.monotonic() + 100
    while not (log.is_file() and max(_losses(log), default=0) >= update):
        assert time.monotonic() < end
        time.sleep(0.02)
