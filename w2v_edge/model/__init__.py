"""The model definition: wav2vec 2.0-style speech models and their pre-training objective (torch).

One axis alphabet, in every docstring and einops pattern:

    b  batch              d  channels             v  codebook entries
    t  samples            h  attention heads      k  distractors
    n  frames             g  codebook groups      m  masked positions

Valid lengths accompany every padded tensor, and results are batch-invariant: samples past an
utterance's length do not affect its results, and frames past its `frame_lengths` are zero.
"""

from w2v_edge.model.build import build_model
from w2v_edge.model.checkpoint import load_checkpoint, save_checkpoint
from w2v_edge.model.config import ModelConfig
from w2v_edge.model.presets import preset
from w2v_edge.model.pretraining import PretrainingOutput
from w2v_edge.model.speech_model import SpeechModel

__all__ = [
    "ModelConfig",
    "PretrainingOutput",
    "SpeechModel",
    "build_model",
    "load_checkpoint",
    "preset",
    "save_checkpoint",
]
