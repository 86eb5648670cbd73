"""Whole corpora to codes: millions of recordings to shards of Parquet, here or on Ray.

    sources -> entries -> shards -> a table each -> a Parquet file each

A shard is a pure function of the bundle, the settings and the list of recordings that it is made
of. Engines only map that function over the shards that are not there yet, so that all give the same
codes, in one run or in many.
"""

from w2v_edge.corpus.encode import Engine, Report, encode_corpus
from w2v_edge.corpus.job import Settings

__all__ = ["Engine", "Report", "Settings", "encode_corpus"]
