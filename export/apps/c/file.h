/* Whole files, and the little-endian numbers in them. */
#ifndef W2V_FILE_H
#define W2V_FILE_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of a file, one zero behind them, so that text can be searched. */
typedef struct {
    unsigned char *bytes;
    size_t size;
} File;

File read_file(const char *folder, const char *name);
void free_file(File *file);

/* `count` bytes at `at`, or the end of the program: `what` is damaged. */
const unsigned char *within(const File *file, size_t at, size_t count, const char *what);

uint16_t u16(const unsigned char *bytes);
uint32_t u32(const unsigned char *bytes);

/* Memory for `count` things of `size` bytes, zeros. */
void *allocate(size_t count, size_t size);

#endif
