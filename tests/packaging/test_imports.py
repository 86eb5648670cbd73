"""Public names, and the modules that importing and running loads."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

import w2v_edge

HEAVY = {"torch", "onnx", "onnxscript", "onnx_ir", "einops", "click", "rich", "w2v_edge_export"}
HEAVY |= {"pysubs2", "ctc_beam_decoder", "pyarrow", "ray"}

VOICES = """
import json, sys, tempfile
import w2v_edge
from w2v_edge import data
model = w2v_edge.load(sys.argv[1])
clip = data.clips(16_000)["en-activated"]
model.classify(clip)
model.classify(clip, every=0.5)
embedding = model.embed(clip)
runtime = list(sys.modules)
from w2v_edge import corpus
options = corpus.CorpusOptions(embedding=True)
with tempfile.TemporaryDirectory() as folder:
    corpus.encode_corpus(sys.argv[1], [data.__path__[0]], folder + "/index", options=options)
    from w2v_edge.corpus.index import EmbeddingIndex
    found = EmbeddingIndex(folder + "/index", model.manifest).search(embedding, 1)
    assert "en-activated" in found.matches[0].path
print(json.dumps([sorted({x.split(".")[0] for x in y}) for y in (runtime, sys.modules)]))
"""

RUN = """
import json, sys
import w2v_edge
imported = list(sys.modules)
import numpy as np
model = w2v_edge.load(sys.argv[1])
model.encode(np.zeros(4000, np.float32))
model.encode(np.zeros(4000, np.float32), sample_rate=8000)
model.tokenize(np.zeros(4000, np.float32))
print(json.dumps([imported, list(sys.modules)]))
"""

CORPUS = """
import json, sys, tempfile
from w2v_edge import corpus, data
with tempfile.TemporaryDirectory() as folder:
    clips = data.__path__[0]
    assert corpus.encode_corpus(sys.argv[1], [clips], folder + "/out", shard_size=9).failed == 0
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""

WITHOUT = """
import sys
sys.modules["onnxruntime"] = None
import w2v_edge
try:
    w2v_edge.load(sys.argv[1])
except w2v_edge.W2VEdgeError as error:
    print(error)
"""


def _python(script: str, folder: Path) -> str:
    command = [sys.executable, "-c", script, str(folder)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout


def test_public_names() -> None:
    """`__all__` and `dir` list the public names, and all of them exist."""
    names = (
        "AudioFile BeamSearch Classification Encoding FrameClassification Manifest Model Stream "
        "Transcription W2VEdgeError Window __version__ data load"
    )
    assert w2v_edge.__all__ == names.split()
    assert set(w2v_edge.__all__) <= set(dir(w2v_edge))
    assert all(hasattr(w2v_edge, name) for name in w2v_edge.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Lode'"):
        _ = w2v_edge.Lode


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("w2v_edge.audio", "AudioFile", "AudioFile"),
        ("w2v_edge.runtime.context_window", "ContextWindow", "Window"),
        ("w2v_edge.runtime.beam_search", "BeamSearch", "BeamSearch"),
    ],
)
def test_old_names_warn(module: str, old: str, new: str) -> None:
    """Old import paths give the same class and a warning with the new path."""
    with pytest.warns(DeprecationWarning, match=rf"is now w2v_edge\.{new}$"):
        found = getattr(import_module(module), old)
    assert found is getattr(w2v_edge, new)


def test_nothing_heavy_is_imported(bundle: Callable[[str], Path]) -> None:
    """The import needs numpy only; loading and running add onnxruntime only."""
    imported, used = json.loads(_python(RUN, bundle("base-small")))
    assert not {*HEAVY, "onnxruntime", "soundfile", "soxr"} & {x.split(".")[0] for x in imported}
    assert not HEAVY & {x.split(".")[0] for x in used}


def test_corpora_need_neither_torch_nor_ray(bundle: Callable[[str], Path]) -> None:
    """Encoding a corpus imports pyarrow; Ray is imported for its engine only, torch never."""
    found = json.loads(_python(CORPUS, bundle("base-small")))
    assert "pyarrow" in found
    assert not (HEAVY - {"pyarrow"}) & set(found)


def test_voices_need_no_torch(voice_bundle: Path) -> None:
    """Classes and embeddings add nothing to the runtime; a search adds pyarrow."""
    runtime, searching = json.loads(_python(VOICES, voice_bundle))
    assert not HEAVY & {*runtime}
    assert not (HEAVY - {"pyarrow"}) & {*searching}


def test_without_onnxruntime(bundle: Callable[[str], Path]) -> None:
    """Without onnxruntime, loading names the extra to install, in one line."""
    (line,) = _python(WITHOUT, bundle("base-small")).splitlines()
    assert line.endswith("[cpu]'")
