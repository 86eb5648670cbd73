/*
 * w2v-edge-bench BUNDLE --audio FILE.wav --report FILE.json
 *
 * The measurements of `w2v-edge bench`, scenario single, on the CPU, for devices without Python. Rounds of
 * one trial per case, in shuffled order, each in a process of its own.
 */
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "child.h"
#include "device.h"
#include "fail.h"
#include "json.h"
#include "report.h"
#include "trial.h"
#include "watch.h"

enum { MIN_ROUNDS = 5, MAX_CASES = 2 * MAX_LISTED * MAX_LISTED * MAX_LISTED };

static const double MAX_S = 3600;
static const double MAX_BATCH_S = 4 * 3600;

typedef struct {
    const Options *options;
    const Machine *machine;
} DeviceTask;

static void describe_device(const void *task, FILE *answer) {
    const DeviceTask *what = task;
    Onnxruntime onnxruntime = load_onnxruntime(what->options->library);
    write_device(answer, what->machine, &onnxruntime);
    close_onnxruntime(&onnxruntime);
}

static void check_case(const Manifest *manifest, const Machine *machine, const Case *one) {
    double shortest = (double)manifest->min_samples / manifest->sample_rate;
    double longest = strcmp(one->graph, "encoder") ? MAX_S : fmin(MAX_S, manifest->longest_context_s);
    if (!json_member(manifest->graphs, one->graph)) fail("%s: has no graph '%s'", manifest->folder, one->graph);
    if (one->seconds < shortest || one->seconds > longest)
        fail("%s: found %g s of audio for '%s', expected %g to %g s", manifest->folder, one->seconds, one->graph,
             shortest, longest);
    if (one->threads > machine->usable)
        fail("found %d threads, expected at most %d, the number of usable cores", one->threads, machine->usable);
    if (one->batch * one->seconds > MAX_BATCH_S)
        fail("found batches of %d times %g s, expected at most %g s of audio in a batch", one->batch, one->seconds,
             MAX_BATCH_S);
}

/* Fills in what was not asked for. */
static void complete(Options *options, const Manifest *manifest, const Machine *machine) {
    if (!options->graph_count) {
        options->graphs[options->graph_count++] = "encoder";
        if (json_member(manifest->graphs, "tokenizer")) options->graphs[options->graph_count++] = "tokenizer";
    }
    if (!options->threads_count) options->threads[options->threads_count++] = machine->threads;
}

static size_t make_cases(const Options *o, const Manifest *manifest, const Machine *machine, Case *cases) {
    size_t count = 0;
    for (size_t s = 0; s < o->seconds_count; s++)
        for (size_t b = 0; b < o->batch_count; b++)
            for (size_t t = 0; t < o->threads_count; t++)
                for (size_t g = 0; g < o->graph_count; g++) {
                    Case one = {o->graphs[g], o->seconds[s], (int)o->threads[t], (int)o->batches[b], NULL, 0, NULL};
                    check_case(manifest, machine, &one);
                    cases[count] = one;
                    cases[count].stream = open_memstream(&cases[count].trials, &cases[count].size);
                    if (!cases[count].stream) fail("no memory for %zu cases", count);
                    count++;
                }
    return count;
}

static void shuffle(size_t *order, size_t count) {
    static uint64_t state = 0x9e3779b97f4a7c15u;
    for (size_t i = count; i > 1; i--) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        size_t other = (size_t)(state % i), last = order[i - 1];
        order[i - 1] = order[other];
        order[other] = last;
    }
}

static void measure(const Options *options, const Speech *speech, Case *one, double zero, Watch *watch) {
    Trial trial = {options->bundle, options->library, one->graph, speech, one->seconds, one->threads, one->batch,
                   options->steady_s, now_s()};
    char *figures = run_child(run_trial, &trial);
    double end = now_s() - zero;
    fprintf(one->stream, "%s\n{\"begin_s\": %.4f, \"end_s\": %.4f, %s}", ftell(one->stream) ? "," : "",
            trial.spawned_s - zero, end, figures);
    free(figures);
    take_sample(watch, end);
}

/* Returns the number of rounds. */
static int run_rounds(const Options *options, const Speech *speech, Case *cases, size_t count, Watch *watch) {
    size_t order[MAX_CASES];
    double zero = now_s();
    int done = 0;
    for (size_t i = 0; i < count; i++) order[i] = i;
    for (double spent = 0; options->rounds ? done < options->rounds
                                           : done < MIN_ROUNDS || spent + spent / done <= options->time_s;
         spent = now_s() - zero) {
        shuffle(order, count);
        for (size_t i = 0; i < count; i++) {
            if (isatty(STDERR_FILENO)) fprintf(stderr, "\rround %d, case %zu of %zu ", done + 1, i + 1, count);
            measure(options, speech, &cases[order[i]], zero, watch);
        }
        done++;
    }
    if (isatty(STDERR_FILENO)) fputs("\r\033[K", stderr);
    return done;
}

static int by_value(const void *a, const void *b) {
    double one = *(const double *)a, other = *(const double *)b;
    return (one > other) - (one < other);
}

/* Prints nearest ranks over the queries of all trials, and medians over trials. */
static void print_case(const Case *one) {
    char *text = allocate(one->size + 3, 1);
    snprintf(text, one->size + 3, "[%s]", one->trials);
    JsonValue *trials = read_json(text, one->size + 2, "the figures");
    double *queries = allocate(trials->span, sizeof *queries), first[10000], peak = 0;
    size_t count = 0, processes = 0;
    for (EACH_WITHIN(trial, trials)) {
        const JsonValue *latencies = json_member(trial, "latencies_ms"), *peak_mb = json_member(trial, "peak_mb");
        for (EACH_WITHIN(latency, latencies)) queries[count++] = latency->number;
        if (processes < 10000) first[processes++] = json_member(trial, "first_ms")->number;
        if (peak_mb && peak_mb->number > peak) peak = peak_mb->number;
    }
    qsort(queries, count, sizeof *queries, by_value);
    qsort(first, processes, sizeof *first, by_value);
    printf("%-9s %7g s %3d threads, batch %d: p50 %.3f ms, p90 %.3f ms, first %.3f ms, peak %.1f MB\n", one->graph,
           one->seconds, one->threads, one->batch, queries[(count + 1) / 2 - 1], queries[(9 * count + 9) / 10 - 1],
           first[(processes - 1) / 2], peak);
    free(queries);
    free(trials);
    free(text);
}

/* Joins the arguments, which reading the options reorders and cuts. */
static char *command_line(int count, char **arguments) {
    char *text;
    size_t size;
    FILE *joined = open_memstream(&text, &size);
    fputs("w2v-edge-bench", joined);
    for (int i = 1; i < count; i++) fprintf(joined, " %s", arguments[i]);
    if (fclose(joined)) fail("no memory for the command line");
    return text;
}

int main(int count, char **arguments) {
    static Case cases[MAX_CASES];
    time_t created = time(NULL);
    char *command = command_line(count, arguments);
    Options options = read_options(count, arguments);
    check_writable(options.report);
    Machine machine = read_machine();
    Manifest manifest = read_manifest(options.bundle);
    complete(&options, &manifest, &machine);
    size_t case_count = make_cases(&options, &manifest, &machine, cases);
    Speech speech = read_speech(options.audio, manifest.sample_rate);
    DeviceTask task = {&options, &machine};
    char *device = run_child(describe_device, &task);
    Watch watch;
    begin_watch(&watch, &machine);
    int rounds = run_rounds(&options, &speech, cases, case_count, &watch);
    for (size_t i = 0; i < case_count; i++)
        if (fclose(cases[i].stream)) fail("no memory for the figures");
    char *samples = end_watch(&watch);
    write_report(&(Report){created, command, &options, &manifest, &speech, rounds, device, samples, cases,
                           case_count});
    for (size_t i = 0; i < case_count; i++) print_case(&cases[i]);
    for (size_t i = 0; i < case_count; i++) free(cases[i].trials);
    free(samples);
    free(device);
    free(command);
    free_manifest(&manifest);
    return 0;
}
