"""The Ray engine writes the shards of the local one, also when workers are killed."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from w2v_edge.corpus import CorpusOptions, encode_corpus
from w2v_edge.corpus.entries import Entry
from w2v_edge.corpus.job import plan
from w2v_edge.corpus.worker import JobSpec
from w2v_edge.errors import BundleIntegrityError

Bundle = Callable[[str], Path]
Shards = Callable[[Path], dict[str, bytes]]

SIZE = ("--shard-size", "4")


@pytest.fixture(scope="module")
def local(bundle: Bundle, recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shards of the local engine."""
    folder = tmp_path_factory.mktemp("local") / "out"
    encode_corpus(bundle("tiny"), [recordings], folder, shard_size=4)
    return folder


def _without_progress(written: str) -> str:
    return re.sub(r"(?m)^encode: .* \([0-9.]+ s\)\n", "", written).strip()


def test_ray_equals_local_and_a_killed_worker_changes_nothing(
    bundle: Bundle, recordings: Path, local: Path, shards: Shards, start: Any, tmp_path: Path
) -> None:
    """Ray writes the same bytes, one error line and one JSON document.

    The shard of a killed worker is written by the next one.
    """
    out = tmp_path / "out"
    process = start(
        *(bundle("tiny"), recordings, "-o", out, *SIZE),
        *("--engine", "ray", "--workers", "2", "--json"),
    )
    _kill_at_work(process.pid, out)
    written = process.communicate(timeout=100)[0]
    assert shards(out) == shards(local), written
    text, _, line = _without_progress(written).rpartition("\n")
    assert process.returncode == 1
    assert line.startswith("error: 5 of 20 files failed, the others are done")
    assert json.loads(text)["shards_of_this_run"] == 5


@pytest.mark.parametrize(
    ("file", "recording"), [("tokenizer.onnx", "good-00.flac"), ("quantizer.onnx", "long.flac")]
)
def test_a_worker_that_cannot_work(
    file: str, recording: str, copied_bundle: Bundle, recordings: Path, tmp_path: Path
) -> None:
    """A damaged bundle is one line, fails no file, and no shard is written."""
    from w2v_edge.corpus.ray_engine import _Actor, _blocks

    folder = copied_bundle("tiny")
    (folder / file).write_bytes((folder / file).read_bytes()[:-1])
    with pytest.raises(BundleIntegrityError, match=file):
        encode_corpus(folder, [recordings / recording], tmp_path / "out")
    (block,) = _blocks(plan([Entry("a", str(recordings / recording))], 1))
    (row,) = _Actor(JobSpec(folder, CorpusOptions(), str(tmp_path / "out")))(block).to_pylist()
    assert file in row["fatal"]
    assert row["summary"] is None
    assert not list((tmp_path / "out").glob("shard-*"))


def _kill_at_work(driver: int, out: Path) -> None:
    """Kill the worker while it works on a shard, after it has written another."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for worker in psutil.Process(driver).children(recursive=True):
            try:
                if not worker.name().startswith("ray::MapWorker"):
                    continue
                worker.suspend()
                if any(out.glob(".shard-*.attempts")) and any(out.glob("shard-*")):
                    worker.send_signal(signal.SIGKILL)
                    return
                worker.resume()
            except psutil.NoSuchProcess:
                continue
        time.sleep(0.005)
    raise AssertionError("no worker was seen at work")
