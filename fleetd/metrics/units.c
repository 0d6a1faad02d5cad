#include "fleetd/metrics/units.h"

#include <dirent.h>
#include <fcntl.h>

enum { SLICES_DEPTH_MAX = 16 };

const char *const metrics_resource_names[_METRICS_RESOURCE_MAX] = { "cpu", "memory", "io" };

void metrics_unit_init(MetricsUnit *unit, const char *name) {
        snprintf(unit->name, sizeof(unit->name), "%s", name);
        quadlet_service(name, unit->cgroup);
}

/* -- Files of the kernel -- */

bool metrics_file_read(int dir_fd, const char *name, char text[static METRICS_FILE_MAX]) {
        int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
        ssize_t n;

        if (fd < 0)
                return false;
        n = read(fd, text, METRICS_FILE_MAX - 1);
        close(fd);
        text[MAX(n, (ssize_t) 0)] = 0;
        return n > 0;
}

static bool read_number(const char *digits, uint64_t *ret) {
        char *end;

        digits += strspn(digits, " ");
        if (*digits < '0' || *digits > '9')
                return false;
        *ret = strtoull(digits, &end, 10);
        return *end == 0 || *end == ' ' || *end == '\n';
}

void metrics_file_get(int dir_fd, const char *name, const char *label, MetricsFigure *ret) {
        char text[METRICS_FILE_MAX];
        const char *at;

        if (!metrics_file_read(dir_fd, name, text))
                return;
        at = strstr(text, label);
        ret->known = at && read_number(at + strlen(label), &ret->value);
}

/* Add up the bytes of all devices: "8:0 rbytes=1 wbytes=2 rios=3 ...". A complete line ends in "\n". */
static void cgroup_get_io(int dir_fd, MetricsUnit *u) {
        char text[METRICS_FILE_MAX];
        uint64_t n;

        if (!metrics_file_read(dir_fd, "io.stat", text))
                return;
        u->read_bytes.known = u->written_bytes.known = true;
        for (const char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
                const char *in = strstr(line, " rbytes="), *out = strstr(line, " wbytes=");

                if (in && in < end && read_number(in + strlen(" rbytes="), &n))
                        u->read_bytes.value += n;
                if (out && out < end && read_number(out + strlen(" wbytes="), &n))
                        u->written_bytes.value += n;
        }
}

static void cgroup_read_unit(int dir_fd, MetricsUnit *u) {
        static const char *const pressures[_METRICS_RESOURCE_MAX] = { "cpu.pressure", "memory.pressure",
                                                                      "io.pressure" };

        metrics_file_get(dir_fd, "cpu.stat", "usage_usec ", &u->cpu_us);
        metrics_file_get(dir_fd, "memory.current", "", &u->memory_bytes);
        metrics_file_get(dir_fd, "pids.current", "", &u->tasks);
        cgroup_get_io(dir_fd, u);
        for (MetricsResource i = 0; i < _METRICS_RESOURCE_MAX; i++)
                metrics_file_get(dir_fd, pressures[i], " total=", &u->stalled_us[i]);
}

/* -- Folders -- */

typedef struct UnitsRead {
        MetricsUnit *units; /* sorted */
        size_t n;
        bool *found; /* for each of them: it has a cgroup */
} UnitsRead;

static int unit_compare(const void *a, const void *b) {
        return strcmp(((const MetricsUnit *) a)->cgroup, ((const MetricsUnit *) b)->cgroup);
}

static int unit_compare_name(const void *name, const void *unit) {
        return strcmp(name, ((const MetricsUnit *) unit)->cgroup);
}

/* Takes over 'fd'. systemd puts "_" before a name that could be a file of the kernel. */
static void cgroup_walk(const UnitsRead *r, int fd, unsigned depth) {
        const struct dirent *entry;
        DIR *folder = fdopendir(fd);

        if (!folder) {
                close(fd);
                return;
        }
        while ((entry = readdir(folder))) {
                const char *name = entry->d_name + (entry->d_name[0] == '_');
                MetricsUnit *u = NULL;
                bool slice = ends_with(name, ".slice");
                int child;

                if (entry->d_type != DT_DIR || name[0] == '.')
                        continue;
                if (r->n > 0)
                        u = bsearch(name, r->units, r->n, sizeof(*r->units), unit_compare_name);
                if (u)
                        r->found[u - r->units] = true;
                if ((!u || u->resumed) && !slice)
                        continue;
                child = openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                if (child < 0)
                        continue;
                if (u && !u->resumed)
                        cgroup_read_unit(child, u);
                if (slice && depth < SLICES_DEPTH_MAX)
                        cgroup_walk(r, child, depth + 1);
                else
                        close(child);
        }
        closedir(folder);
}

/* Return whether nothing shows that the unit has another cgroup than before. */
static bool unit_is_unchanged(const MetricsUnit *u, const MetricsUnit *former) {
        return streq(u->name, former->name) && u->active == former->active && u->failed == former->failed &&
               u->inactive == former->inactive && u->since_ms == former->since_ms &&
               u->restarts == former->restarts;
}

void metrics_units_resume(MetricsUnit *units, size_t n, size_t first, const MetricsUnit *former,
                          size_t n_former) {
        if (n <= METRICS_READ_MAX || n_former == 0)
                return;
        qsort(units, n, sizeof(*units), unit_compare);
        for (size_t i = 0; i < n; i++) {
                const MetricsUnit *f = bsearch(units[i].cgroup, former, n_former, sizeof(*former),
                                               unit_compare_name);

                if ((i + n - first % n) % n < METRICS_READ_MAX || !f || !unit_is_unchanged(&units[i], f))
                        continue;
                units[i] = *f;
                units[i].resumed = true;
        }
}

static void unit_forget_figures(MetricsUnit *u) {
        u->cpu_us = u->memory_bytes = u->tasks = u->read_bytes = u->written_bytes = (MetricsFigure) {};
        for (MetricsResource i = 0; i < _METRICS_RESOURCE_MAX; i++)
                u->stalled_us[i] = (MetricsFigure) {};
}

void metrics_units_read(const char *root, MetricsUnit *units, size_t n) {
        _cleanup_free_ bool *found = n > 0 ? NEW0(bool, n) : NULL;
        UnitsRead r = { .units = units, .n = n, .found = found };
        int fd;

        if (!found)
                return;
        qsort(units, n, sizeof(*units), unit_compare);
        fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd >= 0)
                cgroup_walk(&r, fd, 0);
        for (size_t i = 0; i < n; i++)
                if (!found[i])
                        unit_forget_figures(&units[i]);
}

/* -- Samples -- */

static void add_figure(MetricsWriter *w, const MetricsUnit *u, const MetricsFigure *f) {
        if (f->known)
                metrics_add(w, f->value, u->name, NULL);
}

void metrics_write_active(MetricsWriter *w, const MetricsUnit *u) {
        metrics_add(w, u->active, u->name, NULL);
}

void metrics_write_failed(MetricsWriter *w, const MetricsUnit *u) {
        metrics_add(w, u->failed, u->name, NULL);
}

void metrics_write_start(MetricsWriter *w, const MetricsUnit *u) {
        if (u->active && u->since_ms > 0)
                metrics_add_ns(w, u->since_ms * NS_PER_MS, u->name, NULL);
}

void metrics_write_restarts(MetricsWriter *w, const MetricsUnit *u) {
        if (!u->inactive)
                metrics_add(w, u->restarts, u->name, NULL);
}

void metrics_write_cpu(MetricsWriter *w, const MetricsUnit *u) {
        if (u->cpu_us.known)
                metrics_add_ns(w, u->cpu_us.value * NS_PER_US, u->name, NULL);
}

void metrics_write_memory(MetricsWriter *w, const MetricsUnit *u) {
        add_figure(w, u, &u->memory_bytes);
}

void metrics_write_tasks(MetricsWriter *w, const MetricsUnit *u) {
        add_figure(w, u, &u->tasks);
}

void metrics_write_read(MetricsWriter *w, const MetricsUnit *u) {
        add_figure(w, u, &u->read_bytes);
}

void metrics_write_written(MetricsWriter *w, const MetricsUnit *u) {
        add_figure(w, u, &u->written_bytes);
}

void metrics_write_pressure(MetricsWriter *w, const MetricsUnit *u) {
        for (MetricsResource i = 0; i < _METRICS_RESOURCE_MAX; i++)
                if (u->stalled_us[i].known)
                        metrics_add_ns(w, u->stalled_us[i].value * NS_PER_US, u->name,
                                       metrics_resource_names[i]);
}
