"""A corpus of good and bad recordings, and jobs over it as a user runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
import soundfile

CLI = [sys.executable, "-c", "from w2v_edge.cli import main; main()"]
ROOT = Path(__file__).parents[2]


class Start(Protocol):
    """Starts `w2v-edge encode` in another process."""

    def __call__(self, *arguments: str | Path, **options: Any) -> subprocess.Popen[str]: ...


@pytest.fixture(scope="session")
def recordings(
    tmp_path_factory: pytest.TempPathFactory, speech: dict[str, npt.NDArray[np.float32]]
) -> Path:
    """Good, bad, empty and very long files, in several rates and formats."""
    folder = tmp_path_factory.mktemp("recordings")
    (folder / "deep").mkdir()
    clips = list(speech.values())
    for i in range(12):
        clip = clips[i % len(clips)]
        soundfile.write(folder / f"good-{i:02}.flac", clip[: 16_000 * (1 + i % 5)], 16_000)
    soundfile.write(folder / "deep/stereo.wav", np.stack([clips[0][:20_000]] * 2, axis=1), 16_000)
    soundfile.write(folder / "slow.wav", clips[1][:40_000:2], 8_000)
    soundfile.write(folder / "long.flac", np.tile(np.concatenate(clips), 3), 16_000)
    soundfile.write(folder / "short.wav", clips[0][:10], 16_000)
    soundfile.write(folder / "silent.wav", clips[0][:0], 16_000)
    (folder / "bad.wav").write_text("this is not audio")
    (folder / "empty.wav").touch()
    whole = (folder / "slow.wav").read_bytes()
    (folder / "cut.wav").write_bytes(whole[: len(whole) // 2])
    return folder


@pytest.fixture
def start() -> Start:
    """`start(*arguments)`: begin `w2v-edge encode`, with a pipe for all that it writes."""

    def begin(*arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
        paths = os.pathsep.join([str(ROOT), str(ROOT / "export"), os.environ.get("PYTHONPATH", "")])
        return subprocess.Popen(
            [*CLI, "encode", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": paths},
            **options,
        )

    return begin


@pytest.fixture(scope="session")
def shards() -> Callable[[Path], dict[str, bytes]]:
    """`shards(folder)`: the content of its shards; the folder holds these and the record."""

    def read(folder: Path) -> dict[str, bytes]:
        found = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert found.pop("_job.json")
        assert all(name.startswith("shard-") for name in found), found.keys()
        return found

    return read


@pytest.fixture(scope="session")
def rows() -> Callable[[str | Path], dict[str, dict[str, Any]]]:
    """`rows(folder)`: the rows of all shards by recording id."""

    def read(folder: str | Path) -> dict[str, dict[str, Any]]:
        table = pq.read_table(folder).to_pylist()
        by_id = {row["id"]: row for row in table}
        assert len(by_id) == len(table)
        return by_id

    return read
