#include "session.h"

#include <dlfcn.h>

#include "fail.h"

enum { API_VERSION = 16 };

#if ORT_API_VERSION < 16
#error "onnxruntime's header is too old; take that of 1.16 or newer"
#endif

static const char *const NAMES[] = {"libonnxruntime.so.1", "libonnxruntime.so"};

void check_status(const OrtApi *api, OrtStatus *status) {
    if (!status) return;
    char line[301];
    snprintf(line, sizeof line, "%s", api->GetErrorMessage(status));
    for (char *at = line; *at; at++)
        if ((unsigned char)*at < ' ') *at = ' ';
    fail("onnxruntime: %s", line);
}

Onnxruntime load_onnxruntime(const char *library) {
    /* Its telemetry would be a thread and a file; it stays on with ORT_DISABLE_TELEMETRY=0. */
    setenv("ORT_DISABLE_TELEMETRY", "1", 0);
    void *loaded = library ? dlopen(library, RTLD_NOW) : NULL;
    for (size_t i = 0; !library && !loaded && i < sizeof NAMES / sizeof *NAMES; i++)
        loaded = dlopen(NAMES[i], RTLD_NOW);
    if (!loaded) fail("onnxruntime cannot be loaded (%.300s)", dlerror());
    const OrtApiBase *(*base)(void);
    *(void **)&base = dlsym(loaded, "OrtGetApiBase");
    if (!base) fail("%s is no library of onnxruntime", library ? library : NAMES[0]);
    Onnxruntime found = {base()->GetApi(API_VERSION), base()->GetVersionString(), NULL};
    if (!found.api) fail("found onnxruntime %s, expected 1.%d or newer", found.version, API_VERSION);
    check_status(found.api, found.api->CreateEnv(ORT_LOGGING_LEVEL_FATAL, "w2v-edge", &found.env));
    return found;
}

void close_onnxruntime(Onnxruntime *onnxruntime) { onnxruntime->api->ReleaseEnv(onnxruntime->env); }

Session open_session(const Onnxruntime *onnxruntime, const char *path, int threads) {
    const OrtApi *api = onnxruntime->api;
    Session session = {.api = api};
    OrtSessionOptions *options;
    check_status(api, api->CreateSessionOptions(&options));
    check_status(api, api->SetIntraOpNumThreads(options, threads));
    check_status(api, api->SetInterOpNumThreads(options, 1));
    check_status(api, api->SetSessionGraphOptimizationLevel(options, ORT_ENABLE_ALL));
    check_status(api, api->DisableMemPattern(options));
    check_status(api, api->CreateSession(onnxruntime->env, path, options, &session.session));
    check_status(api, api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &session.memory));
    api->ReleaseSessionOptions(options);
    return session;
}

void close_session(Session *session) {
    session->api->ReleaseMemoryInfo(session->memory);
    session->api->ReleaseSession(session->session);
}

OrtValue *make_tensor(const Session *session, const void *data, size_t bytes, const int64_t *shape, size_t axes,
                      ONNXTensorElementDataType type) {
    OrtValue *value;
    check_status(session->api,
                 session->api->CreateTensorWithDataAsOrtValue(session->memory, (void *)data, bytes, shape, axes,
                                                              type, &value));
    return value;
}
