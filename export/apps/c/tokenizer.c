#include "tokenizer.h"

#include <onnxruntime_c_api.h>
#include <string.h>

#include "fail.h"
#include "file.h"

struct Tokenizer {
    const OrtApi *api;
    OrtEnv *env;
    OrtSession *session;
    OrtMemoryInfo *memory;
};

static void check(const OrtApi *api, OrtStatus *status) {
    if (status) fail("onnxruntime: %.300s", api->GetErrorMessage(status));
}

Tokenizer *open_tokenizer(const char *bundle) {
    Tokenizer *t = allocate(1, sizeof *t);
    t->api = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    if (!t->api)
        fail("onnxruntime %s is older than the header this was built with",
             OrtGetApiBase()->GetVersionString());
    char path[4096];
    if (snprintf(path, sizeof path, "%s/tokenizer.onnx", bundle) >= (int)sizeof path)
        fail("the path of the bundle is too long");
    OrtSessionOptions *options;
    check(t->api, t->api->CreateEnv(ORT_LOGGING_LEVEL_FATAL, "w2v-edge", &t->env));
    check(t->api, t->api->CreateSessionOptions(&options));
    check(t->api, t->api->CreateSession(t->env, path, options, &t->session));
    check(t->api, t->api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &t->memory));
    t->api->ReleaseSessionOptions(options);
    return t;
}

void close_tokenizer(Tokenizer *t) {
    t->api->ReleaseMemoryInfo(t->memory);
    t->api->ReleaseSession(t->session);
    t->api->ReleaseEnv(t->env);
    free(t);
}

static OrtValue *tensor(Tokenizer *t, const void *data, size_t bytes, const int64_t *shape,
                        size_t axes, ONNXTensorElementDataType type) {
    OrtValue *value;
    check(t->api, t->api->CreateTensorWithDataAsOrtValue(t->memory, (void *)data, bytes, shape, axes,
                                                         type, &value));
    return value;
}

/* Copies an int64 output with `axes` axes and returns its shape. */
static int64_t *copied(Tokenizer *t, OrtValue *value, int64_t *shape, size_t axes) {
    OrtTensorTypeAndShapeInfo *info;
    ONNXTensorElementDataType type;
    size_t found, count;
    int64_t *data;
    check(t->api, t->api->GetTensorTypeAndShape(value, &info));
    check(t->api, t->api->GetTensorElementType(info, &type));
    check(t->api, t->api->GetDimensionsCount(info, &found));
    if (type != ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 || found != axes)
        fail("tokenizer.onnx: found unexpected outputs; export again");
    check(t->api, t->api->GetDimensions(info, shape, axes));
    check(t->api, t->api->GetTensorShapeElementCount(info, &count));
    check(t->api, t->api->GetTensorMutableData(value, (void **)&data));
    int64_t *copy = allocate(count, sizeof *copy);
    if (count) memcpy(copy, data, count * sizeof *copy);
    t->api->ReleaseTensorTypeAndShapeInfo(info);
    return copy;
}

Codes tokenize(Tokenizer *t, const float *waveforms, const int64_t *lengths, size_t batch,
               size_t samples) {
    static const char *const INPUTS[] = {"waveform", "lengths"};
    static const char *const OUTPUTS[] = {"codes", "frame_lengths"};
    const int64_t shape[] = {(int64_t)batch, (int64_t)samples};
    OrtValue *inputs[] = {
        tensor(t, waveforms, batch * samples * sizeof *waveforms, shape, 2,
               ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT),
        tensor(t, lengths, batch * sizeof *lengths, shape, 1, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64),
    };
    OrtValue *outputs[] = {NULL, NULL};
    check(t->api, t->api->Run(t->session, NULL, INPUTS, (const OrtValue *const *)inputs, 2, OUTPUTS, 2,
                              outputs));
    int64_t axes[3], count[1];
    Codes codes = {.codes = copied(t, outputs[0], axes, 3)};
    codes.lengths = copied(t, outputs[1], count, 1);
    codes.batch = (size_t)axes[0];
    codes.frames = (size_t)axes[1];
    codes.groups = (size_t)axes[2];
    for (int i = 0; i < 2; i++) {
        t->api->ReleaseValue(inputs[i]);
        t->api->ReleaseValue(outputs[i]);
    }
    return codes;
}
