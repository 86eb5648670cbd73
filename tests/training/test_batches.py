"""Batches: the crops of an epoch, their lengths, resuming, and sharing among processes."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2v_edge import AudioFile, data
from w2v_edge.audio import Utterance, find_utterances
from w2v_edge.errors import AudioFileError, InputError
from w2v_edge.training.batches import (
    Batch,
    ClipData,
    PlannedBatch,
    Position,
    load_batch,
    prefetch,
)
from w2v_edge.training.recipe import Recipe
from w2v_edge.training.recordings import BadRecordings, Clip, Crop, measure

CROP = 10.0
STRICT = BadRecordings()

lengths_s = st.lists(st.floats(0.3, 40.0), min_size=1, max_size=30)


def _data(lengths: list[float], batch_seconds: float = 20.0, seed: int = 0) -> ClipData:
    clips = [Clip(Utterance(f"{i}", Path(f"{i}.wav")), x) for i, x in enumerate(lengths)]
    recipe = Recipe(1, batch_seconds, 1e-3, seed=seed, crop_seconds=CROP)
    return ClipData(clips, [], recipe, crop_seconds=CROP)


@given(lengths=lengths_s, batch_seconds=st.floats(CROP, 60.0), seed=st.integers(0, 99))
def test_an_epoch_covers_each_recording_once(
    lengths: list[float], batch_seconds: float, seed: int
) -> None:
    """Crops do not overlap and miss less than one crop; padded batches keep to the batch size."""
    planned = _data(lengths, batch_seconds, seed)
    batches = planned.plan_epoch(3)
    for clip in planned.clips:
        crops = sorted(
            (x for batch in batches for x in batch if x.clip is clip), key=lambda x: x.start_s
        )
        total = sum(x.seconds for x in crops)
        assert total > 0
        assert total > clip.seconds - CROP or len(crops) == 1
        end = 0.0
        for crop in crops:
            assert crop.start_s >= end - 1e-9
            end = crop.start_s + crop.seconds
            assert crop.seconds <= CROP
        assert end <= clip.seconds + 1e-9
    for batch in batches:
        assert max(x.seconds for x in batch) * len(batch) <= batch_seconds + 1e-6


def test_batches_have_similar_lengths() -> None:
    """With typical lengths of speech, padding is less than a fifth of a batch."""
    lengths = np.random.default_rng(0).lognormal(0.8, 0.7, 2000).clip(0.5, CROP).tolist()
    batches = _data(lengths, 40.0).plan_epoch(0)
    padded = sum(max(x.seconds for x in batch) * len(batch) for batch in batches)
    assert sum(lengths) > 0.8 * padded


@given(lengths=lengths_s, seed=st.integers(0, 99), done=st.integers(0, 40))
def test_a_run_resumes_at_any_position(lengths: list[float], seed: int, done: int) -> None:
    """The batches after any position equal those of an uninterrupted run."""
    planned = _data(lengths, seed=seed)
    whole = list(islice(planned.plan(Position(), 0, 1), done + 5))
    assert list(islice(planned.plan(whole[done].after, 0, 1), 4)) == whole[done + 1 :]


def test_epochs_and_seeds_differ() -> None:
    """Order, batches and crops change with the epoch and with the seed."""
    lengths = [3.0, 4.0, 5.0, 25.0, 7.0] * 4
    made = [_data(lengths, seed=seed).plan_epoch(epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert made[0] != made[1] != made[2] != made[0]


@pytest.mark.parametrize("world_size", [2, 99])
def test_processes_share_a_batch(world_size: int) -> None:
    """Each row is in one process, with its seed; an empty process has a row of length 0."""
    clips = measure(find_utterances([data.FOLDER]), 16_000, bad=STRICT)
    planned = ClipData(clips, [], Recipe(1, 1e3, 1e-3, crop_seconds=4.0), crop_seconds=4.0)
    whole = next(planned.plan(Position(1, 0), 0, 1))
    parts = [next(planned.plan(Position(1, 0), rank, world_size)) for rank in range(world_size)]
    assert {part.seconds for part in parts} == {whole.seconds}
    loaded = [load_batch(part, 16_000, 3, STRICT) for part in parts]
    rows = [row for batch in loaded for row in _rows(batch)]
    assert sorted(rows) == sorted(_rows(load_batch(whole, 16_000, 3, STRICT)))
    assert all(len(batch.waveform) >= 1 for batch in loaded)
    assert [batch.lengths.any() for batch in loaded] == [len(x.crops) > 0 for x in parts]


def _rows(batch: Batch) -> list[tuple[int, bytes]]:
    rows = zip(batch.waveform, batch.lengths, batch.seeds, strict=True)
    return [(int(seed), x[:n].tobytes()) for x, n, seed in rows if n]


def test_prefetching_keeps_the_order_and_raises_in_its_place() -> None:
    """An error is raised where its batch would have come."""

    def load(planned: PlannedBatch) -> int:
        if planned.after.batch == 5:
            raise AudioFileError("bad")
        return planned.after.batch

    upcoming = (PlannedBatch([], 0.0, Position(0, i)) for i in range(100))
    with prefetch(load, upcoming, 3) as batches:
        assert [x for _, x in islice(batches, 5)] == [0, 1, 2, 3, 4]
        with pytest.raises(AudioFileError):
            next(batches)


def test_a_crop_is_a_part_of_the_recording(tmp_path: Path) -> None:
    """This holds at other sample rates and at the end of the file."""
    import soundfile

    whole = AudioFile(data.DEMO_CLIP, 16_000)
    samples = np.concatenate(list(whole.blocks()))
    assert whole.seconds == pytest.approx(len(samples) / 16_000)
    crop = Crop(Clip(Utterance("a", data.DEMO_CLIP), whole.seconds), 1.0, 0.5)
    np.testing.assert_array_equal(crop.read(16_000), samples[16_000:24_000])
    assert len(whole.excerpt(whole.seconds - 0.25, 9.0)) == 4000
    assert len(whole.excerpt(whole.seconds + 5.0, 1.0)) == 0
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([samples, samples], axis=1)[::2], 8_000)
    other = AudioFile(path, 16_000).excerpt(1.0, 0.5)
    assert len(other) == pytest.approx(8000, abs=2)
    assert np.corrcoef(other[:7000], samples[16_000:23_000])[0, 1] > 0.9


def test_unreadable_files_are_errors_or_skipped(tmp_path: Path) -> None:
    """The error names --skip-bad; a skipped file causes one warning."""
    (tmp_path / "a.wav").write_text("no audio at all")
    (tmp_path / "b.flac").write_bytes(data.DEMO_CLIP.read_bytes())
    (tmp_path / "notes.txt").write_text("not an audio file by its name")
    found = find_utterances([tmp_path])
    assert [x.id for x in found] == ["a.wav", "b.flac"]
    with pytest.raises(AudioFileError, match=r"a\.wav.*--skip-bad"):
        measure(found, 16_000, bad=STRICT)
    warnings: list[str] = []
    lenient = BadRecordings(skip=True, warn=warnings.append)
    for _ in range(2):
        clips = measure(found, 16_000, bad=lenient)
    assert [x.utterance.id for x in clips] == ["b.flac"]
    assert len(warnings) == 1
    with pytest.raises(InputError, match="none of at least 999 s"):
        measure(found, 16_000, min_seconds=999, bad=lenient)
