/* Reads whole files and little-endian numbers. */
#ifndef W2V_FILE_H
#define W2V_FILE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Bytes of a file, followed by a zero byte, so that string functions work. */
typedef struct {
    unsigned char *bytes;
    size_t size;
} File;

/* Opens a regular file, never a pipe or a device, and returns its size; exits if it cannot. */
FILE *open_file(const char *path, size_t *size);

/* Reads a file of at most `most` bytes. */
File read_file(const char *path, size_t most);
void free_file(File *file);

/* Joins the path of a file in a folder; the caller frees it. */
char *path_in(const char *folder, const char *name);

/* Returns `count` bytes at offset `at`; exits if `what` is too short. */
const unsigned char *within(const File *file, size_t at, size_t count, const char *what);

uint16_t u16(const unsigned char *bytes);
uint32_t u32(const unsigned char *bytes);

/* Allocates `count` zeroed elements of `size` bytes; exits if out of memory. */
void *allocate(size_t count, size_t size);

#endif
