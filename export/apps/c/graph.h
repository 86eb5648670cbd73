/*
 * Checks which files an ONNX graph reads, before onnxruntime opens it.
 *
 * Older releases of onnxruntime follow any name of a file in a graph: out of the folder, and through
 * links. So its bytes are parsed here first, by the field numbers of onnx.proto.
 */
#ifndef W2V_GRAPH_H
#define W2V_GRAPH_H

#include "file.h"

enum { MAX_DATA_FILES = 16 };

/* The data files that a graph may read, with their sizes in bytes. */
typedef struct {
    size_t count;
    char names[MAX_DATA_FILES][64];
    uint64_t sizes[MAX_DATA_FILES];
} DataFiles;

/* Exits unless all tensors are in the graph or within these files, and no larger than their data. */
void check_graph(const File *graph, const DataFiles *files, const char *path);

#endif
