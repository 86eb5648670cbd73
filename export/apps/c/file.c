#include "file.h"

#include <errno.h>
#include <string.h>

#include "fail.h"

void *allocate(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    if (!memory) fail("no memory for %zu times %zu bytes", count, size);
    return memory;
}

File read_file(const char *folder, const char *name) {
    char path[4096];
    int length = snprintf(path, sizeof path, "%s%s%s", folder, *folder ? "/" : "", name);
    if (length < 0 || (size_t)length >= sizeof path) fail("the path of %s is too long", name);
    FILE *stream = fopen(path, "rb");
    if (!stream) fail("%s: cannot be read (%s)", path, strerror(errno));
    long size = fseek(stream, 0, SEEK_END) == 0 ? ftell(stream) : -1;
    if (size < 0 || fseek(stream, 0, SEEK_SET) != 0) fail("%s: no file that can be read", path);
    File file = {allocate((size_t)size + 1, 1), (size_t)size};
    if (fread(file.bytes, 1, file.size, stream) != file.size) fail("%s: cannot be read whole", path);
    fclose(stream);
    return file;
}

void free_file(File *file) {
    free(file->bytes);
    file->bytes = NULL;
}

const unsigned char *within(const File *file, size_t at, size_t count, const char *what) {
    if (at > file->size || count > file->size - at) fail("%s: damaged, it ends early", what);
    return file->bytes + at;
}

uint16_t u16(const unsigned char *bytes) { return (uint16_t)(bytes[0] | bytes[1] << 8); }

uint32_t u32(const unsigned char *bytes) { return u16(bytes) | (uint32_t)u16(bytes + 2) << 16; }
