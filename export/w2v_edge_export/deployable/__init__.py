"""Inference twins of the model's parts: the same numbers, in operations whose exported form is known.

A twin reads a trained model's parameters and never changes them. Its own parameters and buffers
carry the names that the tensors have in a bundle.
"""
