"""Means of layers, standardised and pooled, equal the same of transformers' hidden states."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

import w2v_edge
from w2v_edge.bundle import read_manifest
from w2v_edge.checkpoints import load_source
from w2v_edge_export.selection import Selection, select
from w2v_edge_export.standardisation import ChannelStatistics

pytestmark = pytest.mark.usefixtures("no_gradients")

Floats = npt.NDArray[np.float32]
Make = Callable[..., Any]

STATISTICS = ChannelStatistics(
    np.linspace(-1, 2, 48).astype(np.float32), np.linspace(0.3, 3, 48).astype(np.float32)
)
FRAME, TWO_FRAMES = 400, 720
"""Samples of one frame, and of two."""


def _states(peer: Any, waveform: Floats) -> list[Tensor]:
    """Return the hidden states of transformers."""
    found = peer.base_model(torch.from_numpy(waveform)[None], output_hidden_states=True)
    return [x[0] for x in found.hidden_states]


def _standardised(values: Tensor) -> Tensor:
    return (values - torch.from_numpy(STATISTICS.mean)) / torch.from_numpy(STATISTICS.std)


@pytest.mark.parametrize("name", ["wav2vec2", "wav2vec2-stable", "wavlm-large", "data2vec-ctc"])
@pytest.mark.parametrize("mix", ["all", (3, 1), (0,)])
def test_the_mean_of_layers(
    name: str, mix: Any, hf: Make, hf_folder: Make, ours: Make, equal: Make, utterance: Make
) -> None:
    """`mixed` is the mean of those hidden states, in ragged batches; the context stays."""
    model = select(load_source(hf_folder(name)).model, Selection(mix=mix))
    utterances = [utterance(16_000), utterance(5_001), utterance(FRAME)]
    found = ours(model, *utterances, extra=500)
    for i, waveform in enumerate(utterances):
        states = _states(hf(name), waveform)
        count = len(states[0])
        chosen = [states[x] for x in (range(4) if mix == "all" else mix)]
        equal(found["mixed"][i, :count], torch.stack(chosen).mean(dim=0))
        assert not found["mixed"][i, count:].any()
        context = hf(name).base_model(torch.from_numpy(waveform)[None]).last_hidden_state
        equal(found["context"][i, :count], context[0])


SELECTIONS = [Selection(layer=2), Selection(mix=(1, 3)), Selection(layer=2, mix=(0, 2))]


@pytest.mark.parametrize("chosen", SELECTIONS, ids=["layer", "mix", "both"])
def test_what_is_standardised_and_pooled(
    chosen: Selection, hf: Make, hf_folder: Make, ours: Make, equal: Make, utterance: Make
) -> None:
    """The mean of layers if there is one, else the layer chosen; other outputs stay as they are."""
    given = Selection(
        chosen.layer, mix=chosen.mix, statistics=STATISTICS, layers=(2,), pool="mean,std"
    )
    model = select(load_source(hf_folder("hubert-large")).model, given)
    utterances = [utterance(9_000), utterance(TWO_FRAMES), utterance(FRAME)]
    found = ours(model, *utterances)
    for i, waveform in enumerate(utterances):
        states = _states(hf("hubert-large"), waveform)
        count = len(states[0])
        averaged = torch.stack([states[int(x)] for x in chosen.mix or (2,)]).mean(dim=0)
        expected = _standardised(averaged)
        main = "mixed" if chosen.mix else "context"
        equal(found[main][i, :count], expected)
        assert not found[main][i, count:].any()
        equal(found["layer_2"][i, :count], states[2])
        if chosen.mix and chosen.layer:
            equal(found["context"][i, :count], states[2])
        spread = expected.std(dim=0) if count > 1 else torch.zeros(48)
        equal(found["embedding"][i], torch.cat((expected.mean(dim=0), spread)))


@pytest.mark.parametrize("name", ["bert", "conformer-rotary"])
def test_conformers(
    name: str, hf: Make, hf_folder: Make, prepared: Make, ours: Make, equal: Make, utterance: Make
) -> None:
    """A standardised layer and a mean of layers, as codecs take w2v-BERT 2.0's."""
    source, waveform = load_source(hf_folder(name)).model, utterance(9_000)
    states = hf(name)(prepared(hf(name), waveform), output_hidden_states=True).hidden_states
    cut = select(source, Selection(layer=2, statistics=STATISTICS))
    equal(ours(cut, waveform, waveform[:3_000])["context"][0], _standardised(states[2][0]))
    mixed = select(source, Selection(mix="all", pool="mean,std"))
    found, expected = ours(mixed, waveform), torch.stack(states).mean(dim=0)[0]
    equal(found["mixed"][0], expected)
    equal(found["embedding"][0], torch.cat((expected.mean(dim=0), expected.std(dim=0))))


@pytest.fixture(scope="module")
def bundle(hf_folder: Make, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A bundle with a mean of layers, its checkpoint, and the file of the statistics."""
    from w2v_edge_export import export

    folder = tmp_path_factory.mktemp("mixed")
    statistics, source = folder / "wav2vec2bert_stats.pt", hf_folder("wavlm-large")
    mean, std = (torch.from_numpy(x) for x in (STATISTICS.mean, STATISTICS.std))
    torch.save({"mean": mean, "var": std.square()}, statistics)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("w2v_edge_export.cases.LONG_SECONDS", 0.5)
        patch.setattr("w2v_edge_export.cases.SPEECH_SECONDS", 1.1)
        export(source, folder / "out", layer=2, mix="all", standardise=statistics, pool="mean,std")
    return folder / "out", source, statistics


def test_a_bundle(bundle: tuple[Path, Path, Path], hf: Make, equal: Make, utterance: Make) -> None:
    """Recordings, batches, windows and streams give `mixed`, and all but streams the embedding."""
    manifest = read_manifest(bundle[0])
    assert manifest.config["outputs"]["standardised"] == "mixed"
    for said in ("mean of layers 0, 1, 2", "mixed standardised", "embedding: mean,std of mixed"):
        assert said in manifest.decisions
    assert manifest.selection is not None
    assert manifest.selection["mix"] == [0, 1, 2]
    model = w2v_edge.load(bundle[0])
    waveforms = [utterance(16_000), utterance(7_001)]
    for waveform, encoding in zip(waveforms, model.encode(waveforms), strict=True):
        states = _states(hf("wavlm-large"), waveform)
        expected = _standardised(torch.stack(states[:3]).mean(dim=0))
        assert encoding.mixed is not None
        equal(encoding.mixed, expected)
        equal(encoding.context, states[2])
        equal(encoding.embedding, torch.cat((expected.mean(dim=0), expected.std(dim=0))))
    # Every window sees all of the recording.
    window = w2v_edge.Window(step=0.2, left=0.5, right=0.5)
    pieces = list(model.encode_blocks(waveforms[1], window=window))
    equal(np.concatenate([x.mixed for x in pieces if x.mixed is not None]), expected)
    equal(pieces[-1].embedding, torch.cat((expected.mean(dim=0), expected.std(dim=0))))
    with model.stream(context=window) as stream:
        pieces = [*(stream.push(x) for x in np.array_split(waveforms[1], 5)), stream.flush()]
    equal(np.concatenate([x.mixed for x in pieces if x.mixed is not None]), expected)
    assert all(x.embedding is None for x in pieces)


def test_its_verification(
    bundle: tuple[Path, Path, Path],
    command: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The statistics are given again; other ones are found by their hash."""
    monkeypatch.setattr("w2v_edge_export.cases.LONG_SECONDS", 0.5)
    monkeypatch.setattr("w2v_edge_export.cases.SPEECH_SECONDS", 1.1)
    monkeypatch.setattr("w2v_edge_export.cases.THOROUGH_SECONDS", (0.5,))
    out, source, statistics = bundle
    given = ("verify", out, "--checkpoint", source)
    code, text, err = command(*given, "--standardise", statistics)
    assert code == 0, (text, err)
    code, _, err = command(*given)
    assert (code, len(err.strip().splitlines())) == (1, 1)
    assert "exported with --standardise" in err
    other = tmp_path / "other.npz"
    np.savez(other, mean=STATISTICS.mean, std=STATISTICS.std + 1)
    assert command(*given, "--standardise", other)[0] == 3


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--mix", "6"), 2, "expected mean:LAYERS"),
        (("--mix", "sum:1,2"), 2, "expected mean:LAYERS"),
        (("--mix", "mean:one"), 2, "'one' is not a valid integer"),
        (("--mix", "mean:1,4"), 1, "--mix: expected layers from 0 to 3, found 4"),
        (("--mix", "mean:1,1"), 1, "--mix: expected each layer once, found 1 twice"),
        (("--mix", "mean:2", "--layer", "1"), 1, "from 0 to 1 (up to --layer)"),
        (("--standardise", "FILE"), 1, "choose it with --layer, or layers with --mix"),
        (("--standardise", "NARROW", "--layer", "1"), 1, "expected statistics 48 wide"),
    ],
)
def test_what_does_not_fit(
    options: tuple[str, ...],
    code: int,
    message: str,
    hf_folder: Make,
    command: Make,
    tmp_path: Path,
) -> None:
    """Layers, and statistics for no layer or of another width, are refused in one line."""
    np.savez(tmp_path / "FILE.npz", mean=STATISTICS.mean, std=STATISTICS.std)
    np.savez(tmp_path / "NARROW.npz", mean=STATISTICS.mean[1:], std=STATISTICS.std[1:])
    given = [tmp_path / f"{x}.npz" if x.isupper() else x for x in options]
    found, _, err = command("export", hf_folder("wavlm"), "-o", tmp_path / "out", *given)
    assert found == code
    assert message in err.replace("\n", " ")
    if code == 1:
        assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
