#include "bundle.h"

#include <string.h>

#include "fail.h"
#include "graph.h"
#include "sha256.h"

enum { MOST_GRAPH_BYTES = 16 << 20, BLOCK = 1 << 16 };

static const double MOST_BYTES = 1e12;

/* Exits if a file is a link out of the bundle's folder; the folder itself may be a link. */
static void check_inside(const char *folder, const char *path) {
    char *real = realpath(path, NULL), *inside = realpath(folder, NULL);
    if (!real || !inside) fail("%s: missing; copy the whole bundle or export again", path);
    char *slash = strrchr(real, '/');
    size_t length = slash == real ? 1 : (size_t)(slash - real);
    if (strlen(inside) != length || strncmp(inside, real, length))
        fail("%s: a link out of the bundle's folder, which is not allowed", path);
    free(real);
    free(inside);
}

/* Returns a file's size, after checking size and hash. */
static uint64_t check_file(const Manifest *manifest, const char *name) {
    char *path = path_in(manifest->folder, name);
    const JsonValue *expected = json_member(manifest->files, name);
    const JsonValue *size = expected ? json_member(expected, "size") : NULL;
    const JsonValue *sha256 = expected ? json_member(expected, "sha256") : NULL;
    if (!size || !sha256 || !(size->number >= 0 && size->number <= MOST_BYTES))
        fail("%s: not in the manifest; export again", path);
    check_inside(manifest->folder, path);
    size_t found;
    FILE *stream = open_file(path, &found);
    if ((double)found != size->number)
        fail("%s: damaged, found %zu bytes, expected %.0f; copy it again or export again", path, found,
             size->number);
    Sha256 hash;
    char hex[65];
    unsigned char *block = allocate(BLOCK, 1);
    sha256_begin(&hash);
    for (size_t count; (count = fread(block, 1, BLOCK, stream));) sha256_add(&hash, block, count);
    sha256_end(&hash, hex);
    if (ferror(stream)) fail("%s: cannot be read whole", path);
    if (!json_equals(sha256, hex))
        fail("%s: damaged or changed, its SHA-256 differs from the manifest; copy it again or export again",
             path);
    fclose(stream);
    free(block);
    free(path);
    return found;
}

static int is_plain_name(const JsonValue *name) {
    if (name->kind != JSON_STRING || !name->length || name->length >= 64 || *name->text == '.') return 0;
    for (size_t i = 0; i < name->length; i++)
        if (!memchr("abcdefghijklmnopqrstuvwxyz0123456789._-", name->text[i], 39)) return 0;
    return 1;
}

static DataFiles check_data(const Manifest *manifest, const JsonValue *graph) {
    DataFiles data = {0};
    const JsonValue *names = json_member(graph, "data");
    if (!names || names->kind != JSON_ARRAY) fail("manifest.json: has no valid 'data'; export again");
    for (EACH_WITHIN(name, names)) {
        if (!is_plain_name(name) || data.count == MAX_DATA_FILES)
            fail("manifest.json: names a file no bundle has: '%.*s'", name->length < 80 ? (int)name->length : 80,
                 name->text ? name->text : "");
        memcpy(data.names[data.count], name->text, name->length);
        data.sizes[data.count] = check_file(manifest, data.names[data.count]);
        data.count++;
    }
    return data;
}

char *checked_graph(const Manifest *manifest, const char *name) {
    char file_name[64];
    const JsonValue *graph = json_member(manifest->graphs, name);
    if (!graph) fail("%s: no graph '%s'", manifest->folder, name);
    snprintf(file_name, sizeof file_name, "%s.onnx", name);
    DataFiles data = check_data(manifest, graph);
    check_file(manifest, file_name);
    char *path = path_in(manifest->folder, file_name);
    File bytes = read_file(path, MOST_GRAPH_BYTES);
    check_graph(&bytes, &data, path);
    free_file(&bytes);
    return path;
}
