"""The old place of `w2v_edge.Window`."""

from w2v_edge.moved import moved

__getattr__ = moved(__name__, "ContextWindow", "Window")
