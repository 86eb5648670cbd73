"""w2v-edge: wav2vec 2.0-style speech models from PyTorch to a device."""
