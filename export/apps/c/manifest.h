/*
 * What this program needs of manifest.json.
 *
 * A manifest is written in one canonical form: sorted keys, one to a line, indented by one space for
 * each level. Keys of the top level can be read line by line, with no parser.
 */
#ifndef W2V_MANIFEST_H
#define W2V_MANIFEST_H

#include <stdint.h>

typedef struct {
    char precision[16];
    int codes_of_context; /* made from the context, not from the features */
    uint32_t sample_rate;
    uint32_t min_samples;
} Manifest;

Manifest read_manifest(const char *bundle);

#endif
