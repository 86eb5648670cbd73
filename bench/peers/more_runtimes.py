"""Files of the runtimes that need a conversion of their own: NNCF, CTranslate2, ExecuTorch."""

from __future__ import annotations

import importlib
import json
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

RATE = 16_000
CALIBRATION_SECONDS = (1.0, 2.0, 3.0, 5.0, 8.0)
CLIPS = 49


def quantize_with_nncf(usual: Path, path: Path, *, convolutions: bool) -> None:
    """Write OpenVINO's model of a usual export with weights and activations in 8 bits.

    Args:
        usual: an ONNX file.
        path: the `.xml` file to write; its weights lie beside it.
        convolutions: also quantize convolutions, as is the default.
    """
    from bench.peers.speech import speech_with_pauses

    nncf: Any = importlib.import_module("nncf")
    openvino: Any = importlib.import_module("openvino")
    audio = speech_with_pauses(CLIPS + max(CALIBRATION_SECONDS))
    clips = [
        audio[number * RATE :][: int(CALIBRATION_SECONDS[number % len(CALIBRATION_SECONDS)] * RATE)]
        for number in range(CLIPS)
    ]
    left_out = [] if convolutions else ["Convolution", "GroupConvolution"]
    quantized = nncf.quantize(
        openvino.Core().read_model(usual),
        nncf.Dataset([{"waveform": clip[None]} for clip in clips]),
        model_type=nncf.ModelType.TRANSFORMER,
        preset=nncf.QuantizationPreset.MIXED,
        ignored_scope=nncf.IgnoredScope(types=left_out, validate=False),
    )
    openvino.save_model(quantized, path, compress_to_fp16=False)


def convert_to_ctranslate2(checkpoint: str, path: Path) -> None:
    """Write CTranslate2's folder of a transformer over layer-normed convolutions."""
    import torch
    from transformers import (
        Wav2Vec2CTCTokenizer,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2ForCTC,
        Wav2Vec2Processor,
    )

    from bench.peers.peer_model import load_peer

    converters: Any = importlib.import_module("ctranslate2.converters")
    body = load_peer(checkpoint).wav2vec2
    if body.config.feat_extract_norm != "layer":
        raise ValueError("it takes layer-normed convolutions only, as in the preset large")
    # Its output is then the hidden state; it has no class for a model without labels.
    body.config.return_hidden = True
    body.config.vocab_size = 5
    with tempfile.TemporaryDirectory() as folder:
        model = Wav2Vec2ForCTC(body.config)
        model.wav2vec2 = body
        torch.nn.init.zeros_(model.lm_head.weight)
        model.save_pretrained(folder)
        vocabulary = Path(folder) / "vocab.json"
        labels = ["<pad>", "<s>", "</s>", "<unk>", "|"]
        vocabulary.write_text(json.dumps({label: i for i, label in enumerate(labels)}))
        tokenizer: Any = Wav2Vec2CTCTokenizer
        extractor: Any = Wav2Vec2FeatureExtractor
        processor: Any = Wav2Vec2Processor
        processor(extractor(), tokenizer(str(vocabulary))).save_pretrained(folder)
        converters.TransformersConverter(folder).convert(str(path))


def open_ctranslate2(path: str, precision: str, threads: int) -> Any:
    """Return a function from a waveform (samples,) to context (frames, dim)."""
    ctranslate2: Any = importlib.import_module("ctranslate2")
    model = ctranslate2.models.Wav2Vec2(
        path,
        device="cpu",
        compute_type={"fp32": "float32"}.get(precision, precision),
        inter_threads=1,
        intra_threads=threads,
    )

    def run(waveform: Any) -> Any:
        given = ctranslate2.StorageView.from_array(np.ascontiguousarray(waveform[None, None]))
        return np.array(model.encode(given, to_cpu=True))[0]

    return run


def convert_to_executorch(checkpoint: str, folder: Path, lengths: Sequence[float]) -> None:
    """Write a program of transformers' encoder for ExecuTorch, on XNNPACK, for each length.

    XNNPACK takes convolutions and products of known sizes only.

    Args:
        checkpoint: with the weights.
        folder: gets a file `SAMPLES.pte` for each length.
        lengths: in s.
    """
    import torch

    from bench.peers.peer_model import as_encoder, load_peer

    exir: Any = importlib.import_module("executorch.exir")
    xnnpack: Any = importlib.import_module(
        "executorch.backends.xnnpack.partition.xnnpack_partitioner"
    )
    encoder = as_encoder(load_peer(checkpoint))
    folder.mkdir()
    for samples in (round(RATE * x) for x in lengths):
        program = torch.export.export(encoder, (torch.zeros(1, samples),))
        lowered = exir.to_edge_transform_and_lower(
            program, partitioner=[xnnpack.XnnpackPartitioner()]
        )
        (folder / f"{samples}.pte").write_bytes(lowered.to_executorch().buffer)


def open_executorch(folder: str) -> Any:
    """Return a function from a waveform (samples,) of a length that has a program to context."""
    import torch

    runtime: Any = importlib.import_module("executorch.runtime")
    method: Any = cache(
        lambda samples: (
            runtime.Runtime.get()
            .load_program(Path(folder) / f"{samples}.pte")
            .load_method("forward")
        )
    )

    def run(waveform: Any) -> Any:
        found = method(len(waveform)).execute((torch.from_numpy(waveform)[None],))
        return found[0][0].numpy()

    return run
