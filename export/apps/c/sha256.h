/* SHA-256, FIPS 180-4. */
#ifndef W2V_SHA256_H
#define W2V_SHA256_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint32_t state[8];
    uint64_t size;
    unsigned char block[64];
} Sha256;

void sha256_begin(Sha256 *hash);
void sha256_add(Sha256 *hash, const void *bytes, size_t size);
void sha256_end(Sha256 *hash, char hex[65]);

#endif
