"""Names that users type; choices and error messages are made from these types."""

from __future__ import annotations

from typing import Literal

Preset = Literal["tutorial", "tiny", "base", "large"]
Precision = Literal["fp32", "fp16", "bf16", "int8", "int4"]
Kind = Literal["body", "pretraining", "ctc", "utterance", "frame", "xvector", "pooled"]
TargetName = Literal["cpu", "coreml", "cuda", "directml", "mobile", "openvino", "qnn", "web"]
Provider = Literal[
    "cpu",
    "cuda",
    "tensorrt",
    "openvino",
    "coreml",
    "directml",
    "qnn",
    "xnnpack",
    "webgpu",
    "tensorrt-rtx",
]
Pooling = Literal["mean", "mean,std"]
Power = Literal["high", "low"]
