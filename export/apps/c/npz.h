/* Reads arrays from numpy's .npz, a zip file of .npy files. */
#ifndef W2V_NPZ_H
#define W2V_NPZ_H

#include "file.h"

enum { MAX_AXES = 4 };

typedef struct {
    size_t shape[MAX_AXES];
    size_t axes;
    size_t count;
    char type[8];  /* numpy dtype such as <f4; text is <U and its length */
    File memory;
    const void *data;
} Array;

/* Returns the array `name`; exits unless it has this type: "<f4", "<i8" or "<U". */
Array read_array(const File *npz, const char *name, const char *type);

/* Returns the ASCII text of a scalar; the caller frees it. */
char *array_text(const Array *array);

#endif
