/* The recording that a benchmark runs on, and its excerpts as batches. */
#ifndef W2V_SPEECH_H
#define W2V_SPEECH_H

#include <stddef.h>
#include <stdint.h>

/* PCM in [-1, 1]. */
typedef struct {
    float *samples;
    size_t count;
    uint32_t rate;
    char sha256[65];
} Speech;

/* Waveforms (count, batch, samples). */
typedef struct {
    float *waveforms;
    size_t count, batch, samples;
} Batches;

/* Reads the first ten minutes of a WAV file of this rate into memory that no process counts before it reads it. */
Speech read_speech(const char *path, uint32_t rate);

/* Cuts excerpts that start evenly over the recording, which repeats where it is too short. */
Batches cut_batches(const Speech *speech, double seconds, size_t batch);

#endif
