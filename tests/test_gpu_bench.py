"""The measurements for NVIDIA GPUs: each part runs, on the CPU with a small model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from bench.gpu.runner import Step, run_steps
from bench.gpu.wheels import assemble

ROOT = Path(__file__).parents[1]
STEPS = "files parity placement binding buckets cuda-graphs bf16-update two-processes".split()
SLOW = ("latency", "compiled")
"""Steps that import transformers; `make bench` has the same sides."""


def test_every_step_runs_on_the_cpu(
    bundle: Callable[[str], Path],
    checkpoint: Callable[[str], Path],
    fp16_bundle: Path,
    tmp_path: Path,
) -> None:
    """A dry run passes, and leaves a result with the machine's description for each step."""
    files = tmp_path / "work/tiny"
    files.mkdir(parents=True)
    (files / "model.pt").symlink_to(checkpoint("large-small"))
    (files / "bundle-fp32").symlink_to(bundle("large-small"))
    (files / "bundle-fp16").symlink_to(fp16_bundle)
    paths = os.pathsep.join([str(ROOT), str(ROOT / "export")])
    command = [sys.executable, "-m", "bench.gpu", "--dry-run", "--workdir", str(tmp_path / "work")]
    done = subprocess.run(
        [*command, "-o", str(tmp_path / "results"), "--skip", *SLOW],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = {x: json.loads((tmp_path / f"results/gpu-{x}.json").read_text()) for x in STEPS}
    assert len(list((tmp_path / "results").iterdir())) == len(STEPS)
    for result in found.values():
        assert result["passed"], result
        assert result["about"]["cpu"]
    assert found["parity"]["found"]["fp16"]["codes_compared"] > 0


def _fail() -> dict[str, int]:
    raise ValueError("found 1,\nexpected 2")


def _sleep() -> dict[str, int]:
    child = os.fork()
    time.sleep(60)
    return {"child": child}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_step_that_fails_leaves_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error, a dead process, a step without end and one without time left are each recorded."""
    steps = [
        Step("error", _fail, 20),
        Step("dead", partial(os._exit, 3), 20),
        Step("endless", _sleep, 0.5),
        Step("missed", lambda: {"passed": False, "codes": 1}, 20),
        Step("fine", lambda: {"codes": 2}, 20),
    ]
    begun = time.monotonic()
    assert not run_steps(steps, 60, tmp_path, {"cpu": "one"})
    assert time.monotonic() - begun < 30
    assert not run_steps([Step("late", dict, 20)], 0, tmp_path, {})
    found = {x.stem[4:]: json.loads(x.read_text()) for x in tmp_path.glob("gpu-*.json")}
    errors = {name: result.get("error") for name, result in found.items()}
    assert errors == {
        "error": "ValueError: found 1, expected 2",
        "dead": "its process ended without a result",
        "endless": "not done after its 0.5 s",
        "missed": None,
        "fine": None,
        "late": "no time was left",
    }
    assert {name for name, result in found.items() if result["passed"]} == {"fine"}
    assert found["fine"]["found"] == {"codes": 2}
    assert len(capsys.readouterr().out.splitlines()) == len(found)


def test_wheels_are_assembled_from_parts(tmp_path: Path) -> None:
    """Parts are joined in their order, whole wheels are taken, and a missing part is an error."""
    folder, target = tmp_path / "wheels", tmp_path / "whole"
    assert assemble(folder, target) == []
    folder.mkdir()
    names = ("gpu-1.0-py3-none-any.whl", "other-2.0-py3-none-any.whl")
    for name in names:
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("module.py", os.urandom(12_000))
    content = (folder / names[0]).read_bytes()
    (folder / names[0]).unlink()
    for number in range(12):
        part = folder / f"{names[0]}.part-{number:02}"
        part.write_bytes(content[number * 1_003 : (number + 1) * 1_003 if number < 11 else None])
    (folder / "notes.whl.txt").touch()
    assert assemble(folder, target) == [target / name for name in names]
    assert (target / names[0]).read_bytes() == content
    for number in (5, 11):
        part = folder / f"{names[0]}.part-{number:02}"
        held = part.read_bytes()
        part.unlink()
        with pytest.raises(ValueError, match=r"gpu-1\.0.*parts are missing; found .*part-00"):
            assemble(folder, target)
        assert not (target / names[0]).exists()
        part.write_bytes(held)
