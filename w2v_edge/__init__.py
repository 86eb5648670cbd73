"""w2v-edge: wav2vec 2.0-style speech models from PyTorch to a device.

    import w2v_edge

    model = w2v_edge.load("bundle/")
    encoding = model.encode(waveform, sample_rate=16000)   # context, features, codes
    codes = model.tokenize(waveform)                       # int64 (frames, groups)
    text = model.transcribe(waveform).text                 # for a model with a CTC head

Importing it imports the standard library alone; numpy and onnxruntime are imported by `load`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from w2v_edge import data
    from w2v_edge.audio.audio_file import AudioFile
    from w2v_edge.bundle import Manifest
    from w2v_edge.errors import W2VEdgeError
    from w2v_edge.runtime.classification import Classification, FrameClassification
    from w2v_edge.runtime.encoding import Encoding
    from w2v_edge.runtime.model import Model, load
    from w2v_edge.runtime.stream import Stream
    from w2v_edge.runtime.window import Window
    from w2v_edge.text.beam_search import BeamSearch
    from w2v_edge.text.decoding import Transcription

    __version__: str

__all__ = [
    "AudioFile",
    "BeamSearch",
    "Classification",
    "Encoding",
    "FrameClassification",
    "Manifest",
    "Model",
    "Stream",
    "Transcription",
    "W2VEdgeError",
    "Window",
    "__version__",
    "data",
    "load",
]

_MODULES = {
    "AudioFile": "w2v_edge.audio.audio_file",
    "BeamSearch": "w2v_edge.text.beam_search",
    "Classification": "w2v_edge.runtime.classification",
    "Encoding": "w2v_edge.runtime.encoding",
    "FrameClassification": "w2v_edge.runtime.classification",
    "Manifest": "w2v_edge.bundle",
    "Model": "w2v_edge.runtime.model",
    "Stream": "w2v_edge.runtime.stream",
    "Transcription": "w2v_edge.text.decoding",
    "W2VEdgeError": "w2v_edge.errors",
    "Window": "w2v_edge.runtime.window",
    "load": "w2v_edge.runtime.model",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("w2v-edge")
    elif name == "data":
        value = import_module("w2v_edge.data")
    elif name in _MODULES:
        value = getattr(import_module(_MODULES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
