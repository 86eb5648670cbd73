/*
 * w2v-codes tokenize BUNDLE FILE.wav   prints the codes as JSON, an array of groups per frame
 * w2v-codes verify BUNDLE              compares with the golden codes; exit code 3 if they differ
 */
#include <inttypes.h>
#include <string.h>

#include "fail.h"
#include "manifest.h"
#include "tokenizer.h"
#include "verify.h"
#include "wav.h"

static void print_codes(const Codes *codes) {
    putchar('[');
    for (size_t n = 0; n < codes->frames; n++) {
        for (size_t g = 0; g < codes->groups; g++)
            printf("%s%" PRId64, g ? "," : n ? ",[" : "[", codes->codes[n * codes->groups + g]);
        putchar(']');
    }
    puts("]");
}

static int print_codes_of(const char *bundle, const char *path) {
    Manifest manifest = read_manifest(bundle);
    require_quantizer(&manifest);
    Waveform waveform = read_wav(path);
    if (waveform.rate != manifest.sample_rate)
        fail("%s: found %u Hz, the model takes %u Hz; resample it", path, waveform.rate,
             manifest.sample_rate);
    if (waveform.count < manifest.min_samples)
        fail("%s: too short, found %zu samples, expected at least %u", path, waveform.count,
             manifest.min_samples);
    Tokenizer *tokenizer = open_tokenizer(&manifest);
    const int64_t length = (int64_t)waveform.count;
    Codes codes = tokenize(tokenizer, waveform.samples, &length, 1, waveform.count);
    print_codes(&codes);
    close_tokenizer(tokenizer);
    free(codes.codes);
    free(codes.lengths);
    free(waveform.samples);
    free_manifest(&manifest);
    return 0;
}

int main(int count, char **arguments) {
    if (count == 4 && !strcmp(arguments[1], "tokenize"))
        return print_codes_of(arguments[2], arguments[3]);
    if (count == 3 && !strcmp(arguments[1], "verify")) return verify(arguments[2]);
    fprintf(stderr, "usage: w2v-codes tokenize BUNDLE FILE.wav | w2v-codes verify BUNDLE\n");
    return 2;
}
