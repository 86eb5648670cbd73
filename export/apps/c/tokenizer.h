/* Runs tokenizer.onnx with onnxruntime's C API. */
#ifndef W2V_TOKENIZER_H
#define W2V_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

#include "manifest.h"

typedef struct Tokenizer Tokenizer;

/* Codes (batch, frames, groups) and valid frames (batch). */
typedef struct {
    size_t batch, frames, groups;
    int64_t *codes;
    int64_t *lengths;
} Codes;

/* Opens a bundle's graph, after checking its files. */
Tokenizer *open_tokenizer(const Manifest *manifest);
void close_tokenizer(Tokenizer *tokenizer);

/* Tokenizes waveforms (batch, samples) with valid `lengths` (batch) in samples. */
Codes tokenize(Tokenizer *tokenizer, const float *waveforms, const int64_t *lengths, size_t batch,
               size_t samples);

#endif
