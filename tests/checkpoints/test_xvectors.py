"""x-vectors: embeddings of speakers equal transformers', alone and in any batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file

import w2v_edge
from w2v_edge.bundle import read_manifest
from w2v_edge.checkpoints import load_source, write_folder
from w2v_edge.errors import ConfigError, HeadMissingError, InputError
from w2v_edge.runtime.window import Window
from w2v_edge_export.selection import Selection, select

pytestmark = pytest.mark.usefixtures("no_gradients")

Floats = npt.NDArray[np.float32]
Make = Callable[..., Any]

MODELS = (
    *("wav2vec2", "wav2vec2-mixed", "wavlm", "unispeech-sat-mixed", "data2vec", "conformer-mixed"),
    "bert-mixed",
)
OF_TRAINING = {"classifier.weight", "classifier.bias", "objective.weight"}
SIXTEEN_FRAMES = 400 + 15 * 320


@pytest.fixture(scope="module", params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    """Each family with such a class, with and without a mix of layers."""
    return f"{request.param}-xvector"


@pytest.mark.filterwarnings("ignore:std:UserWarning")
def test_embeddings_equal_transformers(
    name: str,
    hf: Make,
    hf_folder: Make,
    ours: Make,
    prepared: Make,
    utterance: Make,
    compared: Make,
) -> None:
    """From the fewest frames on, in a ragged batch with NaN as padding, and one too short."""
    model, peer = load_source(hf_folder(name)).model, hf(name)
    geometry = model.config.geometry
    fewest = geometry.receptive_field + 15 * geometry.hop
    waveforms = [utterance(n, 30_000 * i) for i, n in enumerate((fewest, 9_001, 16_000, 160_000))]
    short = [utterance(n) for n in (399, geometry.receptive_field, fewest - 1)]
    found = ours(model, *waveforms, *short, extra=777)["embedding"]
    expected = torch.cat([peer(prepared(peer, x)).embeddings for x in waveforms])
    alone = torch.cat([ours(model, x)["embedding"] for x in waveforms])
    # Between utterances embeddings differ by much less than between their channels.
    bound = 1e-4 * float(expected.std(dim=0).mean())
    assert bound > 5e-7
    for embeddings in (alone, found[: len(waveforms)]):
        torch.testing.assert_close(embeddings, expected, atol=bound, rtol=0)
        worst = float((embeddings - expected).abs().max())
        compared(type(peer).__name__, 1e-4 * worst / bound)
    # There transformers gives NaN, or an error.
    assert not found[len(waveforms) :].any()
    assert peer(prepared(peer, short[-1])).embeddings.isnan().all()
    assert len(found.unique(dim=0)) == len(waveforms) + 1


def test_a_padded_batch_of_transformers(hf: Make, utterance: Make) -> None:
    """Why utterances alone are the reference: its batches count frames that see padding."""
    peer = hf("wavlm-xvector")
    batch = torch.zeros(2, 32_000)
    mask = torch.zeros(2, 32_000, dtype=torch.long)
    for row, valid, n in zip(batch, mask, (32_000, 9_001), strict=True):
        row[:n], valid[:n] = torch.from_numpy(utterance(n)), 1
    alone = peer(batch[1:, :9_001]).embeddings[0]
    together = peer(batch, attention_mask=mask).embeddings[1]
    assert (together - alone).abs().max() > 0.01 * alone.std()


def test_on_an_adapter(
    hf: Make, hf_folder: Make, ours: Make, utterance: Make, compared: Make
) -> None:
    """The time-delay layers see the adapter's frames, of which there are fewer."""
    model, peer = load_source(hf_folder("wavlm-adapter-xvector")).model, hf("wavlm-adapter-xvector")
    geometry, frames = model.config.geometry, model.config.embedding_min_frames
    assert frames is not None
    fewest = geometry.receptive_field + (frames - 1) * geometry.hop
    waveforms = [utterance(n, 30_000 * i) for i, n in enumerate((fewest, 12_001, 160_000))]
    found = ours(model, *waveforms, utterance(fewest - 1), extra=777)["embedding"]
    expected = torch.cat([peer(torch.from_numpy(x)[None]).embeddings for x in waveforms])
    bound = 1e-4 * float(expected.std(dim=0).mean())
    torch.testing.assert_close(found[:3], expected, atol=bound, rtol=0)
    assert not found[3].any()
    compared(type(peer).__name__, 1e-4 * float((found[:3] - expected).abs().max()) / bound)


def test_what_is_not_read(name: str, hf_folder: Make) -> None:
    """The classifier of the speakers in training is left out, and listed."""
    coverage = load_source(hf_folder(name)).coverage
    assert coverage is not None
    assert _not_of_conformers(coverage.ignored) == OF_TRAINING


def test_round_trips(
    name: str, hf: Make, hf_folder: Make, tmp_path: Path, prepared: Make, utterance: Make
) -> None:
    """Transformers reads what is written, with new settings, and misses the classifier alone."""
    model, peer = load_source(hf_folder(name)).model, hf(name)
    model.origin = None
    write_folder(model, tmp_path / "back")
    expected = load_file(hf_folder(name) / "model.safetensors")
    found = load_file(tmp_path / "back" / "model.safetensors")
    assert _not_of_conformers(expected.keys() - found.keys()) == OF_TRAINING
    assert all(torch.equal(x, expected[key]) for key, x in found.items())
    assert load_source(tmp_path / "back").model.config == model.config
    again = type(peer).from_pretrained(tmp_path / "back").eval()
    batch = prepared(peer, utterance(9_000))
    # On some processors PyTorch's last bits depend on where a weight lies in memory.
    torch.testing.assert_close(
        again(batch).embeddings, peer(batch).embeddings, rtol=1e-5, atol=1e-6
    )


def test_import_says_what_is_lost(hf_folder: Make, command: Make, tmp_path: Path) -> None:
    """A folder for transformers lacks the classifier of training."""
    source = hf_folder("wavlm-xvector")
    code, out, _ = command("import", source, "--to", "huggingface", tmp_path / "back")
    assert code == 0
    assert "xvector head of 16 values" in out
    assert "note: the classifier of the speakers in training was not read" in out


def test_damage(fresh: Make, tmp_path: Path, edit: Make, refuses: Make) -> None:
    """Lists that differ in length, and widths that are not the weights', are named."""
    fresh("wavlm-xvector").save_pretrained(tmp_path)
    for changes, words in (
        ({"tdnn_kernel": [5, 3]}, ("tdnn_dim, tdnn_kernel and tdnn_dilation",)),
        ({"tdnn_kernel": [], "tdnn_dim": [], "tdnn_dilation": []}, ("one length",)),
        ({"tdnn_kernel": [3, 3, 3, 1, 1]}, ("'tdnn.0.kernel.weight'", "(32, 96)", "(32, 160)")),
        ({"xvector_output_dim": 17}, ("'feature_extractor.",)),
    ):
        fresh("wavlm-xvector").config.save_pretrained(tmp_path)
        edit(tmp_path / "config.json", architectures=["WavLMForXVector"], **changes)
        refuses(tmp_path, *words)


def test_a_mean_is_not_exported_under_the_same_name(hf_folder: Make) -> None:
    """--pool would give another embedding: it is refused; without the head it is not."""
    model = load_source(hf_folder("wavlm-xvector")).model
    with pytest.raises(ConfigError, match=r"--pool.*x-vector.*--as body"):
        select(model, Selection(pool="mean"))
    assert select(model, Selection(layer=2, pool="mean")).config.head is None
    body = load_source(hf_folder("wavlm-xvector"), kind="body").model
    assert select(body, Selection(pool="mean")).config.outputs.pooled == "mean"


def test_a_threshold_needs_an_embedding(hf_folder: Make) -> None:
    """It is a cosine, goes into the manifest's selection, 0 included, and leaves the model."""
    model = load_source(hf_folder("wavlm-xvector")).model
    chosen = Selection(speaker_threshold=0.0)
    assert select(model, chosen) is model
    assert Selection.from_dict(chosen.to_dict(), None) == chosen
    for wrong in (-1.5, 2.0, float("nan")):
        with pytest.raises(ConfigError, match=r"--speaker-threshold.*from -1 to 1"):
            select(model, Selection(speaker_threshold=wrong))
    body = load_source(hf_folder("wavlm-xvector"), kind="body").model
    with pytest.raises(ConfigError, match=r"--speaker-threshold.*no embedding.*--pool"):
        select(body, Selection(speaker_threshold=0.5))
    assert select(body, Selection(pool="mean", speaker_threshold=0.5)) is not body


@pytest.fixture(scope="module")
def bundles(hf_folder: Make, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles by precision."""
    from w2v_edge_export import export

    folder = tmp_path_factory.mktemp("xvectors")
    for precision in ("fp32", "int8"):
        given: Any = precision
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("w2v_edge_export.cases.LONG_SECONDS", 0.5)
            export(
                hf_folder("wav2vec2-mixed-xvector"),
                folder / precision,
                precision=given,
                require_speedup=0.0,
            )
    return {precision: folder / precision for precision in ("fp32", "int8")}


def test_bundles_equal_transformers(
    bundles: dict[str, Path], hf: Make, plain: Make, empty_batch: Make, utterance: Make
) -> None:
    """The graph alone, in a ragged batch, gives the same embeddings; zeros of what is too short."""
    peer = hf("wav2vec2-mixed-xvector")
    lengths = np.array([SIXTEEN_FRAMES, 9_001, 16_000, SIXTEEN_FRAMES - 1, 399])
    waveforms = [utterance(n, 30_000 * i) for i, n in enumerate(lengths)]
    batch = np.full((len(lengths), 17_000), np.nan, np.float32)
    for row, waveform in zip(batch, waveforms, strict=True):
        row[: len(waveform)] = waveform
    for precision, folder in bundles.items():
        found = plain(folder / "encoder.onnx", waveform=batch, lengths=lengths)["embedding"]
        expected = torch.cat([peer(torch.from_numpy(x)[None]).embeddings for x in waveforms[:3]])
        spread = float(expected.std(dim=0).mean())
        bound = (1e-4 if precision == "fp32" else 1.0) * spread
        torch.testing.assert_close(torch.from_numpy(found[:3]), expected, atol=bound, rtol=0)
        assert not found[3:].any()
    empty_batch(bundles["fp32"])


def test_speakers_are_compared(bundles: dict[str, Path], hf: Make, utterance: Make) -> None:
    """`encode` gives the embedding, of long audio the mean over windows; too short is an error."""
    model = w2v_edge.load(bundles["fp32"])
    one, other = (utterance(32_000, start) for start in (20_000, 120_000))
    both: list[Any] = [x.embedding for x in model.encode([one, other])]
    a, b = both
    peer = hf("wav2vec2-mixed-xvector")
    expected = [peer(torch.from_numpy(x)[None]).embeddings[0].numpy() for x in (one, other)]
    assert abs(_cosine(a, b) - _cosine(*expected)) < 1e-4
    with pytest.raises(InputError, match=r"item 1.*15 frames.*at least 16.*0\.325 s"):
        model.encode([one, one[: SIXTEEN_FRAMES - 1]])
    whole: Any = model.encode(one, window=Window(step=9, left=0, right=0)).embedding
    np.testing.assert_allclose(whole, a, atol=1e-4)
    halves: Any = model.encode(one, window=Window(step=1, left=0, right=0)).embedding
    assert 1e-3 < np.abs(halves - a).max() < 0.1
    assert model.encode(one, window=Window(step=0.2, left=0, right=0)).embedding is None
    *_, last = model.encode_blocks(one)
    assert last.embedding is not None
    np.testing.assert_allclose(last.embedding, a, atol=1e-4)
    for found, wanted in zip(model.embed([one, other]), both, strict=True):
        np.testing.assert_array_equal(found, wanted)
    window = Window(step=1, left=0, right=0)
    np.testing.assert_array_equal(model.embed(one, window=window), halves)
    with pytest.raises(InputError, match=r"item 1.*15 frames.*at least 16.*0\.325 s"):
        model.embed([one, one[: SIXTEEN_FRAMES - 1]])
    with pytest.raises(InputError, match=r"window of 0\.2 s.*at least 0\.325 s"):
        model.embed(one, window=Window(step=0.2, left=0, right=0))
    with pytest.raises(HeadMissingError, match="call embed"):
        model.classify(one)
    manifest = read_manifest(bundles["int8"])
    assert "embedding: x-vector of at least 16 frames" in manifest.decisions
    assert manifest.logits_axes == ()


def _not_of_conformers(names: Iterable[str]) -> set[str]:
    """Leave out a convolution of Conformers that transformers keeps, and runs in none."""
    return {name for name in names if "pos_conv_embed" not in name}


def _cosine(a: Any, b: Any) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
