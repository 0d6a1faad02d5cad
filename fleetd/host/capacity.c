#include "fleetd/host/capacity.h"

#include <fcntl.h>
#include <limits.h>
#include <sched.h>

#include "base/file.h"
#include "base/parse.h"

enum {
        PROC_TEXT_MAX = 64 * 1024,
        CPUS_MAX = 8192,
        RESERVE_PERCENT = 5,
        RESERVE_MIN_MIB = 256,
        RESERVE_MAX_MIB = 4096,
        ROUNDED_BITS = 6, /* of the memory, after the first one */
};

/* -- Reserve= -- */

static int reserve_parse_item(const char *item, Reserve *ret) {
        const char *memory = starts_with(item, "memory:") ? item + strlen("memory:") : NULL,
                   *cpu = starts_with(item, "cpu:") ? item + strlen("cpu:") : NULL;

        if (cpu)
                return resources_parse_percent(cpu, &ret->cpu_percent);
        if (!memory || ret->memory)
                return -EINVAL;
        ret->memory = true;
        if (memory[0] && memory[strlen(memory) - 1] == '%')
                return resources_parse_percent(memory, &ret->memory_percent) < 0 ||
                                       ret->memory_percent > 100 ?
                               -EINVAL :
                               0;
        return resources_parse_memory(memory, false, &ret->memory_mib);
}

int capacity_parse_reserve(const char *value, void *ret, Error *err) {
        _cleanup_free_ char *copy = strdup(value);
        char *rest = copy, *item;
        Reserve reserve = {};

        if (!copy)
                return -ENOMEM;
        while ((item = strsep(&rest, " \t")))
                if (*item && reserve_parse_item(item, &reserve) < 0)
                        return error_set(
                                err, -EINVAL,
                                "expected memory:SIZE or memory:PERCENT, and cpu:PERCENT of one core, "
                                "for example memory:2G cpu:50%%, not '%.80s'",
                                item);
        *(Reserve *) ret = reserve;
        return 0;
}

static uint32_t reserve_memory(uint32_t physical, const Reserve *reserve) {
        if (!reserve->memory)
                return MIN(MAX(physical / 100 * RESERVE_PERCENT, (uint32_t) RESERVE_MIN_MIB),
                           (uint32_t) RESERVE_MAX_MIB);
        return MAX(reserve->memory_mib, (uint32_t) ((uint64_t) physical * reserve->memory_percent / 100));
}

Resources capacity_without(Resources physical, const Reserve *reserve) {
        uint32_t taken = reserve_memory(physical.memory_mib, reserve), step = 1;
        Resources left = { .memory_mib = physical.memory_mib - MIN(physical.memory_mib, taken),
                           .cpu_percent = physical.cpu_percent -
                                          MIN(physical.cpu_percent, reserve->cpu_percent) };

        while (left.memory_mib / step >> (ROUNDED_BITS + 1))
                step *= 2;
        left.memory_mib -= left.memory_mib % step;
        return left;
}

/* -- The host -- */

/* Return the number after "NAME:" in /proc/meminfo, or 0. */
static uint64_t meminfo_value(const char *text, const char *name) {
        const char *line = strstr(text, name);

        return line ? strtoull(line + strlen(name), NULL, 10) : 0;
}

/* Reduce *bytes to the limit of a control group; it may have none, or no file. */
static void memory_limit(int root, const char *group, uint64_t *bytes) {
        _cleanup_free_ char *text = NULL;
        char path[PATH_MAX];
        uint64_t limit;

        snprintf(path, sizeof(path), "sys/fs/cgroup%s/memory.max", group);
        if (read_file_at(root, path, PROC_TEXT_MAX, &text, NULL) < 0)
                return;
        text[strcspn(text, "\n")] = 0;
        if (parse_u64(text, &limit) >= 0)
                *bytes = MIN(*bytes, limit);
}

/* Apply the limits of each group from that of process 1 to the visible root. */
static void memory_limits(int root, uint64_t *bytes) {
        _cleanup_free_ char *text = NULL;
        char *group, *end;

        (void) read_file_at(root, "proc/1/cgroup", PROC_TEXT_MAX, &text, NULL);
        group = text ? strstr(text, "0::/") : NULL;
        if (group) {
                group += strlen("0::");
                group[strcspn(group, "\n")] = 0;
        }
        for (; group && (end = strrchr(group, '/')); *end = 0)
                memory_limit(root, group, bytes);
        memory_limit(root, "", bytes);
}

int capacity_read(int root, unsigned cpus, Resources *ret) {
        _cleanup_free_ char *memory = NULL, *cpu = NULL;
        uint64_t bytes, huge, percent = (uint64_t) cpus * 100;
        unsigned long long quota, period;

        TRY(read_file_at(root, "proc/meminfo", PROC_TEXT_MAX, &memory, NULL));
        bytes = meminfo_value(memory, "MemTotal:") << 10;
        huge = meminfo_value(memory, "HugePages_Total:") * (meminfo_value(memory, "Hugepagesize:") << 10);
        memory_limits(root, &bytes);
        bytes -= MIN(bytes, huge);
        if (read_file_at(root, "sys/fs/cgroup/cpu.max", PROC_TEXT_MAX, &cpu, NULL) >= 0 &&
            sscanf(cpu, "%llu %llu", &quota, &period) == 2 && period > 0)
                percent = MIN(percent, quota / period * 100 + quota % period * 100 / period);
        *ret = (Resources) { .memory_mib = (uint32_t) MIN(bytes >> 20, UINT32_MAX),
                             .cpu_percent = (uint32_t) MIN(percent, UINT32_MAX) };
        return 0;
}

int capacity_measure(Resources *ret_physical) {
        _cleanup_close_ int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        cpu_set_t cpus[CPUS_MAX / CPU_SETSIZE] = {};

        if (root < 0 || sched_getaffinity(1, sizeof(cpus), cpus) < 0)
                return -errno;
        return capacity_read(root, (unsigned) CPU_COUNT_S(sizeof(cpus), cpus), ret_physical);
}
