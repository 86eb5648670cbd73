/* The report of a benchmark, by the schema of w2v-edge: raw figures, without statistics. */
#ifndef W2V_REPORT_H
#define W2V_REPORT_H

#include <time.h>

#include "manifest.h"
#include "options.h"
#include "speech.h"

typedef struct {
    const char *graph;
    double seconds;
    int threads, batch;
    char *trials; /* JSON */
    size_t size;
    FILE *stream;
} Case;

typedef struct {
    time_t created;
    const char *command;
    const Options *options;
    const Manifest *manifest;
    const Speech *speech;
    int rounds;
    const char *device, *samples; /* JSON */
    const Case *cases;
    size_t case_count;
} Report;

/* Exits if no report could be written to this path. */
void check_writable(const char *path);

/* Writes a report to a file that appears only when it is whole. */
void write_report(const Report *report);

#endif
