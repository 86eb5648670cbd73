"""The old place of `w2v_edge.BeamSearch`."""

from w2v_edge.moved import moved

__getattr__ = moved(__name__, "BeamSearch", "BeamSearch")
