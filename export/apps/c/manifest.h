/*
 * Reads the fields of manifest.json that this program uses.
 *
 * A manifest is written in one canonical form: sorted keys, one per line, indented by one space per
 * level. Top-level keys can be read line by line, without a JSON parser.
 */
#ifndef W2V_MANIFEST_H
#define W2V_MANIFEST_H

#include <stdint.h>

typedef struct {
    char precision[16];
    int codes_of_context; /* codes are quantized context, not features */
    uint32_t sample_rate;
    uint32_t min_samples;
} Manifest;

Manifest read_manifest(const char *bundle);

#endif
