/* Compares the codes of tokenizer.onnx with golden.npz. */
#ifndef W2V_VERIFY_H
#define W2V_VERIFY_H

/* Prints one line; returns 0 if the codes agree, else 3. */
int verify(const char *bundle);

#endif
