"""The processor's instructions that decide how fast onnxruntime's products are."""

from __future__ import annotations

from pathlib import Path

from w2v_edge.providers.machine import ROOT, cpuinfo

USES = {
    "avx2": "float32 and int8",
    "avx512_vnni": "int8",
    "avx_vnni": "int8",
    "amx_int8": "int8",
    "avx512_bf16": "bf16, by OpenVINO",
    "amx_bf16": "bf16, by OpenVINO",
    "asimddp": "int8",
    "i8mm": "int8",
    "sve": "float32",
    "sme": "float32, by KleidiAI; `tune` also tries mlas.disable_kleidiai",
    "sme2": "float32, by KleidiAI; `tune` also tries mlas.disable_kleidiai",
    "bf16": "unused: products would keep 8 bits (mlas.enable_gemm_fastmath_arm64_bfloat16)",
    "asimdhp": "unused: no graph for the CPU has float16 (session.enable_cpu_fp16)",
}
"""What onnxruntime uses an instruction set for, by Linux's name in /proc/cpuinfo."""


def instructions(root: Path = ROOT) -> dict[str, str]:
    """Return the instruction sets of this processor that matter here, and what each is used for.

    Empty on systems without /proc/cpuinfo.
    """
    lines = cpuinfo(root)
    found = lines.get("flags", []) + lines.get("Features", [])
    names = {name for line in found for name in line.split()}
    return {name: use for name, use in USES.items() if name in names}
