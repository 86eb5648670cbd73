"""Rotary frequencies are those that transformers computes with, in half precision too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from w2v_edge.checkpoints import load_source, write_folder
from w2v_edge.model.checkpoint import save_checkpoint

pytestmark = pytest.mark.usefixtures("no_gradients")

Make = Callable[..., Any]

PRECISIONS = ("bfloat16", "float16")
STORED = "encoder.embed_positions.inv_freq"


@pytest.fixture(params=PRECISIONS)
def precision(request: pytest.FixtureRequest) -> str:
    """A type of half precision."""
    name: str = request.param
    return name


def test_rounded(
    precision: str, fresh: Make, tmp_path: Path, same_as: Make, utterance: Make
) -> None:
    """What transformers loads in float32 has rounded ones, which are wrong after some seconds."""
    folder = tmp_path / "half"
    fresh("conformer-rotary").to(getattr(torch, precision)).save_pretrained(folder)
    peer = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    source = load_source(folder)
    for samples in (400, 9_001, 160_000):
        same_as(source.model, peer, utterance(samples))
    assert any(f"stored in {precision}" in x for x in source.remarks)
    save_checkpoint(source.model, tmp_path / "ours.pt")
    again = load_source(tmp_path / "ours.pt")
    assert any(f"stored in {precision}" in x for x in again.remarks)
    for origin in (again.model.origin, None):
        again.model.origin = origin
        write_folder(again.model, tmp_path / "back", force=True)
        assert load_source(tmp_path / "back").model.config == source.model.config
        back = transformers.AutoModel.from_pretrained(tmp_path / "back", dtype=torch.float32)
        same_as(source.model, back.eval(), utterance(160_000))


def test_in_the_graph(precision: str, fresh: Make, tmp_path: Path) -> None:
    """The twin that is exported turns frames by the same angles."""
    from w2v_edge_export.deployable.conformer import positions_twin

    fresh("conformer-rotary").to(getattr(torch, precision)).save_pretrained(tmp_path)
    context: Any = load_source(tmp_path).model.config.context
    (cos, _) = positions_twin(context)(torch.zeros(1, 501, 48))  # type: ignore[misc]
    peer = transformers.AutoModel.from_pretrained(tmp_path, dtype=torch.float32)
    expected = peer.encoder.embed_positions(torch.zeros(1, 501, 48))[0, :, 0, 0]
    torch.testing.assert_close(cos[:, 0], expected, atol=1e-4, rtol=0)


def test_removed(precision: str, fresh: Make, tmp_path: Path) -> None:
    """Without them in the file they are exact, in transformers too, and nothing is said."""
    fresh("conformer-rotary").to(getattr(torch, precision)).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    save_file({k: x for k, x in load_file(path).items() if k != STORED}, path, {"format": "pt"})
    source = load_source(tmp_path)
    context: Any = source.model.config.context
    assert context.position.precision == "float32"
    assert not [x for x in source.remarks if "rotary" in x]


def test_another_base(fresh: Make, tmp_path: Path, edit: Make, refuses: Make) -> None:
    """Frequencies of another base than the config's are refused, rounded or not."""
    for model in (fresh("conformer-rotary"), fresh("conformer-rotary").to(torch.bfloat16)):
        model.save_pretrained(tmp_path)
        edit(tmp_path / "config.json", rotary_embedding_base=500)
        refuses(tmp_path, "rotary_embedding_base 500")


def test_bert(precision: str, fresh: Make, tmp_path: Path, same_as: Make, utterance: Make) -> None:
    """w2v-BERT computes them: its frequencies are exact whatever the weights' type."""
    fresh("bert-rotary").to(getattr(torch, precision)).save_pretrained(tmp_path)
    peer = transformers.AutoModel.from_pretrained(tmp_path, dtype=torch.float32).eval()
    source = load_source(tmp_path)
    same_as(source.model, peer, utterance(160_000))
    assert not [x for x in source.remarks if "rotary" in x]
