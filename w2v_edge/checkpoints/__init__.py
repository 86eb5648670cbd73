"""Converts checkpoints of other toolkits: transformers, fairseq, fairseq2 and torchaudio.

A source checkpoint is converted in three steps: its settings become a `ModelConfig`, its tensors
are renamed by a key table (`key_table.KeyMapping`), and both are checked against each other. Any
mismatch is an error that names the setting or tensor. No code in a checkpoint is run.

To add

- a model family of transformers: a subclass of `Family` in `huggingface/families.py`, with what it
  configures differently, and mappings in `huggingface/names.py` for tensors that no other family
  has;
- a head of transformers: an entry in `CLASSES` and `HEAD_TENSORS` (`huggingface/families.py`), a
  branch in `_head` of `huggingface/settings.py`, and its mappings in `huggingface/names.py`;
- a single-file format: a module like `torchaudio.py`, with `recognises(payload)`,
  `read_NAME(path, payload, labels=...)` and a key table, and an entry in `READERS` (`source.py`);
- an architecture that the model does not have: its config in `model/config.py` (each number with
  its bounds), its modules with an initialisation rule in `model/initialisation.py`, and the
  exporter's twin.

Add a small model of it to `MODELS` in `tests/checkpoints/conftest.py`: the tests that compare with
the original implementation, round trips and refusals then cover it.
"""

from w2v_edge.checkpoints.huggingface.writer import write_folder
from w2v_edge.checkpoints.source import Source, load_source

__all__ = ["Source", "load_source", "write_folder"]
