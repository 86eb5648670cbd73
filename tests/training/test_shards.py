"""Shards: the same recordings as from files, each once an epoch, and errors that name the shard."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from webdataset import TarWriter

from tests.training.helpers import assert_same_run, interrupt_at, run_processes
from w2v_edge import AudioFile, data
from w2v_edge.errors import AudioFileError, InputError, TrainingError
from w2v_edge.training import shards
from w2v_edge.training.batches import PlannedBatch, Position
from w2v_edge.training.metrics import read_log
from w2v_edge.training.recipe import Callbacks, Recipe
from w2v_edge.training.recordings import BadRecordings, is_validation
from w2v_edge.training.shard_files import SCHEMES, find_shards, open_shard
from w2v_edge.training.shards import ShardData

if TYPE_CHECKING:
    from w2v_edge.training.loop import Trained

RATE = 16_000
CLIPS = sorted(data.FOLDER.glob("*.flac"))
COPIES = 4
BEGINNING = Position()
RECIPE = Recipe(
    updates=4,
    batch_seconds=8.0,
    learning_rate=1e-3,
    crop_seconds=4.0,
    min_seconds=0.3,
    validation_fraction=0.0,
)


def _write(path: Path, samples: dict[str, bytes]) -> Path:
    """Write recordings, each with its words and more beside it."""
    with TarWriter(str(path)) as writer:
        for key, content in samples.items():
            writer.write(
                {"__key__": key, "flac": content, "txt": "words", "json": {"speaker": key}}
            )
    return path


@pytest.fixture
def pattern(tmp_path: Path) -> str:
    """A pattern of four shards, each with all clips under keys of its own."""
    for number in range(COPIES):
        samples = {f"{clip.stem}-{number}": clip.read_bytes() for clip in CLIPS}
        _write(tmp_path / f"shards-{number:03}.tar", samples)
    return str(tmp_path / "shards-{000..003}.tar")


def _shards(*sources: str | Path, recipe: Recipe = RECIPE, skip: bool = False) -> ShardData:
    return ShardData(find_shards(sources), RATE, recipe, BadRecordings(skip=skip))


def _epoch(
    made: ShardData, start: Position = BEGINNING, rank: int = 0, world_size: int = 1
) -> list[PlannedBatch]:
    """Return the rest of an epoch."""
    found = []
    for planned in made.plan(start, rank, world_size):
        found.append(planned)
        if planned.after.epoch > start.epoch:
            break
    return found


def _keys(batches: Sequence[PlannedBatch]) -> set[str]:
    return {crop.clip.utterance.id for planned in batches for crop in planned.crops}


def _ids(batches: Sequence[PlannedBatch]) -> list[tuple[list[str], Position]]:
    return [([crop.id for crop in planned.crops], planned.after) for planned in batches]


def test_crops_are_those_of_the_files(pattern: str) -> None:
    """A crop of a recording in a shard has the samples that it has in a file."""
    files = {clip.stem: AudioFile(clip, RATE) for clip in CLIPS}
    batches = _epoch(_shards(pattern))
    assert len(_keys(batches)) == COPIES * len(CLIPS)
    for planned in batches:
        crops = planned.crops
        assert max(x.seconds for x in crops) * len(crops) <= RECIPE.batch_seconds + 1e-6
        for crop in crops:
            file = files[crop.clip.utterance.id.rsplit("-", 1)[0]]
            assert crop.clip.seconds == file.seconds
            expected = file.excerpt(crop.start_s, crop.seconds)
            np.testing.assert_array_equal(crop.read(RATE), expected)


def test_an_epoch_has_each_recording_once(pattern: str) -> None:
    """Processes read different shards; epochs differ in their order."""
    made, world_size = _shards(pattern), 3
    orders = []
    for epoch in (0, 1):
        parts = [_epoch(made, Position(epoch), rank, world_size) for rank in range(world_size)]
        order = [crop.id for part in parts for planned in part for crop in planned.crops]
        keys = [_keys(part) for part in parts]
        assert len(order) == len(set(order))
        assert sum(map(len, keys)) == len(set.union(*keys)) == COPIES * len(CLIPS)
        orders.append(order)
    assert orders[0] != orders[1]


@pytest.mark.parametrize("pool", [1, 100])
def test_a_process_resumes_anywhere(
    pattern: str, pool: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batches after any position equal those of an uninterrupted run."""
    monkeypatch.setattr(shards, "POOL_BATCHES", pool)
    made = _shards(pattern)
    whole = _epoch(made, rank=1, world_size=2)
    assert whole[-1].after == Position(1)
    for done, planned in enumerate(whole[:-1], 1):
        again = _epoch(made, planned.after, rank=1, world_size=2)
        assert _ids(again) == _ids(whole[done:])


def test_the_validation_split_is_never_trained_on(pattern: str) -> None:
    """Keys select the split in all shards; the first shard's part is evaluated."""
    recipe = replace(RECIPE, validation_fraction=0.4)
    made = _shards(pattern, recipe=recipe)
    keys = [f"{clip.stem}-{number}" for number in range(COPIES) for clip in CLIPS]
    validation = {f"{key}.flac" for key in keys if is_validation(key, 0.4)}
    assert 0 < len(validation) < len(keys)
    assert _keys(_epoch(made)) == {f"{key}.flac" for key in keys} - validation
    assert {x.utterance.id for x in made.validation} == {x for x in validation if "-0." in x}


def test_an_interrupted_run_equals_an_uninterrupted_one(
    pattern: str, initial: Callable[..., Path], pretrain: Callable[..., Trained], tmp_path: Path
) -> None:
    """Losses and weights agree over several epochs; other shards are refused."""
    assert pattern
    given: dict[str, Any] = {"sources": [tmp_path / "shards-000.tar"], "updates": 9}
    init = initial("tutorial-small")
    pretrain("whole", init=init, **given)
    callbacks = interrupt_at(3, 8)
    for resume in (False, True):
        start: dict[str, Any] = {"resume": True} if resume else {"init": init}
        with pytest.raises(KeyboardInterrupt):
            pretrain("parts", callbacks=callbacks, **start, **given)
    pretrain("parts", resume=True, **given)
    assert read_log(tmp_path / "whole" / "log.jsonl")[-1]["epoch"] > 0
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    with pytest.raises(TrainingError, match="other recordings"):
        pretrain("parts", resume=True, **given | {"sources": [tmp_path / "shards-001.tar"]})


def test_sources_that_are_not_shards(tmp_path: Path, pattern: str) -> None:
    """Invalid sources are refused before anything is read; commands are never run."""
    made = tmp_path / "made"
    (tmp_path / "text.tar").write_text("no tar at all" * 100)
    (tmp_path / "empty.tar").write_bytes(b"")
    cases: list[tuple[list[str | Path], str]] = [
        ([pattern, data.FOLDER], "beside other recordings"),
        ([tmp_path / "none.tar"], r"none\.tar: no such shard"),
        ([str(tmp_path / "shards-{003..004}.tar")], r"shards-004\.tar: no such shard"),
        ([tmp_path / "text.tar"], r"text\.tar: not a tar"),
        ([tmp_path / "empty.tar"], r"empty\.tar: not a tar"),
        ([f"pipe:touch {made}"], "found pipe"),
        ([f"pipe:touch {made}; cat x.tar"], "found pipe"),
        (["s3://bucket/x.tar"], "found s3"),
    ]
    for sources, words in cases:
        with pytest.raises(InputError, match=words) as caught:
            find_shards(sources)
        assert "\n" not in str(caught.value)
    assert not made.exists()
    assert find_shards([data.FOLDER, tmp_path / "a.flac"]) == []
    assert len(find_shards([pattern, tmp_path / "shards-000.tar"])) == COPIES
    with pytest.raises(TrainingError, match="found 4 shards for 5 processes"):
        _shards(pattern).check_world_size(5)


def test_a_shard_without_audio_is_an_error(tmp_path: Path) -> None:
    """A shard whose recordings are all too short is an error too."""
    with TarWriter(str(tmp_path / "text.tar")) as writer:
        writer.write({"__key__": "a", "txt": "words"})
    with pytest.raises(InputError, match=r"text\.tar: a tar without audio"):
        _epoch(_shards(tmp_path / "text.tar"))
    path = _write(tmp_path / "short.tar", {"a": CLIPS[0].read_bytes()})
    recipe = replace(RECIPE, min_seconds=99.0)
    with pytest.raises(InputError, match="nothing to train on"):
        _epoch(_shards(path, recipe=recipe))


@pytest.mark.parametrize("part", ["header", "end"])
def test_a_broken_recording_is_named_or_skipped(
    part: str,
    initial: Callable[..., Path],
    pretrain: Callable[..., Trained],
    tmp_path: Path,
) -> None:
    """The message has the shard and the key, and each warning comes once."""
    init = initial("tutorial-small")
    content = data.DEMO_CLIP.read_bytes()
    broken = b"no audio" if part == "header" else content[: len(content) // 8]
    path = _write(tmp_path / "x.tar", {"good": content, "broken": broken, "more": content})
    with pytest.raises(AudioFileError, match=r"x\.tar/broken\.flac.*") as caught:
        pretrain("run", init=init, sources=[path], updates=6)
    assert "\n" not in str(caught.value)
    warnings: list[str] = []
    trained = pretrain(
        "other",
        init=init,
        sources=[path],
        updates=6,
        skip_bad=True,
        callbacks=Callbacks(warn=warnings.append),
    )
    assert trained.finished
    assert warnings
    assert len(set(warnings)) == len(warnings)
    assert all("x.tar/broken.flac" in line for line in warnings)


def test_a_broken_recording_is_not_in_the_validation_split(tmp_path: Path) -> None:
    """A broken recording is an error before training, or skipped."""
    content = data.DEMO_CLIP.read_bytes()
    path = _write(tmp_path / "x.tar", {"broken": content[: len(content) // 8], "good": content})
    recipe = replace(RECIPE, validation_fraction=0.9999)
    with pytest.raises(AudioFileError, match=r"x\.tar/broken\.flac"):
        _shards(path, recipe=recipe)
    made = _shards(path, recipe=recipe, skip=True)
    assert [clip.utterance.id for clip in made.validation] == ["good.flac"]


def test_a_truncated_shard_is_named(tmp_path: Path) -> None:
    """A shard cut within a file, within a header or between files is an error."""
    path = _write(tmp_path / "cut.tar", {clip.stem: clip.read_bytes() for clip in CLIPS})
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-3]
    whole = path.read_bytes()
    for end in (last.offset_data + 700, last.offset + 100, last.offset):
        path.write_bytes(whole[:end])
        with pytest.raises(InputError, match=r"cut\.tar: ends early"):
            _epoch(_shards(path))


def test_a_recording_in_memory_is_checked_as_one_on_disk(tmp_path: Path) -> None:
    """Stereo of another rate gives the same waveform; samples that are not finite are refused."""
    import soundfile

    samples = np.random.default_rng(0).normal(0, 0.1, (8000, 2)).astype(np.float32)
    for bad in (False, True):
        samples[10, 0] = np.nan if bad else 0
        content = io.BytesIO()
        soundfile.write(content, samples, 8000, format="WAV", subtype="FLOAT")
        (tmp_path / "a.wav").write_bytes(content.getvalue())
        memory = AudioFile("name", RATE, content=content.getvalue())
        disk = AudioFile(tmp_path / "a.wav", RATE)
        if bad:
            with pytest.raises(AudioFileError, match="name: found nan"):
                memory.excerpt(0.0, 1.0)
        else:
            assert memory.seconds == disk.seconds == 1.0
            np.testing.assert_array_equal(memory.excerpt(0.2, 0.5), disk.excerpt(0.2, 0.5))
            one, other = (np.concatenate(list(file.blocks())) for file in (memory, disk))
            np.testing.assert_array_equal(one, other)


@pytest.mark.skipif(shutil.which("curl") is None, reason="webdataset opens URLs with curl")
@pytest.mark.usefixtures("pattern")
def test_shards_at_urls(tmp_path: Path) -> None:
    """URLs give the same recordings as files; a missing shard is named."""
    handler = partial(_Silent, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        files, urls = (
            _shards(tmp_path / "shards-001.tar"),
            _shards(f"{url}/shards-{{001..001}}.tar"),
        )
        assert _keys(_epoch(files)) == _keys(_epoch(urls))
        with pytest.raises(InputError, match=rf"{url}/none\.tar: .*") as caught:
            _epoch(_shards(f"{url}/none.tar"))
        assert "\n" not in str(caught.value)
        server.shutdown()


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


def test_a_quote_in_a_url_never_reaches_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program gets the URL as one argument; no shell is started."""
    started: list[tuple[Any, dict[str, Any]]] = []

    def watch(self: Any, command: Any, **options: Any) -> None:  # noqa: ARG001
        started.append((command, options))
        raise FileNotFoundError(command[0])

    monkeypatch.setattr(subprocess.Popen, "__init__", watch)
    monkeypatch.setattr(subprocess.Popen, "__del__", lambda _self: None)
    urls = [f"{scheme}://host/x'; touch made; '.tar" for scheme in SCHEMES]
    for url in urls:
        with pytest.raises(InputError), open_shard(url):
            pytest.fail("the shard was opened")
    assert [command[-1] for command, _ in started] == urls
    assert all(isinstance(command, list) for command, _ in started)
    assert not any(options.get("shell") for _, options in started)


def test_two_processes_train_on_their_own_shards(
    pattern: str, initial: Callable[..., Path], pretrain: Callable[..., Trained], tmp_path: Path
) -> None:
    """Each process saves its position; resuming needs the same number of processes."""
    given = ("--cpu", "--crop-seconds", "3", "--batch-seconds", "10", "--min-seconds", "0.3")
    fraction = ("--validation-fraction", "0.3", "--learning-rate", "0.001", "--updates", "3")
    arguments: list[str | Path] = [
        "pretrain",
        pattern,
        "--init",
        initial("tutorial-small"),
        "-o",
        tmp_path / "run",
    ]
    ended = run_processes([*arguments, *given, *fraction], 2)
    assert [x.code for x in ended] == [0, 0], ended
    assert any("validation/accuracy" in line for line in read_log(tmp_path / "run/log.jsonl"))
    state = torch.load(tmp_path / "run" / "training.pt", weights_only=True)
    assert len(state["positions"]) == 2
    overrides = {"crop_seconds": 3.0, "batch_seconds": 10.0, "validation_fraction": 0.3}
    with pytest.raises(TrainingError, match="processes 2, found 1"):
        pretrain("run", resume=True, sources=[pattern], updates=3, **overrides)
