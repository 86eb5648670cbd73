#include "speech.h"

#include <math.h>
#include <string.h>
#include <sys/mman.h>

#include "fail.h"
#include "file.h"
#include "sha256.h"
#include "wav.h"

/* Those of w2v_edge/latency/measure/inputs.py. */
static const double MAX_RECORDED_S = 600, EXCERPTS_S = 32;
static const size_t EXCERPTS = 8;

Speech read_speech(const char *path, uint32_t rate) {
    Waveform waveform = read_wav(path);
    if (waveform.rate != rate)
        fail("%s: found %u Hz, the model takes %u Hz; resample it", path, waveform.rate, rate);
    if (!waveform.count) fail("%s: found 0 samples of audio, expected speech to run on", path);
    Speech speech = {.count = waveform.count, .rate = rate};
    size_t most = (size_t)(MAX_RECORDED_S * rate);
    if (speech.count > most) speech.count = most;
    size_t bytes = speech.count * sizeof *speech.samples;
    /* Shared memory: a new process does not have it in its own until it reads it. */
    speech.samples = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (speech.samples == MAP_FAILED) fail("no memory for %zu bytes of audio", bytes);
    memcpy(speech.samples, waveform.samples, bytes);
    free(waveform.samples);
    Sha256 hash;
    sha256_begin(&hash);
    sha256_add(&hash, speech.samples, bytes);
    sha256_end(&hash, speech.sha256);
    return speech;
}

Batches cut_batches(const Speech *speech, double seconds, size_t batch) {
    size_t excerpts = (size_t)(EXCERPTS_S / seconds);
    if (excerpts > EXCERPTS) excerpts = EXCERPTS;
    if (excerpts < batch) excerpts = batch;
    if (!excerpts) excerpts = 1;
    Batches made = {.count = excerpts / batch, .batch = batch};
    made.samples = (size_t)fmax(1, nearbyint(seconds * speech->rate));
    made.waveforms = allocate(made.count * batch * made.samples, sizeof *made.waveforms);
    for (size_t row = 0; row < made.count * batch; row++) {
        size_t start = (size_t)((double)row * ((double)speech->count / (double)excerpts));
        for (size_t i = 0; i < made.samples; i++)
            made.waveforms[row * made.samples + i] = speech->samples[(start + i) % speech->count];
    }
    return made;
}
