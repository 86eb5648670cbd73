/* Does tokenizer.onnx give the codes of golden.npz here? */
#ifndef W2V_VERIFY_H
#define W2V_VERIFY_H

/* Prints one line; 0 where it does, 3 where it does not. */
int verify(const char *bundle);

#endif
