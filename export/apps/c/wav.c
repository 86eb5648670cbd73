#include "wav.h"

#include <string.h>

#include "fail.h"
#include "file.h"

enum { PCM = 1, FLOAT = 3, EXTENSIBLE = 0xfffe, MOST_BYTES = 1 << 30 };

/* Returns the content of a chunk; exits if it is missing. */
static const unsigned char *chunk(const File *file, const char *tag, size_t *size, const char *path) {
    for (size_t at = 12; at + 8 <= file->size;) {
        *size = u32(file->bytes + at + 4);
        const unsigned char *content = within(file, at + 8, *size, path);
        if (memcmp(file->bytes + at, tag, 4) == 0) return content;
        at += 8 + *size + *size % 2;
    }
    fail("%s: not readable as WAV, it has no chunk '%s'", path, tag);
}

static float sample(const unsigned char *bytes, int kind) {
    if (kind == PCM) return (float)(int16_t)u16(bytes) / 32768.0f;
    uint32_t bits = u32(bytes);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

Waveform read_wav(const char *path) {
    File file = read_file(path, MOST_BYTES);
    if (file.size < 12 || memcmp(file.bytes, "RIFF", 4) || memcmp(file.bytes + 8, "WAVE", 4))
        fail("%s: not readable as WAV, expected a RIFF file", path);
    size_t size;
    const unsigned char *format = chunk(&file, "fmt ", &size, path);
    if (size < 16) fail("%s: not readable as WAV, its format is cut short", path);
    int kind = u16(format);
    if (kind == EXTENSIBLE && size >= 26) kind = u16(format + 24);
    size_t channels = u16(format + 2), width = u16(format + 14) / 8;
    int known = (kind == PCM && width == 2) || (kind == FLOAT && width == 4);
    if (!known || !channels)
        fail("%s: expected 16-bit integers or 32-bit floats, found format %d with %zu bits", path,
             kind, 8 * width);
    Waveform waveform = {NULL, 0, u32(format + 4)};
    const unsigned char *data = chunk(&file, "data", &size, path);
    waveform.count = size / width / channels;
    waveform.samples = allocate(waveform.count, sizeof *waveform.samples);
    for (size_t i = 0; i < waveform.count; i++) {
        double sum = 0;
        for (size_t c = 0; c < channels; c++) sum += sample(data + (i * channels + c) * width, kind);
        waveform.samples[i] = (float)(sum / (double)channels);
    }
    free_file(&file);
    return waveform;
}
