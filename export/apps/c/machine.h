/* The cores and the memory that this process may use, and lines of the files that describe them. */
#ifndef W2V_MACHINE_H
#define W2V_MACHINE_H

#include <stddef.h>

enum { MAX_CORES = 1024 };

typedef struct {
    int affinity[MAX_CORES]; /* numbers of the cores that this process may run on */
    size_t count;
    double quota;         /* cores allowed by control groups, 0 without a limit */
    double memory;        /* bytes */
    double memory_limit;  /* of control groups, in bytes; 0 without one */
    int usable;           /* cores that this process may keep busy */
    int threads;          /* one for each usable core that is fast */
} Machine;

Machine read_machine(void);

/* Returns the text of a file without white space at its ends, empty if it cannot be read. The caller frees it. */
char *read_text(const char *path);

/* Returns the number in a file, -1 if there is none. */
double read_number(const char *path);

#endif
