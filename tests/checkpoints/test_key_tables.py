"""Tables keyed by names: a misspelt setting or tensor cannot go unnoticed."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from w2v_edge.checkpoints import fairseq, key_table, load_source
from w2v_edge.checkpoints.huggingface import names
from w2v_edge.checkpoints.huggingface.families import CLASSES, FAMILIES, HEAD_TENSORS
from w2v_edge.checkpoints.huggingface.settings import DEFAULTS
from w2v_edge.checkpoints.settings import SourceSettings
from w2v_edge.errors import CheckpointError
from w2v_edge.model import build_model, preset

Make = Callable[..., Any]

WEIGHTS = "model.safetensors"

NOT_CONSTANT = {"num_conv_pos_embeddings", "output_hidden_size", "id2label", "pad_token_id"}
"""Settings whose default in transformers depends on the family or on other settings, or which say
something only where they are stated."""

OF_OTHERS = {"pooling_mode"}
"""Settings of heads that no class of transformers has."""

OF_DEBERTA = {"max_relative_positions", "conv_kernel_size", "layerdrop"}
"""Settings that SEW-D's code reads, or has, without a default in its config."""

OF_WAVLM = {"num_buckets", "max_distance", "gru_rel_pos"}
"""Settings of fairseq that are read with a relative position alone."""

ALL_PARTS = (
    "wav2vec2-pretraining-large",
    "wav2vec2-adapter",
    "mms",
    "hubert-batch-norm",
    "wavlm-frames",
    "wavlm-classes",
    "data2vec",
    "wav2vec2-classes-mixed",
    "conformer",
    "bert-adapter",
    "bert-ctc",
)
"""Models that together have every module."""


def test_defaults_are_those_of_transformers() -> None:
    """Each setting that is read exists in a family's config, with the same default."""
    configs = [transformers.CONFIG_MAPPING[family.model_type]() for family in FAMILIES]
    for key, default in DEFAULTS.items():
        if key in OF_OTHERS:
            continue
        values = [getattr(config, key) for config in configs if hasattr(config, key)]
        values = [list(value) if isinstance(value, tuple) else value for value in values]
        assert values, key
        assert default in values or key in NOT_CONSTANT, key


@pytest.mark.parametrize("name", ["wav2vec2-conformer", "wav2vec2-bert", "sew", "sew-d"])
def test_defaults_of_a_family(name: str) -> None:
    """A family whose defaults are its own has transformers', each of them."""
    family = next(x for x in FAMILIES if x.model_type == name)
    config = transformers.CONFIG_MAPPING[name]()
    read = {**DEFAULTS, **family.defaults}
    shared = {key: getattr(config, key) for key in read if hasattr(config, key)}
    assert family.defaults.keys() <= shared.keys() | OF_DEBERTA
    # Without a head, transformers has no vocabulary either.
    for key in shared.keys() - {*NOT_CONSTANT, "vocab_size"}:
        value = shared[key]
        assert (list(value) if isinstance(value, tuple) else value) == read[key], key


def test_each_setting_of_fairseq_is_read(hf_folder: Make, tmp_path: Path) -> None:
    """A setting of the wrong type is named, so each key of the table is in use."""
    for key in fairseq.DEFAULTS:
        folder = hf_folder("wav2vec2-pretraining")
        tensors = {x.removeprefix("wav2vec2."): y for x, y in load_file(folder / WEIGHTS).items()}
        marks = {"quantizer.vars": torch.zeros(1, 80, 12), "mask_emb": torch.zeros(48)}
        path = tmp_path / "model.pt"
        settings = {"relative_position_embedding": key in OF_WAVLM, "gru_rel_pos": True, key: [1]}
        torch.save({"args": argparse.Namespace(**settings), "model": {**tensors, **marks}}, path)
        with pytest.raises(CheckpointError, match=rf"model\.pt: {key}: expected "):
            load_source(path)


def test_a_misspelt_setting_is_a_key_error() -> None:
    """A look-up outside the table of defaults raises instead of returning a default."""
    settings = SourceSettings("config.json", {"hidden_size": 8}, DEFAULTS)
    assert settings["hidden_size"] == 8
    for read in (settings.__getitem__, settings.integer):
        with pytest.raises(KeyError, match="hiden_size"):
            read("hiden_size")


def test_each_key_mapping_has_a_tensor(
    hf_folder: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each mapping of the table names a tensor of some model; none is dead or misspelt."""
    mapped: set[str] = set()
    existing: set[str] = set()

    def spy(table: Iterator[Any], expected: Any) -> list[Any]:
        rows = list(table)
        mapped.update(row.ours for row in rows)
        existing.update(expected)
        return [row for row in rows if row.ours in expected]

    monkeypatch.setattr(names, "existing", spy)
    for name in ALL_PARTS:
        load_source(hf_folder(name))
    folder = shutil.copytree(hf_folder("hubert"), tmp_path / "projected")
    projection = {"final_proj.weight": torch.ones(20, 48), "final_proj.bias": torch.ones(20)}
    save_file({**load_file(folder / WEIGHTS), **projection}, folder / WEIGHTS)
    load_source(folder, projection=True)
    # Modules with and without a bias share a mapping of both.
    unused = {name for name in mapped - existing if not name.endswith(".conv.bias")}
    assert unused <= {"context_network.position.conv.weight"}


def test_a_gap_in_a_key_table_is_an_error(hf_folder: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tensor of ours without a mapping is named, with and without `python -O`."""
    whole = key_table.existing
    monkeypatch.setattr(names, "existing", lambda table, expected: whole(table, expected)[1:])
    with pytest.raises(CheckpointError, match="no key mapping for tensor 'feature_encoder"):
        load_source(hf_folder("wav2vec2"))


def test_prefixes_and_kinds_name_what_there_is() -> None:
    """Prefixes of training tensors match a model's; head tensors map to known kinds."""
    state = build_model(preset("tiny"), seed=None).state_dict()
    for prefix in key_table.TRAINING_ONLY:
        assert any(name.startswith(prefix) for name in state), prefix
    assert set(HEAD_TENSORS.values()) == set(CLASSES.values()) - {"body"}
