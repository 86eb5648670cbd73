"""Fine-tuning of converted models, one per module that a family adds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from w2v_edge import data
from w2v_edge.checkpoints import load_source
from w2v_edge.model import load_checkpoint
from w2v_edge.training.finetune import finetune
from w2v_edge.training.metrics import read_log
from w2v_edge.training.recipe import LoopOptions


@pytest.mark.parametrize(
    "family",
    [
        "wav2vec2-pretraining",
        "wav2vec2-adapter-ctc",
        "mms",
        "hubert-batch-norm",
        "wavlm-classes",
        "data2vec-ctc",
        "sew-ctc",
        "conformer-ctc",
        "bert-classes",
    ],
)
def test_every_family_learns(family: str, hf_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """The loss on one text falls, frozen parts stay, and the trained model loads."""
    start = hf_folder(family)
    table = tmp_path / "texts.tsv"
    table.write_text(f"path\ttext\n{data.FOLDER / 'en-activated.flac'}\tact\n")
    done = finetune(
        start,
        [table],
        tmp_path / "run",
        overrides={"updates": 8, "validation_fraction": 0, "learning_rate": 3e-3, "accumulate": 1},
        task_options={"freeze_updates": 0, "mask_time": 0.0, "mask_channels": 0.0},
        new_vocabulary=True,
        cpu=True,
        options=LoopOptions(log_every=1, save_every=8),
    )
    assert done.trained.finished
    losses = [x["loss"] for x in read_log(tmp_path / "run/log.jsonl")]
    model = load_checkpoint(tmp_path / "run/model.pt")
    assert model.config.head is not None
    assert model.config.head.labels[3:] == ("a", "c", "t")
    assert losses[-1] < losses[0]
    before = load_source(start).model.state_dict()
    after = model.state_dict()
    parts = ("feature_encoder.", "feature_norm.", "quantizer.")
    frozen = [x for x in after if x.startswith(parts) or "running_" in x]
    assert all(torch.equal(after[x], before[x]) for x in frozen)
    layer = next(x for x in after if x.startswith("context_network.blocks.0.") and "expand" in x)
    assert not torch.equal(before[layer], after[layer])
