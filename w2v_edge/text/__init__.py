"""CTC logits to text: what labels spell, decoding, beam search, alignment and subtitles.

Depends on numpy and the manifest only; beam search and subtitles import their libraries on use.
"""
