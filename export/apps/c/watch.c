#include "watch.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "fail.h"

typedef struct {
    double busy_s, steal_s, total_s;
} CpuTime;

static int is_watched(const Machine *machine, int core) {
    for (size_t i = 0; i < machine->count; i++)
        if (machine->affinity[i] == core) return 1;
    return 0;
}

/* Returns the CPU time of the usable cores since boot. */
static CpuTime cpu_time(const Machine *machine) {
    CpuTime found = {0};
    double tick = 1.0 / (double)sysconf(_SC_CLK_TCK);
    char *text = read_text("/proc/stat"), *rest;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        int core;
        double user, nice, system, idle, wait, irq, soft, steal;
        /* Guest time is in user and nice. */
        if (sscanf(line, "cpu%d %lf %lf %lf %lf %lf %lf %lf %lf", &core, &user, &nice, &system, &idle, &wait, &irq,
                   &soft, &steal) < 9 ||
            !is_watched(machine, core))
            continue;
        double busy = user + nice + system + irq + soft;
        found.busy_s += tick * busy;
        found.steal_s += tick * steal;
        found.total_s += tick * (busy + idle + wait + steal);
    }
    free(text);
    return found;
}

static double seconds_of(int who) {
    struct rusage usage;
    if (getrusage(who, &usage)) return 0;
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static double available_bytes(void) {
    char *text = read_text("/proc/meminfo"), *line = strstr(text, "MemAvailable:");
    double kib = line ? strtod(line + strlen("MemAvailable:"), NULL) : 0;
    free(text);
    return 1024 * kib;
}

static double or_zero(double figure) { return figure > 0 ? figure : 0; }

void begin_watch(Watch *watch, const Machine *machine) {
    *watch = (Watch){.machine = machine};
    watch->stream = open_memstream(&watch->samples, &watch->size);
    if (!watch->stream) fail("no memory for samples");
    take_sample(watch, 0);
}

void take_sample(Watch *watch, double at_s) {
    CpuTime now = cpu_time(watch->machine);
    double own = seconds_of(RUSAGE_SELF) + seconds_of(RUSAGE_CHILDREN), passed = at_s - watch->at_s;
    double available = available_bytes();
    if (!now.total_s) return;
    fprintf(watch->stream, "%s{\"at_s\": %.4f", watch->total_s ? ", " : "", at_s);
    if (passed > 0 && watch->total_s && now.total_s > watch->total_s) {
        double mine = own - watch->own_s, busy = now.busy_s - watch->busy_s;
        fprintf(watch->stream, ", \"others\": %.4f, \"own\": %.4f, \"steal\": %.4f", or_zero(busy - mine) / passed,
                or_zero(mine) / passed, or_zero(now.steal_s - watch->steal_s) / passed);
    }
    if (available > 0) fprintf(watch->stream, ", \"available_mb\": %.3f", available / 1e6);
    fputc('}', watch->stream);
    watch->at_s = at_s;
    watch->busy_s = now.busy_s;
    watch->steal_s = now.steal_s;
    watch->total_s = now.total_s;
    watch->own_s = own;
}

char *end_watch(Watch *watch) {
    if (fclose(watch->stream)) fail("no memory for samples");
    return watch->samples;
}
