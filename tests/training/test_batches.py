"""Batches: what an epoch holds, how long they are, and where a run goes on."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2v_edge import data
from w2v_edge.audio import AudioFile, Utterance, find_utterances
from w2v_edge.errors import AudioFileError, InputError
from w2v_edge.training.batches import Batch, Position, collate, plan, plans
from w2v_edge.training.clips import Clip, Piece, measure

seconds = st.lists(st.floats(0.3, 40.0), min_size=1, max_size=30)
CROP = 10.0


def _clips(lengths: list[float]) -> list[Clip]:
    return [Clip(Utterance(f"{i}", Path(f"{i}.wav")), x) for i, x in enumerate(lengths)]


@given(lengths=seconds, batch_seconds=st.floats(CROP, 60.0), seed=st.integers(0, 99))
def test_an_epoch_has_all_but_what_is_left_over(
    lengths: list[float], batch_seconds: float, seed: int
) -> None:
    """Each recording whole, or in pieces that lie apart and lack less than one; none twice."""
    clips = _clips(lengths)
    batches = plan(clips, batch_seconds=batch_seconds, crop_seconds=CROP, seed=seed, epoch=3)
    for clip in clips:
        pieces = sorted(
            (x for batch in batches for x in batch if x.clip is clip), key=lambda x: x.start_s
        )
        assert sum(x.seconds for x in pieces) > clip.seconds - CROP or len(pieces) == 1
        assert sum(x.seconds for x in pieces) > 0
        end = 0.0
        for piece in pieces:
            assert piece.start_s >= end - 1e-9
            end = piece.start_s + piece.seconds
            assert piece.seconds <= CROP
        assert end <= clip.seconds + 1e-9


@given(lengths=seconds, batch_seconds=st.floats(CROP, 60.0))
def test_a_batch_is_no_longer_than_asked(lengths: list[float], batch_seconds: float) -> None:
    """Padding counted."""
    for batch in plan(
        _clips(lengths), batch_seconds=batch_seconds, crop_seconds=CROP, seed=0, epoch=0
    ):
        assert max(x.seconds for x in batch) * len(batch) <= batch_seconds + 1e-6


def test_batches_are_alike_in_length() -> None:
    """Of speech as it comes, less than a fifth of what is computed is padding."""
    lengths = np.random.default_rng(0).lognormal(0.8, 0.7, 2000).clip(0.5, CROP).tolist()
    batches = plan(_clips(lengths), batch_seconds=40.0, crop_seconds=CROP, seed=0, epoch=0)
    computed = sum(max(x.seconds for x in batch) * len(batch) for batch in batches)
    assert sum(lengths) > 0.8 * computed


@given(lengths=seconds, seed=st.integers(0, 99), done=st.integers(0, 40))
def test_a_run_goes_on_where_it_was(lengths: list[float], seed: int, done: int) -> None:
    """The batches after any position are those that would have come."""
    clips = _clips(lengths)

    def after(start: Position, skip: int) -> list[tuple[list[Piece], Position]]:
        made = plans(clips, start, batch_seconds=20.0, crop_seconds=CROP, seed=seed)
        return list(islice(made, skip, skip + 5))

    position = after(Position(), done)[0][1]
    assert after(position, 0)[:4] == after(Position(), done)[1:]


def test_epochs_and_seeds_differ() -> None:
    """In order, company and places where recordings are cut."""
    clips = _clips([3.0, 4.0, 5.0, 25.0, 7.0] * 4)
    made = [
        plan(clips, batch_seconds=20.0, crop_seconds=CROP, seed=seed, epoch=epoch)
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
    ]
    assert made[0] != made[1] != made[2] != made[0]


@pytest.mark.parametrize("processes", [1, 2, 3, 9])
def test_processes_share_a_batch(processes: int) -> None:
    """Each utterance is in one of them, with its seed; one without any has one of no length."""
    clips, _ = measure(find_utterances([data.FOLDER]), 16_000)
    pieces = [Piece(clip, 0.1, 0.5) for clip in clips]
    whole = collate(pieces, Position(1, 2), sample_rate=16_000, seed=3)
    rows: list[tuple[int, bytes]] = []
    for rank in range(processes):
        part = collate(
            pieces, Position(1, 2), sample_rate=16_000, seed=3, rank=rank, processes=processes
        )
        assert part.seconds == whole.seconds == pytest.approx(0.5 * len(pieces))
        rows += _rows(part)
        assert part.lengths.any() or rank >= len(pieces)
    assert sorted(rows) == sorted(_rows(whole))


def _rows(batch: Batch) -> list[tuple[int, bytes]]:
    rows = zip(batch.waveform, batch.lengths, batch.seeds, strict=True)
    return [(int(seed), x[:n].tobytes()) for x, n, seed in rows if n]


def test_a_piece_is_that_part_of_the_recording(tmp_path: Path) -> None:
    """Also of another sample rate, and at the end."""
    import soundfile

    whole = AudioFile(data.DEMO_CLIP, 16_000)
    samples = np.concatenate(list(whole.blocks()))
    assert whole.seconds == pytest.approx(len(samples) / 16_000)
    np.testing.assert_array_equal(whole.excerpt(1.0, 0.5), samples[16_000:24_000])
    assert len(whole.excerpt(whole.seconds - 0.25, 9.0)) == 4000
    assert len(whole.excerpt(whole.seconds + 5.0, 1.0)) == 0
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([samples, samples], axis=1)[::2], 8_000)
    other = AudioFile(path, 16_000).excerpt(1.0, 0.5)
    assert len(other) == pytest.approx(8000, abs=2)
    assert np.corrcoef(other[:7000], samples[16_000:23_000])[0, 1] > 0.9


def test_files_that_are_no_audio_are_named(tmp_path: Path) -> None:
    """Refused with advice, or passed over with their reasons; short ones are left out."""
    (tmp_path / "a.wav").write_text("no audio at all")
    (tmp_path / "b.flac").write_bytes(data.DEMO_CLIP.read_bytes())
    (tmp_path / "notes.txt").write_text("what nobody takes for audio")
    found = find_utterances([tmp_path])
    assert [x.id for x in found] == ["a.wav", "b.flac"]
    with pytest.raises(AudioFileError, match=r"a\.wav.*--skip-bad"):
        measure(found, 16_000)
    clips, bad = measure(found, 16_000, skip_bad=True)
    assert [x.utterance.id for x in clips] == ["b.flac"]
    assert len(bad) == 1
    with pytest.raises(InputError, match="none of at least 999 s"):
        measure(found, 16_000, min_seconds=999, skip_bad=True)
