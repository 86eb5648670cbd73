/* Reads manifest.json, and checks it against the SHA-256 that it states of itself. */
#ifndef W2V_MANIFEST_H
#define W2V_MANIFEST_H

#include <stdint.h>

#include "file.h"
#include "json.h"

typedef struct {
    const char *folder;
    char sha256[65];
    char precision[16];
    char target[32];
    char architecture[64];
    int has_quantizer;
    int codes_of_context; /* codes are quantized context, not features */
    uint32_t sample_rate;
    uint32_t min_samples;
    double longest_context_s;
    double total_bytes; /* of the manifest and all files */
    const JsonValue *files;
    const JsonValue *graphs;
    File text;
    JsonValue *values;
} Manifest;

/* `folder` must outlive the manifest; exits if it is no bundle of open axes. */
Manifest read_manifest(const char *folder);
void free_manifest(Manifest *manifest);

/* Exits if there are no codes. */
void require_quantizer(const Manifest *manifest);

#endif
