#include "tokenizer.h"

#include <string.h>

#include "bundle.h"
#include "fail.h"
#include "session.h"

struct Tokenizer {
    Onnxruntime onnxruntime;
    Session session;
};

Tokenizer *open_tokenizer(const Manifest *manifest) {
    Tokenizer *t = allocate(1, sizeof *t);
    char *path = checked_graph(manifest, "tokenizer");
    t->onnxruntime = load_onnxruntime(NULL);
    t->session = open_session(&t->onnxruntime, path, 0);
    free(path);
    return t;
}

void close_tokenizer(Tokenizer *t) {
    close_session(&t->session);
    close_onnxruntime(&t->onnxruntime);
    free(t);
}

/* Copies an int64 output with `axes` axes and returns its shape. */
static int64_t *copied(const OrtApi *api, OrtValue *value, int64_t *shape, size_t axes) {
    OrtTensorTypeAndShapeInfo *info;
    ONNXTensorElementDataType type;
    size_t found, count;
    int64_t *data;
    check_status(api, api->GetTensorTypeAndShape(value, &info));
    check_status(api, api->GetTensorElementType(info, &type));
    check_status(api, api->GetDimensionsCount(info, &found));
    if (type != ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 || found != axes)
        fail("tokenizer.onnx: found unexpected outputs; export again");
    check_status(api, api->GetDimensions(info, shape, axes));
    check_status(api, api->GetTensorShapeElementCount(info, &count));
    check_status(api, api->GetTensorMutableData(value, (void **)&data));
    int64_t *copy = allocate(count, sizeof *copy);
    if (count) memcpy(copy, data, count * sizeof *copy);
    api->ReleaseTensorTypeAndShapeInfo(info);
    return copy;
}

Codes tokenize(Tokenizer *t, const float *waveforms, const int64_t *lengths, size_t batch,
               size_t samples) {
    static const char *const INPUTS[] = {"waveform", "lengths"};
    static const char *const OUTPUTS[] = {"codes", "frame_lengths"};
    const int64_t shape[] = {(int64_t)batch, (int64_t)samples};
    const OrtApi *api = t->session.api;
    OrtValue *inputs[] = {
        make_tensor(&t->session, waveforms, batch * samples * sizeof *waveforms, shape, 2,
                    ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT),
        make_tensor(&t->session, lengths, batch * sizeof *lengths, shape, 1, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64),
    };
    OrtValue *outputs[] = {NULL, NULL};
    check_status(api, api->Run(t->session.session, NULL, INPUTS, (const OrtValue *const *)inputs, 2, OUTPUTS,
                               2, outputs));
    int64_t axes[3], count[1];
    Codes codes = {.codes = copied(api, outputs[0], axes, 3)};
    codes.lengths = copied(api, outputs[1], count, 1);
    codes.batch = (size_t)axes[0];
    codes.frames = (size_t)axes[1];
    codes.groups = (size_t)axes[2];
    for (int i = 0; i < 2; i++) {
        api->ReleaseValue(inputs[i]);
        api->ReleaseValue(outputs[i]);
    }
    return codes;
}
