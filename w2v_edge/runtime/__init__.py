"""From a bundle to features, context vectors and codes: numpy in, numpy out, no torch."""
