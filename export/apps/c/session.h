/* onnxruntime's C API: its library, loaded when it is needed, and sessions. */
#ifndef W2V_SESSION_H
#define W2V_SESSION_H

#include <onnxruntime_c_api.h>
#include <stddef.h>

typedef struct {
    const OrtApi *api;
    const char *version;
    OrtEnv *env;
} Onnxruntime;

typedef struct {
    const OrtApi *api;
    OrtSession *session;
    OrtMemoryInfo *memory;
} Session;

/*
 * Loads a library and its operators, as Python does when it imports onnxruntime; NULL means
 * libonnxruntime.so beside the program, or where the loader looks.
 */
Onnxruntime load_onnxruntime(const char *library);
void close_onnxruntime(Onnxruntime *onnxruntime);

/* Opens a graph as the runtime in Python does; `threads` of 0 means one per core. */
Session open_session(const Onnxruntime *onnxruntime, const char *path, int threads);
void close_session(Session *session);

/* Exits with onnxruntime's message if there is one. */
void check_status(const OrtApi *api, OrtStatus *status);

/* Makes a tensor over `data`, which must outlive it. */
OrtValue *make_tensor(const Session *session, const void *data, size_t bytes, const int64_t *shape, size_t axes,
                      ONNXTensorElementDataType type);

#endif
