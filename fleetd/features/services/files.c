#include "fleetd/features/services/services_internal.h"

#include "base/file.h"
#include "base/log.h"
#include "fleetd/agent/agent.h"
#include "fleetd/agent/facts.h"
#include "fleetd/features/services/endpoints.h"

enum {
        PASS_MS = 20,    /* between two passes, */
        PASS_SHARE = 20, /* and so many times as long as the last one took */
        PASS_FILES = 64,
        PASS_BYTES = 256 * 1024, /* about 10 ms */
        LOOK_MS = 10000,         /* at the folder, with the slack of */
        LOOK_SOON_MS = 1000,     /* looks at the feature level, and at what the view has */
        FILES_RETRY_MS = 1000,
};

/* A file that exists. */
typedef struct ServiceFile {
        Named service;
        uint64_t hash; /* of its text; 0: it is to be written */
        bool found;    /* by the present look */
} ServiceFile;

/* -- Whose files these are -- */

/* Until the view has this machine, its settings count. */
ServicesSelf services_self(const Services *s) {
        const Settings *settings = s->host->settings;
        const ClusterMachine *m = cluster_machine(registry_cluster(s->host->registry), settings->machine_id);
        bool known = m && m->facts;
        ServicesSelf self = { settings->machine_id, settings->name, NULL,
                              facts_service_address(s->host->facts, settings->service_address),
                              m && m->presence == PRESENCE_UP };

        self.zone = pairs_get(known ? &m->metadata : &settings->metadata, "zone");
        if (known)
                self.name = endpoint_host_name(m);
        if (known && cluster_machine_is_restricted(m)) /* what it states grants nothing */
                self.address = endpoint_address(cluster_machine_address(m));
        return self;
}

void services_wake_all(Services *s) {
        for (const Named *n = s->host->agent ? s->own : NULL; n; n = n->hh.next)
                agent_wake_unit(s->host->agent, n->name);
}

/* -- What is to be written -- */

static void files_wake(Services *s) {
        if (s->host->io.service_files)
                (void) timer_start_by(&s->pass, s->host->io.loop, s->next_ms, 0);
}

static void files_due(Services *s, const char *service) {
        s->all_due |= !named_get(&s->due, service, sizeof(Named));
}

void services_files_due(Services *s, const char (*services)[SERVICE_NAME_MAX + 1]) {
        for (size_t i = 0; i < SERVICES_MAX && services[i][0]; i++)
                files_due(s, services[i]);
        files_wake(s);
}

void services_all_files_due(Services *s) {
        s->all_due = true;
        files_wake(s);
}

/* Add the files of all services that there are, and were. */
static void files_add_all(Services *s) {
        const ClusterService *services = s->sees_others ? registry_cluster(s->host->registry)->services :
                                                          NULL;

        s->all_due = false;
        for (const ClusterService *c = services; c; c = c->hh.next)
                files_due(s, c->name);
        for (const Named *file = s->written; file; file = file->hh.next)
                files_due(s, file->name);
        for (const Named *n = s->own; n; n = n->hh.next) {
                const OwnEndpoint *own = (const OwnEndpoint *) n;

                for (size_t i = 0; i < SERVICES_MAX && own->record.services[i][0]; i++)
                        files_due(s, own->record.services[i]);
        }
}

/* -- The text of a file -- */

static void files_add_endpoint(Text *t, const EndpointRecord *record, const char *machine_id,
                               const char *unit) {
        char endpoint[ENDPOINT_NAME_SIZE];
        EndpointLine line = { endpoint_name(endpoint, record->name, machine_id, unit),
                              record->address,
                              .port_name = "-",
                              .machine_id = machine_id,
                              .zone = record->zone,
                              .unit = unit };

        for (size_t i = 0; i < record->n_ports; i++) {
                line.port = (uint16_t) record->ports[i].number;
                line.protocol = record->ports[i].protocol;
                line.port_name = record->ports[i].name;
                endpoint_line_print(t, &line);
        }
        if (record->n_ports == 0)
                endpoint_line_print(t, &line);
}

/* An own endpoint that a former daemon has listed. */
static void files_take_line(Services *s, const char *service, const EndpointLine *line) {
        OwnEndpoint *own;
        size_t i = 0;

        if (!s->host->agent || !streq(line->machine_id, s->host->settings->machine_id) ||
            unit_name_check(line->unit, NULL) < 0)
                return;
        own = named_get(&s->own, line->unit, sizeof(*own));
        if (!own)
                return;
        s->n_listed += !own->listed;
        own->withdraw_ms = WITHDRAW_MS;
        own->listed = own->former = true;
        while (i < own->record.n_services && !streq(own->record.services[i], service))
                i++;
        if (i == own->record.n_services && i < SERVICES_MAX)
                snprintf(own->record.services[own->record.n_services++], sizeof(own->record.services[i]),
                         "%s", service);
}

/* Return whether nothing is known better: of others without a view, and of own ones that are not decided. */
static bool files_keep_line(const Services *s, const EndpointLine *line) {
        const OwnEndpoint *own = named_find(s->own, line->unit);

        return streq(line->machine_id, s->host->settings->machine_id) ? own && own->former : !s->sees_others;
}

/* Append the lines of a file that are kept; NULL: take all, at the start. Set *ret_hash to the hash of the
 * file; 0: there is none. Return 0 or a negative errno. */
static int files_read(Services *s, const char *service, Text *kept, uint64_t *ret_hash) {
        ServiceFiles *f = s->host->io.service_files;
        _cleanup_free_ char *text = NULL;
        char copy[ENDPOINT_LINE_MAX + 1], *next;
        EndpointLine line;
        int r = f->ops->read(f, service, &text);

        *ret_hash = 0;
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        *ret_hash = XXH3_64bits(text, strlen(text));
        for (char *at = text; *at; at = next) {
                next = strchrnul(at, '\n');
                if (*next)
                        *next++ = 0;
                if (snprintf(copy, sizeof(copy), "%s", at) >= (int) sizeof(copy) ||
                    endpoint_line_parse(copy, &line) < 0)
                        continue;
                if (!kept)
                        files_take_line(s, service, &line);
                else if (files_keep_line(s, &line))
                        text_printf(kept, "%s\n", at);
        }
        return 0;
}

/* Sort the lines. */
static int files_sort(Text *t) {
        _cleanup_names_ Names lines = {};

        TRY(t->error);
        for (const char *at = text_chars(t), *end; (end = strchr(at, '\n')); at = end + 1)
                TRY(names_add(&lines, at, (size_t) (end + 1 - at)));
        if (lines.n > 0)
                qsort(lines.items, lines.n, sizeof(*lines.items), text_compare);
        text_clear(t);
        for (size_t i = 0; i < lines.n; i++)
                text_append(t, lines.items[i]);
        return t->error;
}

static int files_text(Services *s, const char *service, Text *t) {
        const char *self = s->host->settings->machine_id;
        const ClusterService *c = s->sees_others ?
                                          cluster_service(registry_cluster(s->host->registry), service) :
                                          NULL;
        bool keeps = !s->sees_others;

        for (const Named *n = s->own; n; n = n->hh.next) {
                const OwnEndpoint *own = (const OwnEndpoint *) n;

                keeps |= own->former;
                if (own->listed && !own->former && endpoint_is_of(&own->record, service))
                        files_add_endpoint(t, &own->record, self, n->name);
        }
        if (keeps) /* an error is not an empty file: the lines of others would be lost */
                TRY(files_read(s, service, t, &(uint64_t) { 0 }));
        for (size_t i = 0; c && i < c->n_endpoints; i++)
                if (!streq(c->endpoints[i]->machine, self))
                        files_add_endpoint(t, &c->endpoints[i]->record, c->endpoints[i]->machine,
                                           c->endpoints[i]->unit);
        return files_sort(t);
}

/* -- Writing -- */

/* Return 1 if the file has changed, 0 if not, or a negative errno. Add the size of its text to 'bytes'. */
static int files_write(Services *s, const char *service, size_t *bytes) {
        ServiceFiles *f = s->host->io.service_files;
        ServiceFile *file = named_find(s->written, service);
        _cleanup_text_ Text t = {};
        uint64_t hash;

        TRY(files_text(s, service, &t));
        *bytes += t.size;
        loop_count(s->host->io.loop, 0, t.size);
        if (t.size == 0) {
                if (!file)
                        return 0;
                TRY(f->ops->remove(f, service));
                named_remove(&s->written, service);
                return 1;
        }
        hash = XXH3_64bits(t.chars, t.size);
        if (file && file->hash == hash)
                return 0;
        file = named_get(&s->written, service, sizeof(*file));
        if (!file)
                return -ENOMEM;
        TRY(f->ops->write(f, service, t.chars, t.size));
        file->hash = hash;
        return 1;
}

/* All files are as they are to be: write whose they are, if anything has changed. */
static int files_write_host(Services *s) {
        ServiceFiles *f = s->host->io.service_files;
        ServicesSelf self = services_self(s);
        EndpointHost host = { registry_cluster(s->host->registry)->index, self.machine_id, self.name,
                              self.zone, s->complete };
        _cleanup_text_ Text t = {};
        const char *machine;
        uint64_t hash;

        endpoint_host_print(&t, &host);
        TRY(t.error);
        machine = strchr(t.chars, ' '); /* after the index, which alone is no reason */
        hash = XXH3_64bits(machine, strlen(machine));
        if (!s->changed && s->host_hash == hash)
                return 0;
        TRY(f->ops->write(f, SERVICES_HOST, t.chars, t.size));
        s->host_hash = hash;
        s->changed = false;
        return 0;
}

/* Find the files that were removed, which are to be written again. */
static int files_find_removed(Services *s) {
        ServiceFiles *f = s->host->io.service_files;
        bool host = false;
        ServiceFile *file;
        char **names;
        size_t n;

        TRY(f->ops->list(f, &names, &n));
        for (size_t i = 0; i < n; i++) {
                host |= streq(names[i], SERVICES_HOST);
                file = named_find(s->written, names[i]);
                if (file)
                        file->found = true;
        }
        strings_free(names, n);
        for (Named *written = s->written; written; written = written->hh.next) {
                file = (ServiceFile *) written;
                if (!file->found)
                        file->hash = 0;
                s->all_due |= !file->found;
                file->found = false;
        }
        if (!host)
                s->host_hash = 0;
        return 0;
}

static int files_update(Services *s) {
        ServiceFiles *f = s->host->io.service_files;
        size_t bytes = 0;
        int r = TRY(f->ops->open(f));

        if (r > 0) {
                if (s->host_hash)
                        log_notice(NO_FIELDS,
                                   "the folder of the files of services was removed; writing them again");
                named_clear(&s->written);
                s->host_hash = 0;
                s->all_due = true;
        } else if (!s->due && !s->all_due)
                TRY(files_find_removed(s));
        if (s->all_due)
                files_add_all(s);
        for (unsigned n = 0; s->due && n < PASS_FILES && bytes < PASS_BYTES; n++) {
                r = TRY(files_write(s, s->due->name, &bytes));
                s->changed |= r > 0;
                named_remove(&s->due, s->due->name);
        }
        return s->due || s->all_due ? 0 : files_write_host(s);
}

/* Return whether the others have not registered again yet what they have. */
static bool files_follow_restore(const Cluster *c) {
        char lineage[LINEAGE_SIZE];
        const ClusterLineage *begun = c->adopting ? cluster_lineage(c, hex64_print(c->lineage, lineage)) :
                                                    NULL;

        return begun && begun->record.kind == LINEAGE_RESTORED;
}

/* Look at the feature level, and whether the view has what others have registered. An agent has a majority's
 * word for that: the tree of a host that was off for long is old. */
static void files_look(Services *s) {
        const ComponentHost *host = s->host;
        bool level = s->level, sees = s->sees_others;
        KvState state;

        kv_state(host->store, &state);
        s->level |= state.level >= KV_LEVEL_SERVICES;
        s->level_known |= state.ready;
        s->sees_others |= s->level && state.ready && registry_ready(host->registry) &&
                          (!host->agent || agent_is_fresh(host->agent));
        s->sees_others &= !files_follow_restore(registry_cluster(host->registry));
        s->complete |= s->sees_others;
        s->all_due |= s->level != level || s->sees_others != sees;
        if (s->level != level)
                services_wake_all(s);
}

void services_on_pass(void *userdata) {
        Services *s = userdata;
        Loop *loop = s->host->io.loop;
        uint64_t begun_ns = loop_clock_ns(loop), took_ms;
        int r = 0;

        files_look(s);
        if (s->level || (!s->level_known && s->own))
                r = files_update(s);
        if (r < 0 && r != s->files_error)
                log_warning(((LogFields) { .error = r }),
                            "Failed to write the files of services: %s; trying again", strerror(-r));
        s->files_error = r;
        took_ms = (loop_clock_ns(loop) - begun_ns) * PASS_SHARE / 1000000;
        s->next_ms = loop_now_ms(loop) + (r < 0 ? FILES_RETRY_MS : MAX(took_ms, (uint64_t) PASS_MS));
        if (r < 0 || s->due || s->all_due)
                files_wake(s);
        else
                (void) timer_start_with_slack(&s->pass, loop, s->sees_others ? LOOK_MS : LOOK_SOON_MS,
                                              LOOK_SOON_MS);
}

/* -- The start -- */

static void files_read_host(Services *s) {
        ServiceFiles *f = s->host->io.service_files;
        _cleanup_free_ char *text = NULL;
        EndpointHost host;

        if (f->ops->read(f, SERVICES_HOST, &text) < 0)
                return;
        text[strcspn(text, "\n")] = 0;
        s->complete = endpoint_host_parse(text, &host) >= 0 && host.complete;
}

int services_read_files(Services *s) {
        ServiceFiles *f = s->host->io.service_files;
        char **names = NULL;
        size_t n = 0;
        int r = 0;

        if (!f || f->ops->list(f, &names, &n) < 0)
                return 0;
        files_read_host(s);
        for (size_t i = 0; i < n && r == 0; i++)
                if (service_label_is_valid(names[i], SERVICE_NAME_MAX)) {
                        ServiceFile *file = named_get(&s->written, names[i], sizeof(*file));

                        if (file)
                                (void) files_read(s, names[i], NULL, &file->hash);
                        r = file ? 0 : -ENOMEM;
                }
        strings_free(names, n);
        return r;
}
