"""Which of transformers' families and classes a folder's model is of."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from w2v_edge.errors import CheckpointError

Architecture = Literal["wav2vec2", "hubert", "wavlm", "data2vec"]

FAMILIES: dict[str, Architecture] = {
    "wav2vec2": "wav2vec2",
    "hubert": "hubert",
    "wavlm": "wavlm",
    "data2vec-audio": "data2vec",
}
"""Our name of each `model_type`."""

CLASSES = {
    "Model": "body",
    "ForPreTraining": "pretraining",
    "ForCTC": "ctc",
    "ForSequenceClassification": "utterance",
    "ForAudioFrameClassification": "frame",
}
"""What a class has around the body, by the end of its name."""

CLASS_NAMES: dict[Architecture, str] = {
    "wav2vec2": "Wav2Vec2",
    "hubert": "Hubert",
    "wavlm": "WavLM",
    "data2vec": "Data2VecAudio",
}
"""What the names of classes begin with, by architecture."""


def family(path: Path | str, config: Mapping[str, Any]) -> Architecture:
    """Return the architecture of a folder by its config.

    Raises:
        CheckpointError: it is none that can be read.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise CheckpointError(
            f"{path}: model_type {kind!r:.60} is not supported; supported: {', '.join(FAMILIES)}"
        )
    return FAMILIES[kind]


def class_of(path: Path | str, config: Mapping[str, Any], names: Collection[str]) -> str:
    """Return what a checkpoint has around its body, a value of `CLASSES`.

    By the class that its config names, or where it names none by the names of its tensors.

    Raises:
        CheckpointError: a class that is not supported.
    """
    classes = config.get("architectures")
    if not classes:
        return _class_of_tensors(names)
    if not isinstance(classes, list) or not isinstance(classes[0], str):
        raise CheckpointError(f"{path}: architectures: expected a list with the name of a class")
    prefix = CLASS_NAMES[family(path, config)]
    if classes[0].removeprefix(prefix) in CLASSES and classes[0].startswith(prefix):
        return CLASSES[classes[0].removeprefix(prefix)]
    raise CheckpointError(
        f"{path}: class {classes[0]!r:.60} is not supported; supported for this model_type: "
        f"{', '.join(prefix + ending for ending in CLASSES)}"
    )


def _class_of_tensors(names: Collection[str]) -> str:
    marks = {
        "lm_head.weight": "ctc",
        "quantizer.codevectors": "pretraining",
        "projector.weight": "utterance",
        "classifier.weight": "frame",
    }
    return next((kind for mark, kind in marks.items() if mark in names), "body")
