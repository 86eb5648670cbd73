/* The command line of w2v-edge-bench. */
#ifndef W2V_OPTIONS_H
#define W2V_OPTIONS_H

#include <stddef.h>

enum { MAX_LISTED = 16 };

typedef struct {
    const char *bundle, *audio, *report, *library;
    const char *graphs[2];
    double seconds[MAX_LISTED], threads[MAX_LISTED], batches[MAX_LISTED];
    size_t graph_count, seconds_count, threads_count, batch_count; /* 0: not given */
    double steady_s, time_s;
    double rounds; /* 0: as many as fit into the time */
} Options;

/* Exits with code 2 if an option is unknown, with code 1 if a value is out of its range. */
Options read_options(int count, char **arguments);

#endif
