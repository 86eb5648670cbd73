/* tokenizer.onnx through onnxruntime's C API. */
#ifndef W2V_TOKENIZER_H
#define W2V_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

typedef struct Tokenizer Tokenizer;

/* Codes (batch, frames, groups), and of each utterance the frames that count. */
typedef struct {
    size_t batch, frames, groups;
    int64_t *codes;
    int64_t *lengths;
} Codes;

/* Opens the graph of a bundle; onnxruntime finds its weights beside it. */
Tokenizer *open_tokenizer(const char *bundle);
void close_tokenizer(Tokenizer *tokenizer);

/* Waveforms (batch, samples), of which `lengths` samples each are valid. */
Codes tokenize(Tokenizer *tokenizer, const float *waveforms, const int64_t *lengths, size_t batch,
               size_t samples);

#endif
