"""Makes what the apps are tried with: small bundles, a real recording, and Python's codes of it.

Usage: python fixture.py FOLDER

    tiny-fp32/, tiny-int8/   bundles for the target `web`, which is the graphs of `cpu`
    clip.wav, clip.flac      speech at 16 kHz, 16 bits
    expected.json            the codes of the clip by bundle, a list of groups for each frame
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import soundfile

import w2v_edge
from w2v_edge import data
from w2v_edge.audio import read_audio
from w2v_edge.files import replacing_folder
from w2v_edge.model import build_model, preset, save_checkpoint
from w2v_edge_export.pipeline import export_bundle
from w2v_edge_export.weight_quantization.quantize import QuantizationOptions
from w2v_edge_export.weight_quantization.search import Budgets


def main(output: Path) -> None:
    """Write everything, or nothing."""
    with replacing_folder(output, force=True) as folder:
        save_checkpoint(build_model(preset("tiny"), seed=1), folder / "tiny.pt")
        # So small a model gains no speed from int8.
        options = QuantizationOptions(budgets=Budgets(require_speedup=0.0))
        for precision in ("fp32", "int8"):
            export_bundle(
                folder / "tiny.pt",
                folder / f"tiny-{precision}",
                precision=precision,
                target="web",
                quantization=options,
            )
        speech = read_audio(data.DEMO_CLIP, 16_000)
        for name in ("clip.wav", "clip.flac"):
            soundfile.write(folder / name, speech, 16_000, subtype="PCM_16")
        clip = read_audio(folder / "clip.wav", 16_000)
        codes = {
            name: w2v_edge.load(folder / name).tokenize(clip).tolist()
            for name in ("tiny-fp32", "tiny-int8")
        }
        (folder / "expected.json").write_text(json.dumps(codes), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
