#include "machine.h"

#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "file.h"

static const char *const CGROUPS = "/sys/fs/cgroup";
static const double UNLIMITED = 1152921504606846976.0; /* 2^60; version 1 writes about 2^63 */
static const double FAST = 0.5; /* of the fastest core's speed */

/* Returns the limit of a control group, 0 or less without one. */
typedef double (*ReadLimit)(const char *group);

char *read_text(const char *path) {
    size_t size = 0, room = 1 << 12;
    char *text = allocate(room, 1);
    FILE *stream = fopen(path, "rb");
    /* Files of /proc state no size. */
    for (size_t count; stream && (count = fread(text + size, 1, room - 1 - size, stream));) {
        size += count;
        if (size < room - 1) continue;
        room *= 2;
        char *more = realloc(text, room);
        if (!more) break;
        text = more;
    }
    if (stream) fclose(stream);
    while (size && strchr(" \t\r\n", text[size - 1])) size--; /* the zero byte of a device tree, too */
    text[size] = 0;
    return text;
}

double read_number(const char *path) {
    char *text = read_text(path), *end;
    double found = strtod(text, &end);
    int empty = end == text || *end;
    free(text);
    return empty ? -1 : found;
}

static char *read_in(const char *folder, const char *name) {
    char *path = path_in(folder, name);
    char *text = read_text(path);
    free(path);
    return text;
}

static double number_in(const char *folder, const char *name) {
    char *path = path_in(folder, name);
    double found = read_number(path);
    free(path);
    return found;
}

static double cpu_quota(const char *group) {
    double quota = 0, period = 0;
    char *both = read_in(group, "cpu.max");
    int known = sscanf(both, "%lf %lf", &quota, &period) == 2;
    if (!*both) {
        quota = number_in(group, "cpu.cfs_quota_us");
        period = number_in(group, "cpu.cfs_period_us");
        known = 1;
    }
    free(both);
    return known && quota > 0 && period > 0 ? quota / period : 0;
}

static double memory_limit(const char *group) {
    double limit = number_in(group, "memory.max");
    if (limit < 0) limit = number_in(group, "memory.limit_in_bytes");
    return limit > 0 && limit < UNLIMITED ? limit : 0;
}

static void lower(double *least, double found) {
    if (found > 0 && (!*least || found < *least)) *least = found;
}

/* A group's limit binds its subgroups: all groups on the path to the top are read. */
static void climb(const char *top, const char *path, ReadLimit limit, double *least) {
    while (!strncmp(path, "/..", 3)) path += 3;
    char group[4096];
    if (snprintf(group, sizeof group, "%s%s", top, path) >= (int)sizeof group) return;
    for (char *slash; lower(least, limit(group)), (slash = strrchr(group + strlen(top), '/'));) *slash = 0;
}

static int names(char *list, const char *controller) {
    for (char *rest, *name = strtok_r(list, ",", &rest); name; name = strtok_r(NULL, ",", &rest))
        if (!strcmp(name, controller)) return 1;
    return 0;
}

/* Returns the smallest limit of this process's control groups, 0 without one. */
static double smallest(const char *controller, ReadLimit limit) {
    double least = 0;
    char *own = path_in(CGROUPS, controller), *rest;
    lower(&least, limit(CGROUPS));
    lower(&least, limit(own));
    char *text = read_text("/proc/self/cgroup");
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char *named = strchr(line, ':'), *path = named ? strchr(named + 1, ':') : NULL;
        if (!path) continue;
        *path++ = 0;
        named++;
        if (!*named) climb(CGROUPS, path, limit, &least);
        if (!*named) continue;
        char *top = path_in(CGROUPS, named);
        if (names(named, controller)) {
            climb(top, path, limit, &least);
            climb(own, path, limit, &least);
        }
        free(top);
    }
    free(text);
    free(own);
    return least;
}

static void read_affinity(Machine *machine) {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        for (int core = 0; core < MAX_CORES && core < CPU_SETSIZE; core++)
            if (CPU_ISSET(core, &set)) machine->affinity[machine->count++] = core;
    if (machine->count) return;
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    for (int core = 0; core < MAX_CORES && (core < online || !core); core++)
        machine->affinity[machine->count++] = core;
}

/* Linux tells the speed of unlike cores, on ARM; where it does not, all are alike. */
static int fast_cores(const Machine *machine) {
    double speeds[MAX_CORES], most = 0;
    int fast = 0;
    for (size_t i = 0; i < machine->count; i++) {
        char path[96];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/cpu_capacity", machine->affinity[i]);
        speeds[i] = read_number(path);
        if (speeds[i] < 0) return (int)machine->count;
        if (speeds[i] > most) most = speeds[i];
    }
    for (size_t i = 0; i < machine->count; i++) fast += speeds[i] >= FAST * most;
    return fast;
}

Machine read_machine(void) {
    Machine machine = {0};
    read_affinity(&machine);
    machine.quota = smallest("cpu", cpu_quota);
    machine.memory = (double)sysconf(_SC_PAGE_SIZE) * (double)sysconf(_SC_PHYS_PAGES);
    machine.memory_limit = smallest("memory", memory_limit);
    machine.usable = (int)machine.count;
    if (machine.quota && ceil(machine.quota) < machine.usable) machine.usable = (int)ceil(machine.quota);
    int fast = fast_cores(&machine);
    machine.threads = fast < machine.usable ? fast : machine.usable;
    return machine;
}
