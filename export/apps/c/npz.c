#include "npz.h"

#include <string.h>
#include <zlib.h>

#include "fail.h"

static const char *const NPZ = "golden.npz";

enum {
    END_OF_DIRECTORY = 0x06054b50,
    DIRECTORY_ENTRY = 0x02014b50,
    LARGEST_MEMBER = 1 << 30,
};

/* Inflates a member of known sizes; anything left over or missing is damage. */
static File unpack(const unsigned char *packed, size_t packed_size, size_t size, int method) {
    if (size > LARGEST_MEMBER) fail("%s: damaged, a member claims %zu bytes", NPZ, size);
    File member = {allocate(size + 1, 1), size};
    if (method == 0 && packed_size == size) {
        memcpy(member.bytes, packed, size);
        return member;
    }
    z_stream stream = {0};
    stream.next_in = (unsigned char *)packed;
    stream.avail_in = (uInt)packed_size;
    stream.next_out = member.bytes;
    stream.avail_out = (uInt)size;
    int ok = method == 8 && inflateInit2(&stream, -MAX_WBITS) == Z_OK;
    ok = ok && inflate(&stream, Z_FINISH) == Z_STREAM_END && stream.total_out == size;
    inflateEnd(&stream);
    if (!ok) fail("%s: damaged, a member cannot be unpacked; export again", NPZ);
    return member;
}

static File find_member(const File *npz, const char *name) {
    if (npz->size < 22 || u32(npz->bytes + npz->size - 22) != END_OF_DIRECTORY)
        fail("%s: damaged, not a zip file; export again", NPZ);
    const unsigned char *end = npz->bytes + npz->size - 22;
    size_t at = u32(end + 16);
    for (int i = u16(end + 10); i > 0; i--) {
        const unsigned char *head = within(npz, at, 46, NPZ);
        if (u32(head) != DIRECTORY_ENTRY) fail("%s: damaged, its directory is not one", NPZ);
        size_t length = u16(head + 28);
        const unsigned char *found = within(npz, at + 46, length, NPZ);
        size_t stem = strlen(name);
        if (length == stem + 4 && !memcmp(found, name, stem) && !memcmp(found + stem, ".npy", 4)) {
            const unsigned char *local = within(npz, u32(head + 42), 30, NPZ);
            size_t start = u32(head + 42) + 30u + u16(local + 26) + u16(local + 28);
            size_t packed = u32(head + 20);
            return unpack(within(npz, start, packed, NPZ), packed, u32(head + 24), u16(head + 10));
        }
        at += 46 + length + u16(head + 30) + u16(head + 32);
    }
    fail("%s: has no array '%s'; export again", NPZ, name);
}

static const char *after(const char *header, const char *key) {
    const char *found = strstr(header, key);
    if (!found) fail("%s: damaged, an array has no %s", NPZ, key);
    return found + strlen(key);
}

Array read_array(const File *npz, const char *name, const char *type) {
    Array array = {.count = 1, .memory = find_member(npz, name)};
    const unsigned char *start = within(&array.memory, 0, 10, NPZ);
    if (memcmp(start, "\x93NUMPY\x01", 7)) fail("%s: damaged, '%s' is no array", NPZ, name);
    size_t length = u16(start + 8);
    within(&array.memory, 10, length + 1, NPZ);
    char header[1024] = "";
    if (length >= sizeof header) fail("%s: damaged, '%s' has too long a header", NPZ, name);
    memcpy(header, start + 10, length);
    sscanf(after(header, "'descr': '"), "%7[^']", array.type);
    after(header, "'fortran_order': False");
    const char *axes = after(header, "'shape': (");
    for (char *next; *axes && *axes != ')'; axes = next) {
        size_t axis = strtoul(axes, &next, 10);
        if (next == axes || array.axes == MAX_AXES) fail("%s: damaged, shape of '%s'", NPZ, name);
        array.shape[array.axes++] = axis;
        if (axis > LARGEST_MEMBER || (axis && array.count > LARGEST_MEMBER / axis))
            fail("%s: damaged, shape of '%s'", NPZ, name);
        array.count *= axis;
        next += strspn(next, ", ");
    }
    size_t width = type[1] == 'U' ? 4 * strtoul(array.type + 2, NULL, 10)
                                  : strtoul(array.type + 2, NULL, 10);
    size_t content = array.memory.size - 10 - length;
    if (strncmp(array.type, type, strlen(type)) || !width || content / width != array.count ||
        content % width)
        fail("%s: '%s' is no %s of its shape; export again", NPZ, name, type);
    array.data = start + 10 + length;
    return array;
}

char *array_text(const Array *array) {
    size_t length = strtoul(array->type + 2, NULL, 10);
    char *text = allocate(length + 1, 1);
    for (size_t i = 0; i < length; i++) {
        uint32_t point = u32((const unsigned char *)array->data + 4 * i);
        if (point > 127) fail("%s: expected plain text", NPZ);
        text[i] = (char)point;
    }
    return text;
}
