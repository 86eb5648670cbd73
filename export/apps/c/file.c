#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fail.h"

void *allocate(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    if (!memory) fail("no memory for %zu times %zu bytes", count, size);
    return memory;
}

char *path_in(const char *folder, const char *name) {
    size_t size = strlen(folder) + strlen(name) + 2;
    char *path = allocate(size, 1);
    snprintf(path, size, "%s/%s", folder, name);
    return path;
}

FILE *open_file(const char *path, size_t *size) {
    struct stat status;
    int descriptor = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (descriptor < 0) fail("%s: cannot be read (%s)", path, strerror(errno));
    if (fstat(descriptor, &status) || !S_ISREG(status.st_mode)) fail("%s: no regular file", path);
    FILE *stream = fdopen(descriptor, "rb");
    if (!stream) fail("%s: cannot be read (%s)", path, strerror(errno));
    *size = (size_t)status.st_size;
    return stream;
}

File read_file(const char *path, size_t most) {
    size_t size;
    FILE *stream = open_file(path, &size);
    if (size > most) fail("%s: found %zu bytes, expected at most %zu", path, size, most);
    File file = {allocate(size + 1, 1), size};
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
