#include "dns/table.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/inotify.h>
#include <systemd/sd-event.h>

#include "base/file.h"
#include "base/log.h"

struct TableWatch {
        Table *table; /* borrowed, as the next */
        sd_event *event;
        char *folder;                     /* owned */
        int folder_fd;                    /* -1: absent */
        bool misses;                      /* the folder is absent, and this was logged */
        sd_event_source *inotify, *timer; /* owned; each NULL while it is not needed */
};

static void table_service_free(TableService *s) {
        free(s->name);
        free(s->text);
        free(s->lines);
        free(s);
}

DEFINE_CLEANUP(TableService *, table_service_free)

void table_done(Table *table) {
        TableService *s, *next;

        HASH_ITER(hh, table->services, s, next) {
                HASH_DEL(table->services, s);
                table_service_free(s);
        }
        free(table->host_text);
        *table = (Table) {};
}

const TableService *table_find(const Table *table, const char *name, size_t size) {
        TableService *s;

        HASH_FIND(hh, table->services, name, size, s);
        return s && s->n_lines > 0 ? s : NULL;
}

static int table_by_address(const void *a, const void *b) {
        return memcmp(&((const TableLine *) a)->address, &((const TableLine *) b)->address,
                      sizeof(struct in6_addr));
}

/* Parse a line of the text of a service in place. */
static bool table_line_parse(char *text, size_t size, TableLine *ret) {
        char *at, *dot;
        bool is_ip6;

        *ret = (TableLine) { .address.s6_addr = { [10] = 0xff, 0xff } };
        if (size > ENDPOINT_LINE_MAX || strlen(text) != size || endpoint_line_parse(text, &ret->endpoint) < 0)
                return false;
        at = strchr(ret->endpoint.unit, '@');
        dot = strrchr(ret->endpoint.unit, '.');
        if (dot)
                *dot = 0;
        ret->instance = at && service_label_is_valid(at + 1, SERVICE_NAME_MAX) ? at + 1 : "";
        is_ip6 = strchr(ret->endpoint.address, ':');
        return inet_pton(is_ip6 ? AF_INET6 : AF_INET, ret->endpoint.address,
                         ret->address.s6_addr + (is_ip6 ? 0 : 12)) == 1;
}

/* Parse the text of 's'. Set *ret_invalid to the number of the first line that is invalid, or 0. */
static int table_service_parse(TableService *s, size_t *ret_invalid) {
        size_t n_lines = 0, number = 0;

        for (const char *p = s->text; (p = strchr(p, '\n')); p++)
                n_lines++;
        s->lines = NEW0(TableLine, n_lines + 1);
        if (!s->lines)
                return -ENOMEM;
        for (char *line = s->text, *end; *line; line = end) {
                bool complete;

                end = strchrnul(line, '\n');
                complete = *end;
                *end = 0;
                number++;
                if (complete && table_line_parse(line, (size_t) (end - line), &s->lines[s->n_lines])) {
                        TableLine *new = &s->lines[s->n_lines++];

                        /* Two endpoints may have one label: its hash has 32 bits. */
                        new->is_first = s->n_lines == 1 ||
                                        !streq(new->endpoint.endpoint, new[-1].endpoint.endpoint) ||
                                        !streq(new->endpoint.machine_id, new[-1].endpoint.machine_id) ||
                                        !streq(new->endpoint.unit, new[-1].endpoint.unit);
                } else if (*ret_invalid == 0)
                        *ret_invalid = number;
                end += complete;
        }
        qsort(s->lines, s->n_lines, sizeof(*s->lines), table_by_address);
        return 0;
}

static void table_take_host(Table *table, char *text) {
        EndpointHost host;

        text[strcspn(text, "\n")] = 0;
        if (endpoint_host_parse(text, &host) < 0) {
                log_warning(NO_FIELDS, "services/" SERVICES_HOST " is invalid; keeping the former one");
                free(text);
                return;
        }
        free(table->host_text);
        *table = (Table) { table->services, text, host, true };
}

int table_take(Table *table, const char *name, char *text) {
        _cleanup_(table_service_freep) TableService *s = NULL, *former = NULL;
        _cleanup_free_ char *owned = text;
        size_t invalid = 0;

        if (text && streq(name, SERVICES_HOST))
                table_take_host(table, TAKE_PTR(owned));
        if (!service_label_is_valid(name, SERVICE_NAME_MAX))
                return 0;
        if (text) {
                s = NEW0(TableService, 1);
                if (!s)
                        return -ENOMEM;
                s->text = TAKE_PTR(owned);
                TRY(copy_string(name, &s->name));
                TRY(table_service_parse(s, &invalid));
        }
        former = TABLE_FIND(table->services, name);
        if (former)
                HASH_DEL(table->services, former);
        if (!s)
                return 0;
        s->has_a_fault = invalid > 0;
        if (invalid > 0 && !(former && former->has_a_fault))
                log_warning(NO_FIELDS, "services/%s: line %zu is invalid, and skipped", name, invalid);
        HASH_ADD_KEYPTR(hh, table->services, s->name, strlen(s->name), s);
        if (!TABLE_ADDED(s))
                return -ENOMEM;
        (void) TAKE_PTR(s);
        return 0;
}

/* -- The folder -- */

/* Read one file. A file that cannot be read is absent. */
static int table_watch_read(int folder_fd, const char *name, Table *table) {
        char *text = NULL;

        (void) read_file_at(folder_fd, name, SERVICE_FILE_MAX, &text, NULL);
        return table_take(table, name, text);
}

/* Read all files into a new table, which replaces the former one if it has the file of the host: fleetd has
 * written the folder completely then. */
static int table_watch_read_all(TableWatch *w) {
        _cleanup_(table_done) Table table = {};
        size_t n = 0;
        char **names = NULL;
        int r;

        r = list_folder_at(w->folder_fd, ".", NULL, TABLE_SERVICES_MAX, &names, &n);
        for (size_t i = 0; r >= 0 && i < n; i++)
                r = table_watch_read(w->folder_fd, names[i], &table);
        strings_free(names, n);
        if (r < 0)
                return r;
        if (!table.is_known)
                return -ENOENT;
        table_done(w->table);
        *w->table = TAKE_STRUCT(table);
        return 0;
}

static int table_watch_look(sd_event_source *source, uint64_t usec, void *userdata);

/* Look after a time; an earlier look that is due remains. */
static void table_watch_look_after(TableWatch *w, uint64_t ms) {
        if (!w->timer)
                (void) sd_event_add_time_relative(w->event, &w->timer, CLOCK_MONOTONIC, ms * 1000, 0,
                                                  table_watch_look, w);
}

static int table_watch_on_inotify(sd_event_source *source, const struct inotify_event *e, void *userdata) {
        TableWatch *w = userdata;

        if (e->len > 0 && e->name[0] == '.' && !streq(e->name, SERVICES_HOST))
                return 0; /* a file that becomes one of the others by rename */
        if (e->mask & (IN_DELETE | IN_MOVED_FROM))
                table_watch_look_after(w, TABLE_REMOVED_MS);
        else if (w->misses || e->len == 0 || table_watch_read(w->folder_fd, e->name, w->table) < 0)
                return table_watch_look(NULL, 0, w);
        return 0;
}

static int table_watch_open(TableWatch *w) {
        w->inotify = sd_event_source_unref(w->inotify);
        if (w->folder_fd >= 0)
                close(w->folder_fd);
        w->folder_fd = open(w->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (w->folder_fd < 0)
                return -errno;
        /* The watch begins before the files are read, so that no change is missed. */
        TRY(sd_event_add_inotify(w->event, &w->inotify, w->folder,
                                 IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_DELETE_SELF |
                                         IN_MOVE_SELF | IN_ONLYDIR,
                                 table_watch_on_inotify, w));
        return table_watch_read_all(w);
}

/* Open the folder again, and read all of it. If that fails, try again in a second; the table stays as it is.
 */
static int table_watch_look(sd_event_source *source, uint64_t usec, void *userdata) {
        TableWatch *w = userdata;
        int r = table_watch_open(w);

        w->timer = sd_event_source_unref(w->timer);
        if (r < 0 && !w->misses)
                log_warning(((LogFields) { .error = r }),
                            "Failed to read %s: %s; known names keep their answers; is fleetd running, at "
                            "feature level 11 (fleetctl cluster level)?",
                            w->folder, strerror(-r));
        w->misses = r < 0;
        if (r < 0)
                table_watch_look_after(w, TABLE_LOOK_MS);
        return 0;
}

int table_watch_new(Table *table, sd_event *event, const char *folder, TableWatch **ret) {
        _cleanup_(table_watch_freep) TableWatch *w = NEW0(TableWatch, 1);

        if (!w)
                return -ENOMEM;
        w->table = table;
        w->event = event;
        w->folder_fd = -1;
        TRY(copy_string(folder, &w->folder));
        (void) table_watch_look(NULL, 0, w);
        *ret = TAKE_PTR(w);
        return 0;
}

TableWatch *table_watch_free(TableWatch *w) {
        if (w) {
                sd_event_source_unref(w->inotify);
                sd_event_source_unref(w->timer);
                if (w->folder_fd >= 0)
                        close(w->folder_fd);
                free(w->folder);
        }
        free(w);
        return NULL;
}
