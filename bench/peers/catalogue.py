"""All sides of the comparison, and reasons why some are unavailable."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.peers.files import Workshop
from bench.peers.hardware import cpu_flags
from bench.peers.sides import Group, Kind, Precision, Side
from bench.peers.timing import one_line

BF16_FLAGS = {"avx512_bf16", "amx_bf16"}


@dataclass(frozen=True)
class Candidate:
    """A side whose file is not made yet; see `Side`."""

    name: str
    title: str
    group: Group
    kind: Kind
    make: Callable[[], Path]
    precision: Precision = "fp32"

    def side(self, path: str) -> Side:
        """Return the side, once its file exists."""
        return Side(self.name, self.title, self.group, self.kind, path, self.precision)


def candidates(shop: Workshop) -> list[Candidate]:
    """Return all sides, in the order of tables."""
    return [
        *_torch_sides(shop),
        *_onnx_sides(shop),
        *_openvino_sides(shop),
        *_more_sides(shop),
        *_our_sides(shop),
    ]


def _torch_sides(shop: Workshop) -> list[Candidate]:
    made = shop.checkpoint
    return [
        Candidate("torch", "PyTorch eager, this model", "encoder", "torch", made),
        Candidate("transformers", "PyTorch eager, transformers", "encoder", "transformers", made),
        Candidate("compiled", "torch.compile, transformers", "encoder", "compiled", made),
        Candidate("tokenizer-torch", "PyTorch eager, this model", "tokenizer", "torch", made),
    ]


def _onnx_sides(shop: Workshop) -> list[Candidate]:
    return [
        Candidate(
            "torchscript",
            "usual export (TorchScript), onnxruntime",
            "encoder",
            "ort",
            partial(shop.usual, "torchscript"),
        ),
        Candidate(
            "dynamo",
            "usual export (dynamo), onnxruntime",
            "encoder",
            "ort",
            partial(shop.usual, "dynamo"),
        ),
        Candidate(
            "dynamic",
            "quantize_dynamic, default",
            "encoder",
            "ort",
            partial(shop.dynamic, None),
            "int8",
        ),
        Candidate(
            "dynamic-matmul",
            "quantize_dynamic, MatMul only",
            "encoder",
            "ort",
            partial(shop.dynamic, ("MatMul",)),
            "int8",
        ),
        Candidate(
            "tokenizer-torchscript",
            "usual export (TorchScript), onnxruntime",
            "tokenizer",
            "ort",
            shop.usual_tokenizer,
        ),
    ]


def _openvino_sides(shop: Workshop) -> list[Candidate]:
    found = []
    precisions: tuple[tuple[Precision, str], ...] = (("fp32", "f32"), ("bf16", "bf16"))
    for precision, hint in precisions:
        for name, title, make in (
            (f"openvino-{hint}", f"OpenVINO {hint}, usual export", shop.faster_usual),
            (f"openvino-{hint}-ours", f"OpenVINO {hint}, our graph", partial(shop.graph, "fp32")),
        ):
            found.append(Candidate(name, title, "encoder", "openvino", make, precision))
    return found


def _more_sides(shop: Workshop) -> list[Candidate]:
    quantized = (("all", "all layers", True), ("linear", "linear layers", False))
    precisions: tuple[Precision, ...] = ("fp32", "int8")
    return [
        *(
            Candidate(
                f"nncf-{name}",
                f"OpenVINO, NNCF int8 of {layers}",
                "encoder",
                "openvino",
                partial(shop.nncf, convolutions=convolutions),
                "int8",
            )
            for name, layers, convolutions in quantized
        ),
        *(
            Candidate(
                f"ctranslate2-{x}",
                f"CTranslate2 {x}",
                "encoder",
                "ctranslate2",
                shop.ctranslate2,
                x,
            )
            for x in precisions
        ),
        Candidate("executorch", "ExecuTorch, XNNPACK", "encoder", "executorch", shop.executorch),
    ]


def _our_sides(shop: Workshop) -> list[Candidate]:
    groups: tuple[tuple[Group, str], ...] = (("encoder", "ours"), ("tokenizer", "tokenizer-ours"))
    precisions: tuple[Precision, ...] = ("fp32", "int8")
    return [
        Candidate(
            f"{name}-{precision}",
            f"w2v-edge {precision}",
            group,
            "bundle",
            partial(shop.bundle, precision),
            precision,
        )
        for group, name in groups
        for precision in precisions
    ]


def prepare(every: list[Candidate], skip: Collection[str]) -> tuple[list[Side], dict[str, str]]:
    """Make the files of all sides; return available sides, and the reasons for the others."""
    sides, reasons = [], {}
    for one in every:
        if one.name in skip:
            reasons[one.name] = "left out by --skip"
        elif one.precision == "bf16" and not BF16_FLAGS & cpu_flags():
            reasons[one.name] = "this CPU has no bf16 instructions"
        else:
            try:
                sides.append(one.side(str(one.make())))
            except Exception as error:  # noqa: BLE001 - exporters raise anything; it is reported
                reasons[one.name] = one_line(error)
    return sides, reasons
