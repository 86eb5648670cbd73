#include "graph.h"

#include <string.h>

#include "fail.h"

enum { MAX_DEPTH = 32, VALUES_PER_BYTE = 4 /* the narrowest element type has 2 bits */ };
enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

typedef enum { MODEL, TRAINING, FUNCTION, GRAPH, NODE, ATTRIBUTE, SPARSE, TENSOR } Kind;

/* Which fields of a message hold messages with tensors in them; some may not be repeated. */
static const struct {
    Kind kind;
    unsigned number;
    Kind inside;
    int once;
} INSIDE[] = {
    {MODEL, 7, GRAPH, 1},       {MODEL, 20, TRAINING, 0},   {MODEL, 25, FUNCTION, 0},
    {TRAINING, 1, GRAPH, 1},    {TRAINING, 2, GRAPH, 1},    {FUNCTION, 7, NODE, 0},
    {FUNCTION, 11, ATTRIBUTE, 0}, {GRAPH, 1, NODE, 0},      {GRAPH, 5, TENSOR, 0},
    {GRAPH, 15, SPARSE, 0},     {NODE, 5, ATTRIBUTE, 0},    {ATTRIBUTE, 5, TENSOR, 1},
    {ATTRIBUTE, 6, GRAPH, 1},   {ATTRIBUTE, 10, TENSOR, 0}, {ATTRIBUTE, 11, GRAPH, 0},
    {ATTRIBUTE, 22, SPARSE, 1}, {ATTRIBUTE, 23, SPARSE, 0}, {SPARSE, 1, TENSOR, 1},
    {SPARSE, 2, TENSOR, 1},
};

typedef struct {
    const unsigned char *at, *end;
} Span;

typedef struct {
    uint64_t number;
    unsigned kind;
    uint64_t value; /* of an integer */
    Span bytes;     /* of any other kind */
} Field;

typedef struct {
    const DataFiles *files;
    const char *path;
} Check;

static void refuse(const Check *check, const char *why) {
    fail("%s: %s; do not use this bundle", check->path, why);
}

static uint64_t varint(const Check *check, Span *from) {
    uint64_t found = 0;
    for (unsigned i = 0; i < 10 && from->at < from->end; i++) {
        unsigned char byte = *from->at++;
        if (i == 9 && byte > 1) break;
        found |= (uint64_t)(byte & 0x7f) << 7 * i;
        if (byte < 0x80) return found;
    }
    refuse(check, "not a graph, an integer is damaged");
    return 0;
}

/* Takes the next field of a message; returns 0 at its end. */
static int next_field(const Check *check, Span *from, Field *field) {
    if (from->at == from->end) return 0;
    uint64_t key = varint(check, from), length = 0;
    *field = (Field){.number = key >> 3, .kind = (unsigned)(key & 7)};
    if (!field->number || key > UINT32_MAX) refuse(check, "not a graph, a field is damaged");
    if (field->kind == VARINT) {
        field->value = varint(check, from);
        return 1;
    }
    if (field->kind == BYTES)
        length = varint(check, from);
    else if (field->kind == FIXED32 || field->kind == FIXED64)
        length = field->kind == FIXED32 ? 4 : 8;
    else
        refuse(check, "not a graph, a field is damaged");
    if (length > (uint64_t)(from->end - from->at)) refuse(check, "not a graph, it ends early");
    field->bytes = (Span){from->at, from->at + length};
    from->at += length;
    return 1;
}

/* Copies the only text of a field with this number. */
static void copy_text(const Check *check, Span message, unsigned number, char *to, size_t room) {
    Field field;
    int found = 0;
    while (next_field(check, &message, &field)) {
        if (field.number != number || field.kind != BYTES) continue;
        size_t length = (size_t)(field.bytes.end - field.bytes.at);
        if (found++ || length >= room || memchr(field.bytes.at, 0, length))
            refuse(check, "a tensor's location is damaged");
        memcpy(to, field.bytes.at, length);
        to[length] = 0;
    }
    if (!found) refuse(check, "a tensor's location is damaged");
}

static uint64_t whole(const Check *check, const char *digits) {
    size_t length = strlen(digits);
    if (!length || length > 18 || strspn(digits, "0123456789") != length)
        refuse(check, "a tensor's location is damaged");
    return strtoull(digits, NULL, 10);
}

typedef struct {
    char location[64], offset[64], length[64];
    int used;
} External;

static void add_external(const Check *check, External *external, Span entry) {
    char key[64], value[64];
    copy_text(check, entry, 1, key, sizeof key);
    copy_text(check, entry, 2, value, sizeof value);
    external->used = 1;
    char *to = !strcmp(key, "location") ? external->location
               : !strcmp(key, "offset") ? external->offset
               : !strcmp(key, "length") ? external->length
                                        : NULL;
    if (to && *to) refuse(check, "a tensor has two locations of its data");
    if (to) strcpy(to, value);
}

/* Returns the bytes that a tensor uses of a data file. */
static uint64_t external_bytes(const Check *check, const External *external) {
    for (size_t i = 0; i < check->files->count; i++) {
        if (strcmp(check->files->names[i], external->location)) continue;
        uint64_t size = check->files->sizes[i];
        uint64_t offset = *external->offset ? whole(check, external->offset) : 0;
        if (offset > size) refuse(check, "a tensor lies beyond the end of its file");
        uint64_t length = *external->length ? whole(check, external->length) : size - offset;
        if (length > size - offset) refuse(check, "a tensor lies beyond the end of its file");
        return length;
    }
    fail("%s: reads the file '%.40s', which the manifest does not give it; do not use this bundle",
         check->path, external->location);
}

static uint64_t product(uint64_t a, uint64_t b) { return b && a > UINT64_MAX / b ? UINT64_MAX : a * b; }

static void check_tensor(const Check *check, Span tensor) {
    Field field;
    External external = {0};
    uint64_t elements = 1, stored = 0;
    while (next_field(check, &tensor, &field)) {
        int is_data = field.number >= 4 && field.number <= 11 && field.number != 8;
        if (field.number == 1 && field.kind == VARINT)
            elements = product(elements, field.value);
        else if (field.number == 1)
            while (field.bytes.at < field.bytes.end) elements = product(elements, varint(check, &field.bytes));
        else if (field.number == 13 && field.kind == BYTES)
            add_external(check, &external, field.bytes);
        else if (is_data)
            stored += field.kind == VARINT ? 1 : (uint64_t)(field.bytes.end - field.bytes.at);
    }
    if (external.used) stored += external_bytes(check, &external);
    if (elements > VALUES_PER_BYTE * stored) refuse(check, "a tensor is larger than its data");
}

static void check_message(const Check *check, Span message, Kind kind, int depth) {
    Field field;
    uint32_t seen = 0;
    if (depth > MAX_DEPTH) refuse(check, "its graphs are nested too deeply");
    while (next_field(check, &message, &field)) {
        for (size_t i = 0; i < sizeof INSIDE / sizeof *INSIDE; i++) {
            if (INSIDE[i].kind != kind || INSIDE[i].number != field.number || field.kind != BYTES) continue;
            if (INSIDE[i].once && seen >> field.number & 1) refuse(check, "a field has two values");
            seen |= 1u << field.number;
            if (INSIDE[i].inside == TENSOR)
                check_tensor(check, field.bytes);
            else
                check_message(check, field.bytes, INSIDE[i].inside, depth + (INSIDE[i].inside == GRAPH));
        }
    }
}

void check_graph(const File *graph, const DataFiles *files, const char *path) {
    Check check = {files, path};
    check_message(&check, (Span){graph->bytes, graph->bytes + graph->size}, MODEL, 0);
}
