/* Prints a one-line error and exits with code 1. */
#ifndef W2V_FAIL_H
#define W2V_FAIL_H

#include <stdio.h>
#include <stdlib.h>

#define fail(...)                     \
    do {                              \
        fprintf(stderr, "error: ");   \
        fprintf(stderr, __VA_ARGS__); \
        fputc('\n', stderr);          \
        exit(1);                      \
    } while (0)

#endif
