#include "device.h"

#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "file.h"
#include "json.h"
#include "sha256.h"

/* Instruction sets that matter for matrix products: those of w2v_edge/latency/device/fingerprint.py. */
static const char *const FEATURES[] = {
    "avx", "avx2", "fma", "f16c", "avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512_vnni",
    "avx512_bf16", "avx512_fp16", "avx_vnni", "avx_vnni_int8", "amx_tile", "amx_int8", "amx_bf16",
    "amx_fp16", "neon", "asimd", "asimddp", "asimdhp", "fphp", "i8mm", "bf16", "sve", "sve2",
    "svei8mm", "svebf16", "sme", "sme2",
};

/* ARM's own designs: /proc/cpuinfo gives numbers only. */
static const char *const ARM_PARTS[][2] = {
    {"0xc07", "Cortex-A7"}, {"0xc0f", "Cortex-A15"}, {"0xd03", "Cortex-A53"},
    {"0xd04", "Cortex-A35"}, {"0xd05", "Cortex-A55"}, {"0xd07", "Cortex-A57"},
    {"0xd08", "Cortex-A72"}, {"0xd09", "Cortex-A73"}, {"0xd0a", "Cortex-A75"},
    {"0xd0b", "Cortex-A76"}, {"0xd0c", "Neoverse N1"}, {"0xd0d", "Cortex-A77"},
    {"0xd40", "Neoverse V1"}, {"0xd41", "Cortex-A78"}, {"0xd44", "Cortex-X1"},
    {"0xd46", "Cortex-A510"}, {"0xd47", "Cortex-A710"}, {"0xd48", "Cortex-X2"},
    {"0xd49", "Neoverse N2"}, {"0xd4d", "Cortex-A715"}, {"0xd4f", "Neoverse V2"},
    {"0xd80", "Cortex-A520"}, {"0xd81", "Cortex-A720"},
};

enum { MAX_TEXTS = 64, DIGITS_OF_IDENTITY = 16 };

/* Distinct texts in order. */
typedef struct {
    size_t count;
    char *texts[MAX_TEXTS];
} Texts;

static void add_text(Texts *texts, const char *text) {
    for (size_t i = 0; i < texts->count; i++)
        if (!strcmp(texts->texts[i], text)) return;
    if (texts->count == MAX_TEXTS) return;
    texts->texts[texts->count] = allocate(strlen(text) + 1, 1);
    strcpy(texts->texts[texts->count++], text);
}

static void free_texts(Texts *texts) {
    for (size_t i = 0; i < texts->count; i++) free(texts->texts[i]);
    texts->count = 0;
}

/* Adds the values of a key in lines `key : value`. */
static void add_values(Texts *texts, const char *lines, const char *key) {
    for (const char *line = lines; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        size_t length = strcspn(line, ":\n"), end = length;
        while (end && strchr(" \t", line[end - 1])) end--;
        if (line[length] != ':' || end != strlen(key) || strncmp(line, key, end)) continue;
        const char *value = line + length + 1 + strspn(line + length + 1, " \t");
        char text[4096];
        snprintf(text, sizeof text, "%.*s", (int)strcspn(value, "\n"), value);
        for (size_t i = strlen(text); i && strchr(" \t\r", text[i - 1]);) text[--i] = 0;
        add_text(texts, text);
    }
}

static Texts values_of(const char *lines, const char *key) {
    Texts texts = {0};
    add_values(&texts, lines, key);
    return texts;
}

static const char *arm_design(const char *part) {
    for (size_t i = 0; i < sizeof ARM_PARTS / sizeof *ARM_PARTS; i++)
        if (!strcmp(ARM_PARTS[i][0], part)) return ARM_PARTS[i][1];
    return NULL;
}

static void add_arm_designs(Texts *names, const char *cpuinfo) {
    Texts makers = values_of(cpuinfo, "CPU implementer"), parts = values_of(cpuinfo, "CPU part");
    int arm = makers.count == 1 && !strcmp(makers.texts[0], "0x41");
    for (size_t m = 0; m < makers.count; m++)
        for (size_t p = 0; p < parts.count; p++) {
            char text[128];
            const char *known = arm ? arm_design(parts.texts[p]) : NULL;
            if (arm)
                snprintf(text, sizeof text, "%s%s", known ? "" : "ARM ", known ? known : parts.texts[p]);
            else
                snprintf(text, sizeof text, "implementer %.40s part %.40s", makers.texts[m], parts.texts[p]);
            add_text(names, text);
        }
    free_texts(&makers);
    free_texts(&parts);
}

static void write_model(FILE *stream, const char *cpuinfo) {
    Texts names = values_of(cpuinfo, "model name");
    if (!names.count) add_values(&names, cpuinfo, "cpu model");
    if (!names.count) add_arm_designs(&names, cpuinfo);
    Texts boards = values_of(cpuinfo, "Model");
    char *board = read_text("/sys/firmware/devicetree/base/model");
    if (*board) {
        free_texts(&boards);
        add_text(&boards, board);
    }
    char *text;
    size_t size;
    FILE *joined = open_memstream(&text, &size);
    for (size_t i = 0; i < names.count; i++) fprintf(joined, "%s%s", i ? " + " : "", names.texts[i]);
    if (names.count && boards.count) fputs(" (", joined);
    for (size_t i = 0; i < boards.count; i++) fputs(boards.texts[i], joined);
    if (names.count && boards.count) fputc(')', joined);
    fclose(joined);
    write_json_string(stream, text);
    free(text);
    free(board);
    free_texts(&names);
    free_texts(&boards);
}

static int has_word(const char *words, const char *word) {
    size_t length = strlen(word);
    for (const char *at = words; (at = strstr(at, word)); at += length)
        if ((at == words || at[-1] == ' ') && (!at[length] || at[length] == ' ')) return 1;
    return 0;
}

/* Only what all cores have counts. */
static int have_all(const Texts *cores, const char *feature) {
    for (size_t i = 0; i < cores->count; i++)
        if (!has_word(cores->texts[i], feature)) return 0;
    return cores->count > 0;
}

static void write_features(FILE *stream, const char *cpuinfo) {
    Texts cores = values_of(cpuinfo, "flags");
    if (!cores.count) add_values(&cores, cpuinfo, "Features");
    const char *comma = "";
    fputc('[', stream);
    for (size_t i = 0; i < sizeof FEATURES / sizeof *FEATURES; i++) {
        if (!have_all(&cores, FEATURES[i])) continue;
        fprintf(stream, "%s\"%s\"", comma, FEATURES[i]);
        comma = ", ";
    }
    fputc(']', stream);
    free_texts(&cores);
}

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* The hash that w2v_edge.providers.machine.device_identity makes, of a machine without an NVIDIA GPU. */
static void write_identity(FILE *stream, const Machine *machine, const struct utsname *system, const char *cpuinfo) {
    static const char *const KEYS[] = {"model name", "cpu model", "CPU implementer", "CPU part"};
    Texts processor = {0};
    for (size_t i = 0; i < sizeof KEYS / sizeof *KEYS; i++) add_values(&processor, cpuinfo, KEYS[i]);
    if (!processor.count) add_text(&processor, "");
    qsort(processor.texts, processor.count, sizeof *processor.texts, by_text);
    char *text, hex[65];
    size_t size;
    FILE *fields = open_memstream(&text, &size);
    fprintf(fields, "{\"architecture\": \"%s\", \"gpus\": [], \"processor\": [", system->machine);
    for (size_t i = 0; i < processor.count; i++) {
        fputs(i ? ", " : "", fields);
        write_json_string(fields, processor.texts[i]);
    }
    fprintf(fields, "], \"system\": \"%s\", \"usable_cores\": %d}", system->sysname, machine->usable);
    fclose(fields);
    Sha256 hash;
    sha256_begin(&hash);
    sha256_add(&hash, text, size);
    sha256_end(&hash, hex);
    fprintf(stream, "\"%.*s\"", DIGITS_OF_IDENTITY, hex);
    free(text);
    free_texts(&processor);
}

static void write_system(FILE *stream, const struct utsname *system) {
    char *release = read_text("/etc/os-release");
    if (!*release) {
        free(release);
        release = read_text("/usr/lib/os-release");
    }
    char name[256] = "", text[1024];
    char *pretty = strstr(release, "PRETTY_NAME=");
    if (pretty) sscanf(pretty + 12, "%*[\"']%255[^\"'\n]", name);
    if (pretty && !*name) sscanf(pretty + 12, "%255[^\"'\n]", name);
    snprintf(text, sizeof text, "%s %s%s%s%s", system->sysname, system->release, *name ? " (" : "", name,
             *name ? ")" : "");
    write_json_string(stream, text);
    free(release);
}

static void write_number_or_null(FILE *stream, const char *key, double value, double scale) {
    if (value > 0)
        fprintf(stream, ", \"%s\": %.17g", key, value / scale);
    else
        fprintf(stream, ", \"%s\": null", key);
}

static void write_frequency(FILE *stream, int core) {
    char folder[96];
    snprintf(folder, sizeof folder, "/sys/devices/system/cpu/cpu%d/cpufreq", core);
    char *path = path_in(folder, "scaling_governor"), *governor = read_text(path);
    free(path);
    fputs(", \"governor\": ", stream);
    if (*governor)
        write_json_string(stream, governor);
    else
        fputs("null", stream);
    free(governor);
    static const char *const ENDS[] = {"min", "max"};
    for (int i = 0; i < 2; i++) {
        char name[32], key[16];
        snprintf(name, sizeof name, "cpuinfo_%s_freq", ENDS[i]);
        snprintf(key, sizeof key, "%s_mhz", ENDS[i]);
        path = path_in(folder, name);
        write_number_or_null(stream, key, read_number(path), 1e3);
        free(path);
    }
}

static void write_cpu(FILE *stream, const Machine *machine, const char *architecture, const char *cpuinfo) {
    fputs("{\"model\": ", stream);
    write_model(stream, cpuinfo);
    fputs(", \"architecture\": ", stream);
    write_json_string(stream, architecture);
    fputs(", \"features\": ", stream);
    write_features(stream, cpuinfo);
    fprintf(stream, ", \"cores\": %ld, \"physical_cores\": null, \"usable_cores\": %d, \"affinity\": [",
            sysconf(_SC_NPROCESSORS_ONLN), machine->usable);
    for (size_t i = 0; i < machine->count; i++) fprintf(stream, "%s%d", i ? ", " : "", machine->affinity[i]);
    fputc(']', stream);
    write_number_or_null(stream, "quota", machine->quota, 1);
    write_frequency(stream, machine->affinity[0]);
    fputc('}', stream);
}

static void write_onnxruntime(FILE *stream, const Onnxruntime *onnxruntime) {
    const OrtApi *api = onnxruntime->api;
    char **providers;
    int count;
    check_status(api, api->GetAvailableProviders(&providers, &count));
    fputs(", \"onnxruntime\": ", stream);
    write_json_string(stream, onnxruntime->version);
    fputs(", \"onnxruntime_build\": ", stream);
    write_json_string(stream, api->GetBuildInfoString());
    fputs(", \"providers\": [", stream);
    for (int i = 0; i < count; i++) {
        fputs(i ? ", " : "", stream);
        write_json_string(stream, providers[i]);
    }
    fputc(']', stream);
    check_status(api, api->ReleaseAvailableProviders(providers, count));
}

void write_device(FILE *stream, const Machine *machine, const Onnxruntime *onnxruntime) {
    struct utsname system;
    uname(&system);
    char *cpuinfo = read_text("/proc/cpuinfo");
    Texts flags = values_of(cpuinfo, "flags");
    fputs("{\"identity\": ", stream);
    write_identity(stream, machine, &system, cpuinfo);
    fputs(", \"cpu\": ", stream);
    write_cpu(stream, machine, system.machine, cpuinfo);
    write_number_or_null(stream, "memory_mb", machine->memory, 1e6);
    write_number_or_null(stream, "memory_limit_mb", machine->memory_limit, 1e6);
    fputs(", \"gpus\": [], \"system\": ", stream);
    write_system(stream, &system);
    fputs(", \"container\": null, \"virtual\": ", stream);
    fputs(!flags.count ? "null" : has_word(flags.texts[0], "hypervisor") ? "true" : "false", stream);
    fputs(", \"python\": \"\", \"packages\": {}", stream);
    write_onnxruntime(stream, onnxruntime);
    fputc('}', stream);
    free_texts(&flags);
    free(cpuinfo);
}
