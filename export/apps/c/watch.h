/* What else the machine does during a benchmark: samples between trials, as the report has them. */
#ifndef W2V_WATCH_H
#define W2V_WATCH_H

#include <stdio.h>

#include "machine.h"

typedef struct {
    const Machine *machine;
    double at_s, busy_s, steal_s, total_s, own_s; /* of the last sample */
    char *samples;                                /* their JSON */
    size_t size;
    FILE *stream;
} Watch;

/* A machine that counts no CPU time has no samples: nothing is known of it. */
void begin_watch(Watch *watch, const Machine *machine);

/* Takes a sample, `at_s` seconds after the benchmark began. */
void take_sample(Watch *watch, double at_s);

/* Returns all samples as JSON; the caller frees them. */
char *end_watch(Watch *watch);

#endif
