#include "report.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fail.h"
#include "json.h"

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* The name of a bundle is that of its folder. */
static void write_bundle_name(FILE *stream, const char *folder) {
    char *real = realpath(folder, NULL);
    write_json_string(stream, base_name(real ? real : folder));
    free(real);
}

static void write_inputs(FILE *stream, const Report *report) {
    const Manifest *manifest = report->manifest;
    const Speech *speech = report->speech;
    const Options *options = report->options;
    fputs(",\n\"bundles\": [{\"name\": ", stream);
    write_bundle_name(stream, manifest->folder);
    fprintf(stream, ", \"sha256\": \"%s\", \"model\": ", manifest->sha256);
    write_json_string(stream, manifest->architecture);
    fputs(", \"precision\": ", stream);
    write_json_string(stream, manifest->precision);
    fputs(", \"target\": ", stream);
    write_json_string(stream, manifest->target);
    fprintf(stream, ", \"size_mb\": %.3f}],\n\"audio\": {\"source\": ", manifest->total_bytes / 1e6);
    write_json_string(stream, base_name(options->audio));
    fprintf(stream, ", \"recordings\": 1, \"seconds\": %.3f, \"sha256\": \"%s\"}",
            (double)speech->count / speech->rate, speech->sha256);
    fprintf(stream,
            ",\n\"settings\": {\"rounds\": %d, \"steady_s\": %.17g, \"precision\": 0, \"time_s\": %.17g, "
            "\"confidence\": 0.95, \"seed\": 0}",
            report->rounds, options->steady_s, options->time_s);
}

static void write_case(FILE *stream, const Report *report, const Case *one) {
    fputs("{\"case\": {\"bundle\": ", stream);
    write_bundle_name(stream, report->manifest->folder);
    fprintf(stream,
            ", \"graph\": \"%s\", \"provider\": \"cpu\", \"provider_options\": {}, \"threads\": %d, "
            "\"power\": \"high\", \"seconds\": %.17g, \"batch\": %d, \"scenario\": \"single\"},\n"
            "\"summary\": null, \"trials\": [%s]}",
            one->graph, one->threads, one->seconds, one->batch, one->trials);
}

static void write_all(FILE *stream, const Report *report) {
    char created[32];
    struct tm utc;
    gmtime_r(&report->created, &utc);
    strftime(created, sizeof created, "%Y-%m-%dT%H:%M:%S+00:00", &utc);
    fprintf(stream, "{\"format\": \"w2v-edge-latency\", \"version\": 2, \"created\": \"%s\", \"command\": ", created);
    write_json_string(stream, report->command);
    fprintf(stream, ",\n\"device\": %s", report->device);
    write_inputs(stream, report);
    fprintf(stream, ",\n\"conditions\": {\"samples\": [%s], \"disturbances\": []},\n\"cases\": [", report->samples);
    for (size_t i = 0; i < report->case_count; i++) {
        fputs(i ? ",\n" : "\n", stream);
        write_case(stream, report, &report->cases[i]);
    }
    fputs("]}\n", stream);
}

static char *folder_of(const char *path) {
    const char *slash = strrchr(path, '/');
    if (!slash) return strdup(".");
    return strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

void check_writable(const char *path) {
    struct stat status;
    char *folder = folder_of(path);
    if (!stat(path, &status) && S_ISDIR(status.st_mode)) fail("%s: a folder, expected a file", path);
    if (access(folder, W_OK | X_OK)) fail("%s: cannot be written (%s)", path, strerror(errno));
    free(folder);
}

void write_report(const Report *report) {
    const char *path = report->options->report;
    size_t size = strlen(path) + 32;
    char *temporary = allocate(size, 1);
    snprintf(temporary, size, "%s.%ld.part", path, (long)getpid());
    FILE *stream = fopen(temporary, "wx");
    if (!stream) fail("%s: cannot be written (%s)", path, strerror(errno));
    write_all(stream, report);
    int failed = ferror(stream) || fflush(stream) || fsync(fileno(stream)), code = errno;
    if (fclose(stream) || failed || rename(temporary, path)) {
        if (!failed) code = errno;
        unlink(temporary);
        fail("%s: cannot be written (%s)", path, strerror(code));
    }
    free(temporary);
}
