"""Inference twins of the model's parts: the same numbers, in operations known to export well.

A twin reads a trained model's parameters and never changes them. Its own parameters and buffers
carry the names that the tensors have in a bundle.
"""
