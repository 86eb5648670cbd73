/* A bundle's files, checked before onnxruntime opens them. */
#ifndef W2V_BUNDLE_H
#define W2V_BUNDLE_H

#include "manifest.h"

/*
 * Returns the path of a graph, which the caller frees, after checking size and SHA-256 of it and of
 * its data files, and that it reads no other file. Exits if anything is not as the manifest says.
 */
char *checked_graph(const Manifest *manifest, const char *graph);

#endif
