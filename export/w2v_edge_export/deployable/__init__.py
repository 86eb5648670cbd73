"""Inference twins of the model's parts: the same outputs, in operations that export well.

A twin reads a trained model's parameters and never changes them. Its own parameters and buffers
have the names of the tensors in a bundle.
"""
