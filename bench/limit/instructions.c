/* The most multiply-adds a second that this processor's instructions allow.
 *
 *     cc -O2 -pthread instructions.c -o instructions && ./instructions THREADS
 *
 * Each loop keeps all operands in registers, with as many independent sums as hide the latency of
 * an instruction. One line of output for each kind that the processor has: name, multiply-adds per
 * second of all threads together. Best of several short runs.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS = 200000, RUNS = 15 };

typedef void (*kernel)(long rounds);

struct kind {
    const char *name;
    kernel run;
    double products; /* multiply-adds in one round of the loop */
};

#define TWICE(x) x x
#define SUMS(x) x(0) x(1) x(2) x(3) x(4) x(5) x(6) x(7) x(8) x(9)

#if defined(__x86_64__)

/* Ten sums in registers 0 to 9, factors in 14 and 15; 10, 11 are for intermediate results. */
#define FMA256(n) "vfmadd231ps %%ymm14, %%ymm15, %%ymm" #n "\n\t"
#define FMA512(n) "vfmadd231ps %%zmm14, %%zmm15, %%zmm" #n "\n\t"
#define DOT256(n) "%{vex%} vpdpbusd %%ymm14, %%ymm15, %%ymm" #n "\n\t"
#define DOT512(n) "vpdpbusd %%zmm14, %%zmm15, %%zmm" #n "\n\t"
#define BF16(n) "vdpbf16ps %%zmm14, %%zmm15, %%zmm" #n "\n\t"
/* Without VNNI: bytes to pairs in 16 bits, to sums of four in 32 bits, to the sum. */
#define PAIRS(t, n)                               \
    "vpmaddubsw %%ymm14, %%ymm15, %%ymm" #t "\n\t" \
    "vpmaddwd %%ymm13, %%ymm" #t ", %%ymm" #t "\n\t" \
    "vpaddd %%ymm" #t ", %%ymm" #n ", %%ymm" #n "\n\t"

#define LOOP(name, body, clear)                                   \
    static void name(long rounds) {                               \
        __asm__ volatile(clear "1:\n\t" body "dec %0\n\tjnz 1b\n\t" \
                         "vzeroupper\n\t"                         \
                         : "+r"(rounds)                           \
                         :                                        \
                         : "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", \
                           "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",    \
                           "xmm15");                              \
    }

LOOP(fma256, TWICE(SUMS(FMA256)), "vzeroall\n\t")
LOOP(fma512, TWICE(SUMS(FMA512)), "vzeroall\n\t")
LOOP(dot256, TWICE(SUMS(DOT256)), "vzeroall\n\t")
LOOP(dot512, TWICE(SUMS(DOT512)), "vzeroall\n\t")
LOOP(bf16, TWICE(SUMS(BF16)), "vzeroall\n\t")
LOOP(pairs256,
     PAIRS(8, 0) PAIRS(9, 1) PAIRS(10, 2) PAIRS(11, 3) PAIRS(12, 4) PAIRS(8, 5) PAIRS(9, 6)
         PAIRS(10, 7),
     "vzeroall\n\t")

/* Four tiles of sums, two and two of factors, 16 rows of 64 bytes each. */
#define TILES(op)                                                                             \
    op " %%tmm4, %%tmm6, %%tmm0\n\t" op " %%tmm5, %%tmm6, %%tmm1\n\t" op " %%tmm4, %%tmm7, %%tmm2\n\t" op \
       " %%tmm5, %%tmm7, %%tmm3\n\t"

static void set_tiles(void) {
    uint8_t config[64] __attribute__((aligned(64))) = {1};
    uint16_t width = 64;
    for (int tile = 0; tile < 8; tile++) {
        memcpy(config + 16 + 2 * tile, &width, 2);
        config[48 + tile] = 16;
    }
    __asm__ volatile("ldtilecfg %0\n\ttilezero %%tmm0\n\ttilezero %%tmm1\n\ttilezero %%tmm2\n\t"
                     "tilezero %%tmm3\n\ttilezero %%tmm4\n\ttilezero %%tmm5\n\ttilezero %%tmm6\n\t"
                     "tilezero %%tmm7\n\t" ::"m"(config));
}

#define TILE_LOOP(name, op)                                                                  \
    static void name(long rounds) {                                                          \
        set_tiles();                                                                         \
        __asm__ volatile("1:\n\t" TILES(op) "dec %0\n\tjnz 1b\n\ttilerelease\n\t" : "+r"(rounds)::"cc"); \
    }

TILE_LOOP(amx_int8, "tdpbusd")
TILE_LOOP(amx_bf16, "tdpbf16ps")

static int has(const char *flag) {
    static char flags[16384];
    FILE *file = flags[0] ? NULL : fopen("/proc/cpuinfo", "r");
    while (file && fgets(flags, sizeof flags, file) && strncmp(flags, "flags", 5)) {}
    if (file) fclose(file);
    flags[strcspn(flags, "\n")] = ' ';
    char word[64];
    snprintf(word, sizeof word, " %s ", flag);
    return strstr(flags, word) != NULL;
}

#include <sys/syscall.h>
#include <unistd.h>
static int tiles_allowed(void) { return has("amx_tile") && !syscall(SYS_arch_prctl, 0x1023, 18); }

static int kinds(struct kind *found) {
    int n = 0, tiles = tiles_allowed();
    if (has("fma")) found[n++] = (struct kind){"float32 avx2", fma256, 20.0 * 8};
    if (has("avx512f")) found[n++] = (struct kind){"float32 avx512", fma512, 20.0 * 16};
    if (has("avx2")) found[n++] = (struct kind){"int8 avx2", pairs256, 8.0 * 32};
    if (has("avx_vnni")) found[n++] = (struct kind){"int8 avx_vnni", dot256, 20.0 * 32};
    if (has("avx512_vnni")) found[n++] = (struct kind){"int8 avx512_vnni", dot512, 20.0 * 64};
    if (has("avx512_bf16")) found[n++] = (struct kind){"bf16 avx512_bf16", bf16, 20.0 * 32};
    if (tiles && has("amx_int8")) found[n++] = (struct kind){"int8 amx_int8", amx_int8, 4.0 * 16 * 16 * 64};
    if (tiles && has("amx_bf16")) found[n++] = (struct kind){"bf16 amx_bf16", amx_bf16, 4.0 * 16 * 16 * 32};
    return n;
}

#elif defined(__aarch64__)

#include <sys/auxv.h>

/* Ten sums in registers 0 to 9, factors in 30 and 31. */
#define FMLA(n) "fmla v" #n ".4s, v30.4s, v31.4s\n\t"
#define SMLAL(n) "smlal v" #n ".8h, v30.8b, v31.8b\n\t"
#define DOT(n) ".inst 0x6e9f97c0 + " #n "\n\t"    /* udot vN.4s, v30.16b, v31.16b */
#define MATRIX(n) ".inst 0x6e9fa7c0 + " #n "\n\t" /* ummla vN.4s, v30.16b, v31.16b */

#define LOOP(name, body)                                                     \
    static void name(long rounds) {                                          \
        __asm__ volatile("1:\n\t" body "subs %0, %0, #1\n\tb.ne 1b\n\t"      \
                         : "+r"(rounds)                                      \
                         :                                                   \
                         : "cc", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9"); \
    }

LOOP(fmla, TWICE(SUMS(FMLA)))
LOOP(smlal, TWICE(SUMS(SMLAL)))
LOOP(dot, TWICE(SUMS(DOT)))
LOOP(matrix, TWICE(SUMS(MATRIX)))

static int kinds(struct kind *found) {
    int n = 0;
    found[n++] = (struct kind){"float32 neon", fmla, 20.0 * 4};
    found[n++] = (struct kind){"int8 neon", smlal, 20.0 * 8};
    if (getauxval(AT_HWCAP) & (1UL << 20)) found[n++] = (struct kind){"int8 dotprod", dot, 20.0 * 16};
    if (getauxval(AT_HWCAP2) & (1UL << 13)) found[n++] = (struct kind){"int8 i8mm", matrix, 20.0 * 32};
    return n;
}

#else
#error "no instructions are known for this processor"
#endif

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

static void *work(void *kind) {
    ((struct kind *)kind)->run(ROUNDS);
    return NULL;
}

static double fastest(struct kind *kind, int threads) {
    double best = 0;
    for (int run = 0; run < RUNS; run++) {
        pthread_t others[256];
        double begun = now();
        for (int i = 1; i < threads; i++)
            if (pthread_create(&others[i], NULL, work, kind)) exit(1);
        work(kind);
        for (int i = 1; i < threads; i++) pthread_join(others[i], NULL);
        double speed = threads * kind->products * ROUNDS / (now() - begun);
        if (speed > best) best = speed;
    }
    return best;
}

int main(int count, char **words) {
    int threads = count == 2 ? atoi(words[1]) : 0;
    if (threads < 1 || threads > 256) {
        fprintf(stderr, "usage: instructions THREADS (1 to 256)\n");
        return 2;
    }
    struct kind found[16];
    int n = kinds(found);
    for (int i = 0; i < n; i++) printf("%s %.0f\n", found[i].name, fastest(&found[i], threads));
    return 0;
}
