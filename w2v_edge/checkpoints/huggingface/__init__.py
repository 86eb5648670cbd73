"""Hugging Face folders, as transformers writes and reads them; transformers is not needed."""
