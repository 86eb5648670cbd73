#include "manifest.h"

#include <math.h>
#include <string.h>

#include "fail.h"
#include "sha256.h"

enum { MOST_BYTES = 16 << 20 };

static const JsonValue *member(const JsonValue *object, const char *key, JsonKind kind) {
    const JsonValue *found = json_member(object, key);
    if (!found || found->kind != kind) fail("manifest.json: has no valid '%s'; export again", key);
    return found;
}

/* Copies a short word of printable ASCII. */
static void copy_word(char *to, size_t room, const JsonValue *object, const char *key) {
    const JsonValue *found = member(object, key, JSON_STRING);
    for (size_t i = 0; i < found->length; i++)
        if (found->text[i] < ' ' || found->text[i] > '~' || found->text[i] == '\\' || i + 1 >= room)
            fail("manifest.json: has no valid '%s'; export again", key);
    memcpy(to, found->text, found->length);
}

static double positive(const JsonValue *object, const char *key, double most) {
    double found = member(object, key, JSON_NUMBER)->number;
    if (!(found > 0 && found <= most)) fail("manifest.json: '%s' is %g; export again", key, found);
    return found;
}

/*
 * The stated hash is that of the text without the line that states it. Manifests are written in one
 * canonical form: sorted keys, one per line, indented by one space per level.
 */
static void check_hash(const char *folder, const char *text, const char *stated) {
    char line[96], found[65];
    snprintf(line, sizeof line, "\n \"sha256\": \"%s\",", stated);
    const char *at = strstr(text, line);
    Sha256 hash;
    sha256_begin(&hash);
    sha256_add(&hash, text, at ? (size_t)(at - text) : 0);
    sha256_add(&hash, at ? at + strlen(line) : text, strlen(at ? at + strlen(line) : text));
    sha256_end(&hash, found);
    if (strcmp(found, stated))
        fail("%s/manifest.json: damaged or edited, its content does not have the SHA-256 it states; "
             "export again",
             folder);
}

static double total_bytes(const JsonValue *files) {
    double total = 0;
    for (EACH_WITHIN(file, files)) total += member(file, "size", JSON_NUMBER)->number;
    return total;
}

Manifest read_manifest(const char *folder) {
    char *path = path_in(folder, "manifest.json");
    Manifest manifest = {.folder = folder, .text = read_file(path, MOST_BYTES)};
    const char *text = (const char *)manifest.text.bytes;
    free(path);
    const JsonValue *top = manifest.values = read_json(text, manifest.text.size, "manifest.json");
    double version = positive(top, "format_version", 1e9);
    const JsonValue *shapes = json_member(top, "shapes");
    if (version > 2) fail("manifest.json: format version %g, this program reads 1", version);
    if (version > 1 || (shapes && shapes->span > 1))
        fail("%s: a bundle of fixed shapes; this program takes one exported without --samples", folder);
    copy_word(manifest.sha256, sizeof manifest.sha256, top, "sha256");
    check_hash(folder, text, manifest.sha256);
    copy_word(manifest.precision, sizeof manifest.precision, top, "precision");
    copy_word(manifest.target, sizeof manifest.target, top, "target");
    const JsonValue *config = member(top, "config", JSON_OBJECT);
    if (json_member(config, "architecture"))
        copy_word(manifest.architecture, sizeof manifest.architecture, config, "architecture");
    const JsonValue *input = json_member(top, "quantizer_input");
    manifest.has_quantizer = input && input->kind == JSON_STRING;
    manifest.codes_of_context = input && json_equals(input, "context");
    manifest.sample_rate = (uint32_t)positive(top, "sample_rate", 1e6);
    manifest.min_samples = (uint32_t)positive(top, "min_samples", 1e9);
    manifest.longest_context_s = positive(top, "longest_context_seconds", INFINITY);
    manifest.files = member(top, "files", JSON_OBJECT);
    manifest.graphs = member(top, "graphs", JSON_OBJECT);
    manifest.total_bytes = (double)manifest.text.size + total_bytes(manifest.files);
    return manifest;
}

void free_manifest(Manifest *manifest) {
    free(manifest->values);
    free_file(&manifest->text);
}

void require_quantizer(const Manifest *manifest) {
    if (!manifest->has_quantizer)
        fail("%s: this model has no quantizer, so there are no codes; export one that has",
             manifest->folder);
}
