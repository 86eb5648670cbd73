/* WAV files: 16-bit integers or 32-bit floats, any number of channels. */
#ifndef W2V_WAV_H
#define W2V_WAV_H

#include <stddef.h>
#include <stdint.h>

/* PCM in [-1, 1], channels averaged. */
typedef struct {
    float *samples;
    size_t count;
    uint32_t rate;
} Waveform;

Waveform read_wav(const char *path);

#endif
