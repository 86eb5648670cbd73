"""Exports the bundles for these tests, where PyTorch is: python -m tests.openvino.bundles FOLDER.

Small models of each architecture for the target `openvino`, one for `cpu`, to be refused, and the
trained one for `qnn`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.conftest import _small_config
from w2v_edge.data import TINY
from w2v_edge.model import build_model, save_checkpoint
from w2v_edge_export import cases, exact_gate, export

NAMES = ("tiny", "base-small", "large-small", "tutorial-small")


def main(folder: Path) -> None:
    """Export all anew: the exporter may have changed."""
    # The whole gate is run elsewhere, on the CPU provider.
    cases.LONG_SECONDS, exact_gate.MIN_CODES = 1.0, 100
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        checkpoint = folder / f"{name}.pt"
        save_checkpoint(build_model(_small_config(name), seed=7), checkpoint)
        for target in ("openvino", "cpu") if name == "tiny" else ("openvino",):
            bundle = folder / f"{name}-{target}"
            export(checkpoint, bundle, target=target, force=True)
            print(f"{bundle}: ready")
    for precision in ("fp32", "int8"):
        bundle = folder / f"tiny-qnn-{precision}"
        export(TINY, bundle, target="qnn", precision=precision, samples=[16_000], force=True)
        print(f"{bundle}: ready")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
