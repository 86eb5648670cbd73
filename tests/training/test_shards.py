"""Shards: the same recordings as from files, each once an epoch, and errors that name the shard."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Callable, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from webdataset import TarWriter

from tests.training.test_processes import train_processes
from w2v_edge import data
from w2v_edge.audio import AudioFile
from w2v_edge.errors import AudioFileError, InputError, TrainingError
from w2v_edge.model import load_checkpoint
from w2v_edge.training import loop, shards
from w2v_edge.training.batches import Position
from w2v_edge.training.recordings import Crop
from w2v_edge.training.recipe import Recipe
from w2v_edge.training.shard_files import find_shards
from w2v_edge.training.shards import Shards
from w2v_edge.training.recordings import is_validation
from w2v_edge.training.metrics import read_log

if TYPE_CHECKING:
    from w2v_edge.training.loop import Trained

RATE = 16_000
CLIPS = sorted(data.FOLDER.glob("*.flac"))
COPIES = 4
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


def _shards(*sources: str | Path, recipe: Recipe = RECIPE, **options: Any) -> Shards:
    return Shards(find_shards(sources), RATE, recipe, **options)


def _epoch(
    made: Shards,
    start: Position = Position(),  # noqa: B008 - frozen
    rank: int = 0,
    processes: int = 1,
) -> list[tuple[list[Piece], Position]]:
    """Return what is left of an epoch."""
    batches = (batch for pool in made.plans(start, rank, processes) for batch in pool)
    found = []
    for pieces, after in batches:
        found.append((pieces, after))
        if after.epoch > start.epoch:
            break
    return found


def _keys(batches: Sequence[tuple[list[Piece], Position]]) -> set[str]:
    return {piece.clip.utterance.id for pieces, _ in batches for piece in pieces}


def test_pieces_are_those_of_the_files(pattern: str) -> None:
    """A piece of a recording in a shard has the samples that it has in a file."""
    files = {clip.stem: AudioFile(clip, RATE) for clip in CLIPS}
    batches = _epoch(_shards(pattern))
    assert len(_keys(batches)) == COPIES * len(CLIPS)
    for pieces, _ in batches:
        assert max(x.seconds for x in pieces) * len(pieces) <= RECIPE.batch_seconds + 1e-6
        for piece in pieces:
            file = files[piece.clip.utterance.id.rsplit("-", 1)[0]]
            assert piece.clip.seconds == file.seconds
            expected = file.excerpt(piece.start_s, piece.seconds)
            np.testing.assert_array_equal(piece.read(RATE), expected)


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("epoch", [0, 1])
def test_an_epoch_has_each_recording_once(pattern: str, processes: int, epoch: int) -> None:
    """Over all processes, which read different shards; epochs differ in their order."""
    made = _shards(pattern)
    parts = [_epoch(made, Position(epoch), rank, processes) for rank in range(processes)]
    pieces = [piece.id for part in parts for batch, _ in part for piece in batch]
    assert len(pieces) == len(set(pieces))
    keys = [_keys(part) for part in parts]
    assert sum(map(len, keys)) == len(set.union(*keys)) == COPIES * len(CLIPS)
    assert pieces != [
        piece.id
        for rank in range(processes)
        for batch, _ in _epoch(made, Position(epoch + 1), rank, processes)
        for piece in batch
    ]


@pytest.mark.parametrize("pool", [1, 3, 100])
def test_a_process_goes_on_anywhere(
    pattern: str, pool: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batches after each position of an epoch are those that would have come."""
    monkeypatch.setattr(shards, "POOL_BATCHES", pool)
    made = _shards(pattern)
    whole = _epoch(made, rank=1, processes=2)
    assert whole[-1][1] == Position(1)
    for done, (_, position) in enumerate(whole[:-1], 1):
        again = _epoch(made, position, rank=1, processes=2)
        assert [(_ids(a), at) for a, at in again] == [(_ids(b), at) for b, at in whole[done:]]


def _ids(pieces: list[Piece]) -> list[str]:
    return [piece.id for piece in pieces]


def test_what_is_held_out_is_never_trained_on(pattern: str) -> None:
    """By its key, in all shards; that of the first shard is evaluated on."""
    recipe = Recipe(**vars(RECIPE) | {"validation_fraction": 0.4})
    made = _shards(pattern, recipe=recipe)
    keys = [f"{clip.stem}-{number}" for number in range(COPIES) for clip in CLIPS]
    held_out = {f"{key}.flac" for key in keys if is_validation(key, 0.4)}
    assert 0 < len(held_out) < len(keys)
    assert _keys(_epoch(made)) == {f"{key}.flac" for key in keys} - held_out
    first = {name for name in held_out if name.endswith("-0.flac")}
    assert {clip.utterance.id for clip in made.held_out()} == first


@pytest.mark.usefixtures("pattern")
def test_a_run_in_parts_is_the_run_in_one(
    pretrain: Callable[..., Trained], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses and weights, with another epoch on the way."""
    sources = [tmp_path / "shards-000.tar"]
    overrides: dict[str, Any] = {"sources": sources, "updates": 9, "batch_seconds": 8.0}
    pretrain("whole", **overrides)
    step = loop._Loop._step

    def stopping(self: loop._Loop, batches: Any) -> None:
        if self.update in stops:
            stops.remove(self.update)
            raise KeyboardInterrupt
        step(self, batches)

    stops = {3, 8}
    monkeypatch.setattr(loop._Loop, "_step", stopping)
    for resume in (False, True):
        with pytest.raises(KeyboardInterrupt):
            pretrain("parts", resume=resume, **overrides)
    pretrain("parts", resume=True, **overrides)
    one, other = (
        {line["update"]: line["loss"] for line in read_log(tmp_path / name / "log.jsonl")}
        for name in ("whole", "parts")
    )
    assert one == pytest.approx(other, abs=1e-4)
    assert read_log(tmp_path / "whole" / "log.jsonl")[-1]["epoch"] > 0
    a, b = (load_checkpoint(tmp_path / x / "model.pt").state_dict() for x in ("whole", "parts"))
    for name, tensor in a.items():
        torch.testing.assert_close(tensor, b[name], atol=1e-6, rtol=1e-5, msg=name)
    with pytest.raises(TrainingError, match="other recordings"):
        pretrain("parts", resume=True, **overrides | {"sources": [tmp_path / "shards-001.tar"]})


def test_sources_that_are_no_shards(tmp_path: Path, pattern: str) -> None:
    """Refused before anything is read; commands are never run."""
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
        _shards(pattern).refuse_idle(5)


def test_a_shard_without_audio(tmp_path: Path) -> None:
    """Is named; so is one from which all is held out, or too short."""
    with TarWriter(str(tmp_path / "text.tar")) as writer:
        writer.write({"__key__": "a", "txt": "words"})
    with pytest.raises(InputError, match=r"text\.tar: a tar without audio"):
        _epoch(_shards(tmp_path / "text.tar"))
    path = _write(tmp_path / "short.tar", {"a": CLIPS[0].read_bytes()})
    recipe = Recipe(**vars(RECIPE) | {"min_seconds": 99.0})
    with pytest.raises(InputError, match="nothing to train on"):
        _epoch(_shards(path, recipe=recipe))


@pytest.mark.parametrize("part", ["header", "end"])
def test_a_broken_recording_is_named_or_passed_over(
    part: str, pretrain: Callable[..., Trained], tmp_path: Path
) -> None:
    """By its shard and key, whether its header is broken or what follows; warned of once."""
    from w2v_edge.training.recipe import Callbacks

    content = data.DEMO_CLIP.read_bytes()
    broken = b"no audio" if part == "header" else content[: len(content) // 8]
    path = _write(tmp_path / "x.tar", {"good": content, "broken": broken, "more": content})
    with pytest.raises(AudioFileError, match=r"x\.tar/broken\.flac.*") as caught:
        pretrain("run", sources=[path], updates=6)
    assert "\n" not in str(caught.value)
    warnings: list[str] = []
    trained = pretrain(
        "other", sources=[path], updates=6, skip_bad=True, callbacks=Callbacks(warn=warnings.append)
    )
    assert trained.finished
    assert warnings
    assert len(set(warnings)) == len(warnings)
    assert all("x.tar/broken.flac" in line for line in warnings)


def test_a_broken_recording_is_not_evaluated_on(tmp_path: Path) -> None:
    """Refused before training, or passed over."""
    content = data.DEMO_CLIP.read_bytes()
    path = _write(tmp_path / "x.tar", {"broken": content[: len(content) // 8], "good": content})
    recipe = Recipe(**vars(RECIPE) | {"validation_fraction": 0.9999})
    with pytest.raises(AudioFileError, match=r"x\.tar/broken\.flac"):
        _shards(path, recipe=recipe).held_out()
    found = _shards(path, recipe=recipe, skip_bad=True).held_out()
    assert [clip.utterance.id for clip in found] == ["good.flac"]


@pytest.mark.parametrize("where", ["in a file", "in a header", "between files"])
def test_a_shard_that_ends_early_is_named(where: str, tmp_path: Path) -> None:
    """Wherever it was cut: nothing of it is lost in silence."""
    path = _write(tmp_path / "cut.tar", {clip.stem: clip.read_bytes() for clip in CLIPS})
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-3]
    ends = {
        "in a file": last.offset_data + 700,
        "in a header": last.offset + 100,
        "between files": last.offset,
    }
    path.write_bytes(path.read_bytes()[: ends[where]])
    with pytest.raises(InputError, match=r"cut\.tar: ends early"):
        _epoch(_shards(path))


def test_a_recording_in_memory_is_checked_as_one_on_disk(tmp_path: Path) -> None:
    """Stereo of another rate becomes the same waveform; numbers that are none are refused."""
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
    """Have what the files have; one that is not there is named."""
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


def test_two_processes_train_on_their_own_shards(
    pattern: str, initial: Callable[..., Path], pretrain: Callable[..., Trained], tmp_path: Path
) -> None:
    """Each one's place is saved; as many are needed to go on."""
    init = initial("tutorial-small")
    log = train_processes(2, tmp_path / "run", init, 1, sources=pattern)
    assert any("held_out/accuracy" in line for line in log)
    state = torch.load(tmp_path / "run" / "training.pt", weights_only=True)
    assert len(state["positions"]) == 2
    overrides = {"crop_seconds": 3.0, "batch_seconds": 10.0, "validation_fraction": 0.3, "updates": 3}
    with pytest.raises(TrainingError, match="processes 2, found 1"):
        pretrain("run", resume=True, sources=[pattern], **overrides)
