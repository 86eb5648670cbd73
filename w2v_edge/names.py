"""Every name that a user may type; choices and error texts are made from these."""

from __future__ import annotations

from typing import Literal

Preset = Literal["tutorial", "tiny", "base", "large"]
Precision = Literal["fp32", "fp16", "int8", "int4"]
Provider = Literal[
    "cpu", "cuda", "tensorrt", "openvino", "coreml", "directml", "qnn", "xnnpack", "webgpu"
]
Power = Literal["high", "low"]
