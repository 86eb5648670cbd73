/* Work in processes of their own: what one allocates and loads is not measured in another. */
#ifndef W2V_CHILD_H
#define W2V_CHILD_H

#include <stdio.h>

typedef void Work(const void *task, FILE *answer);

/* Runs work in a new process and returns what it wrote, which the caller frees; exits if it failed. */
char *run_child(Work *work, const void *task);

#endif
