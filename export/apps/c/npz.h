/* Reads arrays out of numpy's .npz, a zip of .npy files, as numpy writes it. */
#ifndef W2V_NPZ_H
#define W2V_NPZ_H

#include "file.h"

enum { MAX_AXES = 4 };

typedef struct {
    size_t shape[MAX_AXES];
    size_t axes;
    size_t count;
    char type[8];  /* such as <f4; text is <U with a number */
    File memory;
    const void *data;
} Array;

/* The array `name`; the program ends unless it has this type: "<f4", "<i8" or "<U". */
Array read_array(const File *npz, const char *name, const char *type);

/* The text of a scalar, which must be ASCII; the caller frees it. */
char *array_text(const Array *array);

#endif
