"""The device: what it is (`fingerprint`), what it does meanwhile (`watch`), what disturbed it."""
