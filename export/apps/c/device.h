/* The machine and its software, as the report of w2v-edge bench describes them. */
#ifndef W2V_DEVICE_H
#define W2V_DEVICE_H

#include <stdio.h>

#include "machine.h"
#include "session.h"

/* Writes the report's `device`; null or empty is what this program does not find out. */
void write_device(FILE *stream, const Machine *machine, const Onnxruntime *onnxruntime);

#endif
