#include "verify.h"

#include <math.h>
#include <string.h>

#include "fail.h"
#include "manifest.h"
#include "npz.h"
#include "tokenizer.h"

enum { MOST_BYTES = 1 << 30 };

/* The two highest logits tie if they are closer than this, in standard deviations of all logits. */
static const float TIE_MARGIN = 1e-4f;

/* Returns the share of codes that may differ, from `bars` (the tolerances) in golden.npz. */
static double allowed_drift(const char *bars, const char *precision) {
    char key[32];
    snprintf(key, sizeof key, "\"%s\": {", precision);
    const char *own = strstr(bars, key);
    if (!own) fail("golden.npz: has no tolerances for %s; export again", precision);
    const char *drift = strstr(own, "\"code_drift\": ");
    return drift && drift < strchr(own, '}') ? strtod(drift + 14, NULL) : 0.0;
}

typedef struct {
    size_t compared, ties, wrong;
    int zero_past_end;
} CodeAgreement;

static CodeAgreement compare(const Codes *found, const int64_t *expected, const float *margins,
                     const int64_t *lengths, int exact) {
    CodeAgreement agreement = {.zero_past_end = 1};
    for (size_t b = 0; b < found->batch; b++)
        for (size_t n = 0; n < found->frames; n++)
            for (size_t g = 0; g < found->groups; g++) {
                size_t i = (b * found->frames + n) * found->groups + g;
                if ((int64_t)n >= lengths[b]) {
                    agreement.zero_past_end &= found->codes[i] == 0;
                    continue;
                }
                agreement.compared++;
                if (found->codes[i] == expected[i]) continue;
                if (exact && margins[i] < TIE_MARGIN)
                    agreement.ties++;
                else
                    agreement.wrong++;
            }
    return agreement;
}

int verify(const char *bundle) {
    Manifest manifest = read_manifest(bundle);
    require_quantizer(&manifest);
    char *path = path_in(bundle, "golden.npz");
    File npz = read_file(path, MOST_BYTES);
    free(path);
    Array waveforms = read_array(&npz, "waveform", "<f4");
    Array samples = read_array(&npz, "lengths", "<i8");
    Array expected = read_array(&npz, "codes", "<i8");
    Array margins = read_array(&npz, "margins", "<f4");
    Array lengths = read_array(&npz, manifest.codes_of_context ? "context_lengths" : "frame_lengths", "<i8");
    Array bars = read_array(&npz, "bars", "<U");
    size_t batch = waveforms.shape[0];
    if (waveforms.axes != 2 || expected.axes != 3 || samples.count != batch ||
        lengths.count != batch || margins.count != expected.count)
        fail("golden.npz: its arrays have inconsistent shapes; export again");

    Tokenizer *tokenizer = open_tokenizer(&manifest);
    Codes found = tokenize(tokenizer, waveforms.data, samples.data, batch, waveforms.shape[1]);
    close_tokenizer(tokenizer);
    if (found.batch != expected.shape[0] || found.frames != expected.shape[1] ||
        found.groups != expected.shape[2])
        fail("%s: codes of another shape than the golden ones; export again", bundle);

    char *text = array_text(&bars);
    double drift = allowed_drift(text, manifest.precision);
    CodeAgreement agreement = compare(&found, expected.data, margins.data, lengths.data, drift == 0.0);
    int same_lengths = !memcmp(found.lengths, lengths.data, batch * sizeof *found.lengths);
    size_t allowed = (size_t)ceil(drift * (double)agreement.compared);
    int ok = same_lengths && agreement.zero_past_end && agreement.wrong <= allowed;
    printf("%s: %zu codes, %zu differ (allowed %zu), %zu ties, lengths %s: %s\n", bundle, agreement.compared,
           agreement.wrong, allowed, agreement.ties, same_lengths ? "equal" : "differ",
           ok ? "verified" : "DIFFERS");

    Array *arrays[] = {&waveforms, &samples, &expected, &margins, &lengths, &bars};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) free_file(&arrays[i]->memory);
    free(text);
    free(found.codes);
    free(found.lengths);
    free_file(&npz);
    free_manifest(&manifest);
    return ok ? 0 : 3;
}
