"""w2v-edge: wav2vec 2.0-style speech models from PyTorch to a device.

    import w2v_edge

    model = w2v_edge.load("bundle/")
    encoding = model.encode(waveform, sample_rate=16000)   # context, features, codes
    codes = model.tokenize(waveform)                       # int64 (frames, groups)
    text = model.transcribe(waveform).text                 # of a model with a CTC head

Importing it brings in numpy only; onnxruntime comes in with `load`.
"""

from w2v_edge.bundle import Manifest
from w2v_edge.errors import W2VEdgeError
from w2v_edge.runtime.classes import Classification, FrameClassification
from w2v_edge.runtime.encoding import Encoding
from w2v_edge.runtime.model import Model, load
from w2v_edge.runtime.text import Transcription

__all__ = [
    "Classification",
    "Encoding",
    "FrameClassification",
    "Manifest",
    "Model",
    "Transcription",
    "W2VEdgeError",
    "load",
]
