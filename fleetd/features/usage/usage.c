#include "fleetd/features/usage/usage.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/statvfs.h>

#include "base/clock.h"
#include "base/parse.h"
#include "fleetd/metrics/process.h"
#include "fleetd/metrics/units.h"
#include "units/json.h"

enum { USAGE_NICE = 19, USAGE_SHARE = 10 /* the interval is so many times as long as a round, at least */ };

int usage_interval_parse(const char *text, uint64_t *ret_ms, Error *err) {
        uint64_t ms;

        if (parse_span_ms(text, &ms) < 0 || ms < USAGE_INTERVAL_MIN_MS || ms > USAGE_INTERVAL_MAX_MS)
                return error_set(err, -EINVAL, "interval: expected 1s to 1h");
        *ret_ms = ms;
        return 0;
}

uint64_t usage_interval_next(uint64_t interval_ms, uint64_t cpu_ns) {
        if (cpu_ns <= interval_ms * NS_PER_MS / USAGE_SHARE)
                return interval_ms;
        return MIN(2 * interval_ms, (uint64_t) USAGE_INTERVAL_MAX_MS);
}

/* -- One line -- */

static void usage_add(Text *t, const char *name, const MetricsFigure *f) {
        if (f->known && f->value <= INT64_MAX) { /* what a reader of JSON takes for an integer */
                json_begin(t, name);
                text_append_u64(t, f->value);
        }
}

static void usage_add_pressure(Text *t, const MetricsFigure stalled_us[static _METRICS_RESOURCE_MAX]) {
        json_open(t, "pressure", '{');
        for (MetricsResource i = 0; i < _METRICS_RESOURCE_MAX; i++)
                usage_add(t, metrics_resource_names[i], &stalled_us[i]);
        json_close(t, '}');
}

/* "cpu  USER NICE SYSTEM IDLE IOWAIT IRQ SOFTIRQ STEAL ...", in ticks; proc_stat(5). */
static void usage_add_processors(Text *t, int proc) {
        enum { IDLE = 3, IOWAIT = 4, COLUMNS = 8 };
        uint64_t tick_us = 1000000 / (uint64_t) sysconf(_SC_CLK_TCK);
        MetricsFigure busy = { .known = true }, idle = busy;
        char text[METRICS_FILE_MAX], *at = text;

        if (!metrics_file_read(proc, "stat", text) || !starts_with(text, "cpu "))
                return;
        strsep(&at, " ");
        at += strspn(at, " ");
        for (size_t i = 0; i < COLUMNS && at; i++) {
                uint64_t n;

                if (parse_u64(strsep(&at, " \n"), &n) < 0)
                        return;
                *(i == IDLE || i == IOWAIT ? &idle.value : &busy.value) += n * tick_us;
        }
        usage_add(t, "busy", &busy);
        usage_add(t, "idle", &idle);
}

static void usage_add_disk(Text *t, const char *path) {
        struct statvfs st;

        if (statvfs(path, &st) < 0)
                return;
        json_open(t, "disk", '{');
        usage_add(t, "size", &(MetricsFigure) { .known = true, .value = st.f_blocks * st.f_frsize });
        usage_add(t, "free", &(MetricsFigure) { .known = true, .value = st.f_bavail * st.f_frsize });
        json_close(t, '}');
}

static void usage_add_host(Text *t, const UsageRoots *roots) {
        static const char *const memory[] = { "MemTotal:", "MemAvailable:" }, *const names[] = {
                "memory", "available"
        };
        _cleanup_close_ int proc = open(roots->proc, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        MetricsFigure stalled_us[_METRICS_RESOURCE_MAX] = {};

        json_open(t, "host", '{');
        usage_add_processors(t, proc);
        for (size_t i = 0; i < ELEMENTS(memory); i++) {
                MetricsFigure f = {};

                metrics_file_get(proc, "meminfo", memory[i], &f);
                f.value *= 1024;
                usage_add(t, names[i], &f);
        }
        usage_add_disk(t, roots->disk);
        for (MetricsResource i = 0; i < _METRICS_RESOURCE_MAX; i++) {
                char name[32];

                snprintf(name, sizeof(name), "pressure/%s", metrics_resource_names[i]);
                metrics_file_get(proc, name, " total=", &stalled_us[i]);
        }
        usage_add_pressure(t, stalled_us);
        json_close(t, '}');
}

static void usage_add_unit(Text *t, const MetricsUnit *u) {
        json_open(t, NULL, '{');
        json_add_string_always(t, "name", u->name);
        usage_add(t, "cpu", &u->cpu_us);
        usage_add(t, "memory", &u->memory_bytes);
        usage_add(t, "tasks", &u->tasks);
        usage_add(t, "read", &u->read_bytes);
        usage_add(t, "written", &u->written_bytes);
        usage_add_pressure(t, u->stalled_us);
        json_close(t, '}');
}

/* Find the names of the units whose files are in the folder. The caller frees *ret. 0 or -ENOMEM. */
static int usage_list(const char *path, MetricsUnit **ret, size_t *ret_n) {
        _cleanup_free_ MetricsUnit *units = NULL;
        DIR *folder = opendir(path);
        size_t n = 0;

        for (const struct dirent *e; folder && (e = readdir(folder));) {
                MetricsUnit *grown;

                if (unit_name_check(e->d_name, NULL) < 0 || !unit_name_has_type(e->d_name))
                        continue;
                grown = realloc(units, (n + 1) * sizeof(*units));
                if (!grown) {
                        closedir(folder);
                        return -ENOMEM;
                }
                units = grown;
                units[n] = (MetricsUnit) {};
                metrics_unit_init(&units[n++], e->d_name);
        }
        if (folder)
                closedir(folder);
        *ret = TAKE_PTR(units);
        *ret_n = n;
        return 0;
}

/* Where the controllers are in the former hierarchy, systemd mounts v2 below the folder, for processes. */
static void usage_read_cgroups(const char *root, MetricsUnit *units, size_t n) {
        _cleanup_free_ char *below = NULL;

        if (asprintf(&below, "%s/unified", root) < 0) {
                below = NULL;
                return;
        }
        metrics_units_read(access(below, F_OK) == 0 ? below : root, units, n);
}

int usage_append(Text *t, const UsageRoots *roots, uint64_t at_us) {
        _cleanup_free_ MetricsUnit *units = NULL;
        size_t n;

        TRY(usage_list(roots->units, &units, &n));
        usage_read_cgroups(roots->cgroups, units, n);
        json_open(t, NULL, '{');
        usage_add(t, "at", &(MetricsFigure) { .known = true, .value = at_us });
        usage_add(t, "cpus",
                  &(MetricsFigure) { .known = true, .value = (uint64_t) sysconf(_SC_NPROCESSORS_ONLN) });
        usage_add_host(t, roots);
        json_open(t, "units", '[');
        for (size_t i = 0; i < n; i++)
                usage_add_unit(t, &units[i]);
        json_close(t, ']');
        json_close(t, '}');
        text_append(t, "\n");
        return t->error;
}

/* -- The process -- */

/* Wait, and return whether the output is still read: the other end of a pipe may be closed meanwhile. */
static bool usage_wait(uint64_t ms) {
        struct pollfd output = { .fd = STDOUT_FILENO };

        return poll(&output, 1, (int) ms) == 0;
}

static bool usage_write(const Text *t) {
        for (size_t done = 0; done < t->size;) {
                ssize_t n = write(STDOUT_FILENO, t->chars + done, t->size - done);

                if (n < 0)
                        return false;
                done += (size_t) n;
        }
        return true;
}

int usage_run(const char *interval) {
        static const UsageRoots roots = {
                .units = "/run/fleet/units", .cgroups = "/sys/fs/cgroup", .proc = "/proc", .disk = "/var/lib"
        };
        MetricsProcess before, after;
        uint64_t interval_ms;
        Error err = {};

        if (usage_interval_parse(interval, &interval_ms, &err) < 0) {
                fprintf(stderr, "fleetd: %s\n", err.message);
                return EXIT_FAILURE;
        }
        (void) setpriority(PRIO_PROCESS, 0, USAGE_NICE);
        do {
                _cleanup_text_ Text t = {};

                metrics_process_read(&before);
                if (usage_append(&t, &roots, clock_boot_ms() * 1000) < 0 || !usage_write(&t))
                        return EXIT_FAILURE;
                metrics_process_read(&after);
                interval_ms = usage_interval_next(interval_ms, after.cpu_ns - before.cpu_ns);
        } while (usage_wait(interval_ms));
        return EXIT_SUCCESS;
}
