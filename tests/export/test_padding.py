"""Results are batch-invariant: the same alone and in a padded batch, in onnxruntime alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

Floats = npt.NDArray[np.float32]
Plain = Callable[..., dict[str, npt.NDArray[Any]]]

# Up to 3 s, and what lies around the first frames of each front end.
samples = (
    st.sampled_from([0, 1, 5, 399, 400, 401, 639, 640, 720])
    | st.integers(0, 2_000)
    | st.integers(15_000, 48_000)
)
garbage = st.lists(
    st.sampled_from([np.nan, np.inf, -np.inf, 1e30, -3e38, 1.0, 0.0]), min_size=1, max_size=5
)


@pytest.fixture(scope="session")
def utterances(speech: dict[str, Floats]) -> Callable[[list[int]], list[Floats]]:
    """`utterances(lengths)`: stretches of speech, each from another place and at another level."""
    whole = np.concatenate(list(speech.values()))
    starts = np.random.default_rng(5).permutation(len(whole) - 48_000)

    def cut(lengths: list[int]) -> list[Floats]:
        return [whole[s : s + n] * (1 + i) for i, (s, n) in enumerate(zip(starts, lengths))]  # noqa: B905

    return cut


@settings(max_examples=30)
@given(lengths=st.lists(samples, min_size=2, max_size=5), extra=samples, garbage=garbage)
@example(lengths=[0, 0], extra=0, garbage=[0.0])
@example(lengths=[0, 9, 48_000, 16_000], extra=700, garbage=[np.nan])
def test_alone_and_in_a_batch(
    name: str,
    lengths: list[int],
    extra: int,
    garbage: list[float],
    bundle: Callable[[str], Path],
    small_config: Callable[[str], Any],
    utterances: Callable[[list[int]], list[Floats]],
    ragged: Callable[..., dict[str, npt.NDArray[Any]]],
    plain: Plain,
    same_codes: Callable[..., None],
) -> None:
    """An utterance gives the same frames alone as in a padded batch, and zeros past them."""
    encoder, tokenizer = (bundle(name) / f"{x}.onnx" for x in ("encoder", "tokenizer"))
    batch = ragged(utterances(lengths), extra, garbage)
    encoded, tokens = plain(encoder, **batch), plain(tokenizer, **batch)
    geometry = small_config(name).geometry
    frames = [geometry.frames(n) for n in lengths]
    assert encoded["frame_lengths"].tolist() == tokens["frame_lengths"].tolist() == frames
    for outputs in (encoded["features"], encoded["context"], tokens["codes"]):
        assert outputs.shape[1] == geometry.frames(max(lengths) + extra)
        for row, count in zip(outputs, frames, strict=True):
            assert np.all(row[count:] == 0)
    for i, utterance in enumerate(utterances(lengths)):
        alone = ragged([utterance], 0, garbage)
        values = plain(encoder, **alone)
        for output in ("features", "context"):
            assert values[output].shape[1] == frames[i]
            assert (
                np.abs(values[output][0] - encoded[output][i, : frames[i]]).max(initial=0) <= 1e-4
            )
        codes = plain(tokenizer, **alone)["codes"][0]
        same_codes(name, tokens["codes"][i, : frames[i]], codes, values["features"][0])


def test_an_empty_batch(name: str, bundle: Callable[[str], Path], empty_batch: Any) -> None:
    """A batch of 0 rows gives 0 rows."""
    empty_batch(bundle(name))


@settings(max_examples=15)
@given(lengths=st.lists(samples, min_size=1, max_size=4), extra=samples, garbage=garbage)
def test_parts_make_the_whole(
    name: str,
    lengths: list[int],
    extra: int,
    garbage: list[float],
    bundle: Callable[[str], Path],
    utterances: Callable[[list[int]], list[Floats]],
    ragged: Callable[..., dict[str, npt.NDArray[Any]]],
    plain: Plain,
    same_codes: Callable[..., None],
) -> None:
    """Front end, context and quantizer in a row give encoder and tokenizer."""
    folder, batch = bundle(name), ragged(utterances(lengths), extra, garbage)
    encoded = plain(folder / "encoder.onnx", **batch)
    tokens = plain(folder / "tokenizer.onnx", **batch)
    statistics = folder / "statistics.onnx"
    given_statistics = plain(statistics, **batch) if statistics.exists() else {}
    front = plain(folder / "frontend.onnx", **batch, **given_statistics)
    assert np.array_equal(front["frame_lengths"], encoded["frame_lengths"])
    np.testing.assert_allclose(front["features"], encoded["features"], atol=1e-5)

    features, frames = front["features"], front["frame_lengths"]
    valid = np.arange(features.shape[1]) < frames[:, None]
    spoilt = np.where(valid[..., None], features, np.float32(garbage[0]))
    context = plain(folder / "context.onnx", features=spoilt, frame_lengths=frames)["context"]
    np.testing.assert_allclose(context, encoded["context"], atol=1e-5)

    codes = plain(folder / "quantizer.onnx", features=features)["codes"]
    same_codes(name, codes[valid], tokens["codes"][valid], features[valid])


@settings(max_examples=20)
@given(start=st.integers(0, 140), count=st.integers(1, 60))
@pytest.mark.parametrize("name", ["base-small", "large-small"])
def test_any_chunk_equals_the_whole(
    name: str,
    start: int,
    count: int,
    bundle: Callable[[str], Path],
    utterances: Callable[[list[int]], list[Floats]],
    ragged: Callable[..., dict[str, npt.NDArray[Any]]],
    plain: Plain,
) -> None:
    """With the statistics of the whole, any chunk gives the frames of the whole."""
    folder, (waveform,) = bundle(name), utterances([200 * 320 + 80])
    whole = ragged([waveform], 0, [0.0])
    statistics = folder / "statistics.onnx"
    given_statistics = plain(statistics, **whole) if statistics.exists() else {}
    frontend = folder / "frontend.onnx"
    features = plain(frontend, **whole, **given_statistics)["features"]
    chunk = ragged([waveform[start * 320 : (start + count) * 320 + 80]], 0, [0.0])
    found = plain(frontend, **chunk, **given_statistics)["features"]
    np.testing.assert_allclose(found, features[:, start : start + count], atol=1e-4)
