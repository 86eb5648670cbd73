"""The same network in Hugging Face transformers, with our weights."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Wav2Vec2ForPreTraining

from bench.peers.sides import load_ours
from w2v_edge.checkpoints.huggingface.writer import write_folder


@cache
def load_peer(checkpoint: str) -> Any:
    """Return transformers' model with the weights of our checkpoint, cached per process."""
    with tempfile.TemporaryDirectory() as folder:
        write_folder(load_ours(checkpoint), Path(folder) / "peer")
        peer: Any = Wav2Vec2ForPreTraining.from_pretrained(
            Path(folder) / "peer", attn_implementation="sdpa"
        )
    return peer.eval()


def as_encoder(peer: Any) -> nn.Module:
    """Return a module from waveform (b, t) to context (b, n, d)."""
    return _Encoder(peer.wav2vec2).eval()


def as_tokenizer(peer: Any) -> nn.Module:
    """Return a module from waveform (b, t) to codes (b, n, groups)."""
    return _Tokenizer(peer).eval()


class _Encoder(nn.Module):
    """Waveform to the last hidden state."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, waveform: Tensor) -> Tensor:
        """Return context (b, n, d)."""
        context: Tensor = self.model(waveform).last_hidden_state
        return context


class _Tokenizer(nn.Module):
    """Waveform to codes: convolutions, norm, scores, the best of each group."""

    def __init__(self, peer: Any) -> None:
        super().__init__()
        self.convolutions = peer.wav2vec2.feature_extractor
        self.norm = peer.wav2vec2.feature_projection.layer_norm
        self.scorer = peer.quantizer.weight_proj
        self.groups = peer.config.num_codevector_groups

    def forward(self, waveform: Tensor) -> Tensor:
        """Return codes (b, n, groups)."""
        scores: Tensor = self.scorer(self.norm(self.convolutions(waveform).transpose(1, 2)))
        return scores.reshape(*scores.shape[:2], self.groups, -1).argmax(dim=-1)


def export_usual(module: nn.Module, path: str, output: str, *, dynamo: bool) -> None:
    """Export as most programs do: `torch.onnx.export`, its defaults, dynamic batch and time."""
    waveform = torch.zeros(2, 16_000)
    names: dict[str, Any] = {"input_names": ["waveform"], "output_names": [output]}
    if dynamo:
        axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
        torch.onnx.export(
            module, (waveform,), path, dynamo=True, dynamic_shapes=(axes,), verbose=False, **names
        )
        return
    named = {"waveform": {0: "batch", 1: "samples"}, output: {0: "batch", 1: "frames"}}
    torch.onnx.export(module, (waveform,), path, dynamo=False, dynamic_axes=named, **names)
