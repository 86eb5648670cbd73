"""The runtime: bundles through onnxruntime, numpy in and numpy out.

model.py           `load` and `Model`, the public API
recordings.py      prepare: validate recordings; batches of short ones
inference.py       run batches and long recordings, cut the outputs of each
session.py         the graphs of a bundle, opened when first run
stream.py          `Stream` and the split graphs over audio in chunks
frontend.py, statistics.py, window.py    the parts of a stream
encoding.py, classification.py           results
"""
