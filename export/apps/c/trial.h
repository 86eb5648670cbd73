/* One trial of a case: load, first query, warm-up, steady state, in a process of its own. */
#ifndef W2V_TRIAL_H
#define W2V_TRIAL_H

#include <stdio.h>

#include "speech.h"

typedef struct {
    const char *bundle, *library, *graph;
    const Speech *speech;
    double seconds; /* of audio in an utterance */
    int threads;
    int batch;
    double steady_s;
    double spawned_s; /* when the process was started, by now_s */
} Trial;

/* Seconds of a clock that all processes share. */
double now_s(void);

/* Measures a `Trial`, and writes the fields of a trial in the report that its process knows. */
void run_trial(const void *trial, FILE *answer);

#endif
