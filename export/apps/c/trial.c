#include "trial.h"

#include <string.h>
#include <time.h>

#include "bundle.h"
#include "fail.h"
#include "session.h"

/* Those of w2v_edge/latency/measure. */
static const double WARM_UP_S = 0.2;
enum { MIN_WARM_UPS = 2, MIN_QUERIES = 3, MAX_OUTPUTS = 64 };

double now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* A graph with its inputs, which alternate. */
typedef struct {
    Session session;
    OrtAllocator *allocator;
    char *outputs[MAX_OUTPUTS];
    size_t output_count;
    OrtValue **inputs; /* waveform and lengths of each batch */
    size_t count, turn;
} Queries;

typedef struct {
    double *times; /* seconds */
    size_t count, room;
} Times;

static void add_time(Times *times, double seconds) {
    if (times->count == times->room) {
        times->room = times->room ? 2 * times->room : 1024;
        times->times = realloc(times->times, times->room * sizeof *times->times);
        if (!times->times) fail("no memory for %zu latencies", times->room);
    }
    times->times[times->count++] = seconds;
}

static void open_queries(Queries *queries, const Trial *trial, const Onnxruntime *onnxruntime) {
    Manifest manifest = read_manifest(trial->bundle);
    char *path = checked_graph(&manifest, trial->graph);
    queries->session = open_session(onnxruntime, path, trial->threads);
    free(path);
    free_manifest(&manifest);
    const OrtApi *api = queries->session.api;
    check_status(api, api->GetAllocatorWithDefaultOptions(&queries->allocator));
    check_status(api, api->SessionGetOutputCount(queries->session.session, &queries->output_count));
    if (queries->output_count > MAX_OUTPUTS) fail("%s.onnx: found %zu outputs", trial->graph, queries->output_count);
    for (size_t i = 0; i < queries->output_count; i++)
        check_status(api, api->SessionGetOutputName(queries->session.session, i, queries->allocator,
                                                    &queries->outputs[i]));
}

static void set_inputs(Queries *queries, const Batches *batches, const int64_t *lengths) {
    const int64_t shape[] = {(int64_t)batches->batch, (int64_t)batches->samples};
    size_t size = batches->batch * batches->samples;
    queries->count = batches->count;
    queries->inputs = allocate(2 * batches->count, sizeof(OrtValue *));
    for (size_t i = 0; i < batches->count; i++) {
        queries->inputs[2 * i] =
            make_tensor(&queries->session, batches->waveforms + i * size, size * sizeof(float), shape, 2,
                        ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
        queries->inputs[2 * i + 1] =
            make_tensor(&queries->session, lengths, batches->batch * sizeof *lengths, shape, 1,
                        ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64);
    }
}

/* Runs one query and returns its time in seconds. */
static double query(Queries *queries) {
    static const char *const INPUTS[] = {"waveform", "lengths"};
    const OrtApi *api = queries->session.api;
    OrtValue *outputs[MAX_OUTPUTS] = {NULL};
    const OrtValue *const *inputs =
        (const OrtValue *const *)queries->inputs + 2 * (queries->turn++ % queries->count);
    double begun = now_s();
    check_status(api, api->Run(queries->session.session, NULL, INPUTS, inputs, 2,
                               (const char *const *)queries->outputs, queries->output_count, outputs));
    for (size_t i = 0; i < queries->output_count; i++) api->ReleaseValue(outputs[i]);
    return now_s() - begun;
}

static void close_queries(Queries *queries) {
    const OrtApi *api = queries->session.api;
    for (size_t i = 0; i < 2 * queries->count; i++) api->ReleaseValue(queries->inputs[i]);
    for (size_t i = 0; i < queries->output_count; i++)
        check_status(api, api->AllocatorFree(queries->allocator, queries->outputs[i]));
    free(queries->inputs);
    close_session(&queries->session);
}

/* Writes a figure of /proc/self/status, in 10^6 bytes, where there is one. */
static void write_memory(FILE *stream, const char *key, const char *field) {
    FILE *status = fopen("/proc/self/status", "r");
    char line[256];
    unsigned long kib = 0;
    while (status && fgets(line, sizeof line, status))
        if (!strncmp(line, field, strlen(field))) kib = strtoul(line + strlen(field) + 1, NULL, 10);
    if (status) fclose(status);
    if (kib) fprintf(stream, ", \"%s\": %.3f", key, (double)kib * 1024 / 1e6);
}

static void write_times(FILE *stream, const char *key, const Times *times) {
    fprintf(stream, ", \"%s\": [", key);
    for (size_t i = 0; i < times->count; i++) fprintf(stream, "%s%.4f", i ? ", " : "", 1e3 * times->times[i]);
    fputc(']', stream);
}

static Times warm_up(Queries *queries) {
    Times times = {0};
    double begun = now_s();
    while (times.count < MIN_WARM_UPS || now_s() < begun + WARM_UP_S) add_time(&times, query(queries));
    return times;
}

/* Runs one query after another; returns the seconds that all of them took. */
static double steady_state(Queries *queries, double seconds, Times *times) {
    double begun = now_s(), now = begun;
    while (now < begun + seconds || times->count < MIN_QUERIES) {
        query(queries);
        double then = now;
        now = now_s();
        add_time(times, now - then);
    }
    return now - begun;
}

void run_trial(const void *task, FILE *answer) {
    double begun = now_s();
    const Trial *trial = task;
    Batches batches = cut_batches(trial->speech, trial->seconds, (size_t)trial->batch);
    int64_t *lengths = allocate(batches.batch, sizeof *lengths);
    for (size_t i = 0; i < batches.batch; i++) lengths[i] = (int64_t)batches.samples;
    Queries queries = {0};
    double prepared = now_s();
    Onnxruntime onnxruntime = load_onnxruntime(trial->library);
    double imported = now_s();
    open_queries(&queries, trial, &onnxruntime);
    double loaded = now_s();
    fprintf(answer, "\"start_ms\": %.4f, \"import_ms\": %.4f, \"load_ms\": %.4f", 1e3 * (begun - trial->spawned_s),
            1e3 * (imported - prepared), 1e3 * (loaded - imported));
    write_memory(answer, "loaded_mb", "VmRSS");
    set_inputs(&queries, &batches, lengths);
    double first = query(&queries);
    Times warm = warm_up(&queries), steady = {0};
    double steady_s = steady_state(&queries, trial->steady_s, &steady);
    fprintf(answer, ", \"first_ms\": %.4f, \"steady_s\": %.6f, \"audio_s\": %.6f", 1e3 * first, steady_s,
            (double)steady.count * trial->batch * trial->seconds);
    write_memory(answer, "peak_mb", "VmHWM");
    write_times(answer, "warm_up_ms", &warm);
    write_times(answer, "latencies_ms", &steady);
    close_queries(&queries);
    close_onnxruntime(&onnxruntime);
    free(warm.times);
    free(steady.times);
    free(batches.waveforms);
    free(lengths);
}
