#include "manifest.h"

#include <string.h>

#include "fail.h"
#include "file.h"

static const char *value_of(const char *text, const char *key) {
    char line[64];
    snprintf(line, sizeof line, "\n \"%s\": ", key);
    const char *found = strstr(text, line);
    if (!found) fail("manifest.json: has no '%s'; export again", key);
    return found + strlen(line);
}

static uint32_t number(const char *text, const char *key) {
    return (uint32_t)strtoul(value_of(text, key), NULL, 10);
}

Manifest read_manifest(const char *bundle) {
    File file = read_file(bundle, "manifest.json");
    const char *text = (const char *)file.bytes;
    if (number(text, "format_version") != 1)
        fail("manifest.json: format version %u, this program reads 1", number(text, "format_version"));
    if (!strncmp(value_of(text, "quantizer_input"), "null", 4))
        fail("%s: this model has no quantizer, so there are no codes; export one that has", bundle);
    Manifest manifest = {
        .codes_of_context = !strncmp(value_of(text, "quantizer_input"), "\"context\"", 9),
        .sample_rate = number(text, "sample_rate"),
        .min_samples = number(text, "min_samples"),
    };
    sscanf(value_of(text, "precision"), "\"%15[a-z0-9]\"", manifest.precision);
    free_file(&file);
    return manifest;
}
