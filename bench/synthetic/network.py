"""A small network for text, with random weights: mel energies and a conformer.

    python -m bench.synthetic.network -o start.pt

The class is w2v-BERT 2.0's, at a hundredth of its size. Mel energies need no training, unlike
convolutions over the waveform. In int8 it takes about 3 MB.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from w2v_edge.model import build_model, save_checkpoint
from w2v_edge.model.config import LogMelConfig, ModelConfig
from w2v_edge.model.conformer_config import CausalConformerContextConfig, RotaryPositionConfig


def small_conformer() -> ModelConfig:
    """Return a configuration with 2.7 million parameters and 50 frames a second."""
    context = CausalConformerContextConfig(
        dim=192,
        layers=4,
        heads=4,
        feed_forward=512,
        kernel=15,
        activation="swish",
        position=RotaryPositionConfig(base=10_000.0),
    )
    return ModelConfig(
        architecture="wav2vec2_bert",
        sample_rate=16_000,
        feature_encoder=LogMelConfig(bins=80),
        quantizer=None,
        masking=None,
        context=context,
        objective=None,
    )


def main() -> None:
    """Write a checkpoint for `w2v-edge finetune --train-feature-encoder`."""
    parser = argparse.ArgumentParser(prog="python -m bench.synthetic.network")
    parser.add_argument("--seed", type=int, default=1, help="of the weights (default: 1)")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    save_checkpoint(build_model(small_conformer(), seed=given.seed), given.output)


if __name__ == "__main__":
    main()
