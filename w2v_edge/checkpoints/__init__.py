"""Checkpoints of others: Hugging Face folders and Hub ids, fairseq and torchaudio files.

Each family has a table from its tensors' names to ours, and one from its settings to our config.
What a source says that does not fit together is an error that names it; no code in it is run.
"""

from w2v_edge.checkpoints.source import Source, load_source

__all__ = ["Source", "load_source"]
