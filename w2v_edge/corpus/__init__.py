"""Encoding of whole corpora to Parquet shards, on this machine or on Ray.

    sources -> entries -> shards -> a table each -> a Parquet file each

A shard is a pure function of the bundle, the options and its list of recordings. Engines map that
function over the missing shards, so that all engines give the same codes, in one run or several.
"""

from w2v_edge.corpus.encode import CorpusReport, Engine, encode_corpus
from w2v_edge.corpus.job import CorpusOptions

__all__ = ["CorpusOptions", "CorpusReport", "Engine", "encode_corpus"]
