/* Units as systemd sees them: their states all at once, then a few properties of each that is loaded. */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "fleetd/systemd/bus_internal.h"
#include "units/name.h"
#include "units/quadlet.h"

enum {
        PROPERTY_BOUND,
        PROPERTY_NEEDED,
        PROPERTY_CONFLICTS,
        PROPERTY_JOB,
        RELATED_MAX = 64,     /* names in one property: what is beyond is no cause */
        TOGETHER_US = 500000, /* what moved so long before a stop, or later, belongs to it */
};

/* A property that is on its way into a listing. */
struct BusProperty {
        BusList *list;
        size_t unit;
        sd_bus_slot *slot;
        int (*read)(sd_bus_message *m, SystemdUnit *u);
        bool names; /* without 'read': names of units, else the state of one of them */
        int kind;   /* which they are */
        TAILQ_ENTRY(BusProperty) properties;
};

int manager_method(SystemdBus *b, const char *member, sd_bus_message **ret) {
        *ret = NULL;
        if (!b->bus || (!b->ready && !b->reloading))
                return -ENOTCONN;
        return sd_bus_message_new_method_call(b->bus, ret, SYSTEMD, SYSTEMD_PATH, MANAGER, member);
}

void manager_list_finish(void *userdata) {
        BusList *list = userdata;

        TAILQ_REMOVE(&list->bus->lists, list, lists);
        for (size_t i = 0; i < list->n; i++) {
                SystemdUnit *u = &list->units[i];
                RuntimeDirEntry *e;

                if (runtime_dir_lost_link(&list->bus->dir, u->name, u->fragment))
                        u->fragment[0] = 0;
                u->owner = systemd_owner(&(SystemdSource) {
                        .alias = u->alias,
                        .load = u->load,
                        .fragment = u->fragment,
                        .our_file = runtime_dir_owns(&list->bus->dir, u->name, u->fragment) });
                HASH_FIND_STR(list->bus->dir.entries, u->name, e);
                if (!e || list->error < 0 || !streq(u->active, "inactive"))
                        continue;
                e->trace.undecided = false;
                u->end = e->trace.end;
        }
        list->done(list->userdata, list->error, list->units, list->error < 0 ? 0 : list->n);
        HASH_CLEAR(by_name, list->by_name);
        HASH_CLEAR(by_known_as, list->by_known_as);
        free(list->names);
        free(list->units);
        free(list);
}

static void list_release(BusList *list) {
        if (--list->pending == 0)
                loop_defer(list->bus->loop, &list->finish);
}

static int read_fragment(sd_bus_message *m, SystemdUnit *u) {
        const char *v;
        int r = sd_bus_message_read(m, "v", "s", &v);

        if (r >= 0)
                snprintf(u->fragment, sizeof(u->fragment), "%s", v);
        return r;
}

static int64_t modified_ns(const char *path) {
        struct stat st;

        return stat(path, &st) < 0 ? 0 : st.st_mtim.tv_sec * INT64_C(1000000000) + st.st_mtim.tv_nsec;
}

/* After FragmentPath. systemd forgets a service that has stopped, and reads it again as it was generated,
 * with the time of a source that is newer by then: NeedDaemonReload says no. So the two files are compared.
 */
static int read_source(sd_bus_message *m, SystemdUnit *u) {
        const char *v;
        int r = sd_bus_message_read(m, "v", "s", &v);

        if (r < 0 || !*v)
                return r;
        u->need_reload |= modified_ns(v) >= modified_ns(u->fragment);
        snprintf(u->fragment, sizeof(u->fragment), "%s", v);
        return r;
}

static int read_need_reload(sd_bus_message *m, SystemdUnit *u) {
        int v, r = sd_bus_message_read(m, "v", "b", &v);

        if (r >= 0)
                u->need_reload |= v;
        return r;
}

static int read_invocation(sd_bus_message *m, SystemdUnit *u) {
        const void *id;
        size_t size;
        int r;

        r = sd_bus_message_enter_container(m, 'v', "ay");
        if (r >= 0)
                r = sd_bus_message_read_array(m, 'y', &id, &size);
        for (size_t i = 0; r >= 0 && size == 16 && i < size; i++)
                snprintf(u->invocation_id + 2 * i, 3, "%02x", ((const uint8_t *) id)[i]);
        return r;
}

static int read_result(sd_bus_message *m, SystemdUnit *u) {
        const char *v;
        int r = sd_bus_message_read(m, "v", "s", &v);

        if (r >= 0)
                snprintf(u->result, sizeof(u->result), "%s", v);
        return r;
}

static void property_free(BusProperty *p) {
        TAILQ_REMOVE(&p->list->properties, p, properties);
        sd_bus_slot_unref(p->slot);
        free(p);
}

/* Nothing more will come: answer now with 'error'. */
void manager_list_abort(BusList *list, int error) {
        while (!TAILQ_EMPTY(&list->properties))
                property_free(TAILQ_FIRST(&list->properties));
        list->error = error;
        list->pending = 0;
        loop_defer(list->bus->loop, &list->finish);
}

static void list_ask_related(BusList *list, size_t unit, const char *name, const char *property, int kind);

/* Names of units of which one may be the cause that this one was stopped, or that it may not run yet. */
static int list_take_names(BusList *list, size_t unit, int kind, sd_bus_message *m) {
        const char *name;
        RuntimeDirEntry *e;
        int r;

        HASH_FIND_STR(list->bus->dir.entries, list->units[unit].name, e);
        r = sd_bus_message_enter_container(m, 'v', "as");
        if (r >= 0)
                r = sd_bus_message_enter_container(m, 'a', "s");
        for (unsigned n = 0; r >= 0 && n < RELATED_MAX && (r = sd_bus_message_read(m, "s", &name)) > 0; n++) {
                if (e && e->trace.undecided &&
                    systemd_moves_have(&list->bus->moves, name,
                                       e->trace.stopped_us -
                                               MIN(e->trace.stopped_us, (uint64_t) TOGETHER_US)))
                        systemd_trace_stopped_for(&e->trace, name);
                if (streq(name, "shutdown.target") ||
                    (e && kind == PROPERTY_NEEDED && !systemd_trace_may_be_for(&e->trace, name)))
                        continue;
                list_ask_related(list, unit, name, "ActiveState", kind);
                if (kind == PROPERTY_CONFLICTS)
                        list_ask_related(list, unit, name, "Job", PROPERTY_JOB);
        }
        return r;
}

/* What it is bound to has to run; what it is in conflict with must have ended, and not be about to begin. */
static int list_take_related(BusList *list, size_t unit, int kind, sd_bus_message *m) {
        SystemdUnit *u = &list->units[unit];
        const char *active, *path;
        uint32_t job;
        int r;

        if (kind == PROPERTY_JOB) {
                r = sd_bus_message_read(m, "v", "(uo)", &job, &path);
                u->held |= r >= 0 && job != 0;
                return r;
        }
        r = sd_bus_message_read(m, "v", "s", &active);
        if (r < 0)
                return r;
        if (kind == PROPERTY_CONFLICTS)
                u->held |= !streq(active, "inactive") && !streq(active, "failed");
        else
                u->held |= !streq(active, "active") && !streq(active, "reloading");
        return 0;
}

static int property_take(BusProperty *p, sd_bus_message *m) {
        if (p->read)
                return p->read(m, &p->list->units[p->unit]);
        if (p->names)
                return list_take_names(p->list, p->unit, p->kind, m);
        return list_take_related(p->list, p->unit, p->kind, m);
}

/* There is no such property: of a unit that went away meanwhile, of another type, or in an older systemd. Any
 * other error says nothing about the unit. */
static bool is_missing(const sd_bus_error *e) {
        static const char *const missing[] = { SD_BUS_ERROR_UNKNOWN_OBJECT, SD_BUS_ERROR_UNKNOWN_INTERFACE,
                                               SD_BUS_ERROR_UNKNOWN_PROPERTY, SYSTEMD ".NoSuchUnit" };

        for (size_t i = 0; i < ELEMENTS(missing); i++)
                if (streq(e->name, missing[i]))
                        return true;
        return false;
}

static int property_on_reply(sd_bus_message *reply, void *userdata, sd_bus_error *unused) {
        const sd_bus_error *e = sd_bus_message_get_error(reply);
        BusProperty *p = userdata;
        BusList *list = p->list;
        int r = 0;

        if (!e)
                r = property_take(p, reply);
        else if (!is_missing(e))
                r = -sd_bus_error_get_errno(e);
        else if (!p->read && !p->names) /* a related unit whose state is not known */
                list->units[p->unit].held = true;
        if (r < 0) /* what was not read is not "none": all is to be read again */
                list->error = r;
        property_free(p);
        list_release(list);
        return 1;
}

static void list_send(BusList *list, const BusProperty *like, const char *path, const char *interface,
                      const char *name) {
        BusProperty *p = NEW0(BusProperty, 1);
        int r;

        if (!p) {
                list->error = -ENOMEM;
                return;
        }
        *p = *like;
        TAILQ_INSERT_TAIL(&list->properties, p, properties);
        r = sd_bus_call_method_async(list->bus->bus, &p->slot, SYSTEMD, path, PROPERTIES, "Get",
                                     property_on_reply, p, "ss", interface, name);
        if (r < 0) {
                list->error = r;
                property_free(p);
                return;
        }
        list->pending++;
}

static void list_ask(BusList *list, size_t unit, const char *path, const char *interface, const char *name,
                     int (*read)(sd_bus_message *m, SystemdUnit *u)) {
        list_send(list, &(BusProperty) { .list = list, .unit = unit, .read = read }, path, interface, name);
}

static void list_ask_related(BusList *list, size_t unit, const char *name, const char *property, int kind) {
        _cleanup_free_ char *path = NULL;

        if (sd_bus_path_encode(SYSTEMD_PATH "/unit", name, &path) < 0)
                list->error = -ENOMEM;
        else
                list_send(list, &(BusProperty) { .list = list, .unit = unit, .kind = kind }, path,
                          SYSTEMD ".Unit", property);
}

/* Why an inactive unit of ours may have been stopped, and whether what it is bound to runs. */
static void list_ask_relations(BusList *list, size_t unit, const char *path) {
        static const struct {
                const char *property;
                int kind;
        } relations[] = {
                { "BindsTo", PROPERTY_BOUND },
                { "Conflicts", PROPERTY_CONFLICTS },
                { "ConflictedBy", PROPERTY_CONFLICTS },
                { "Requisite", PROPERTY_BOUND },
                { "Requires", PROPERTY_NEEDED },
                { "PartOf", PROPERTY_NEEDED },
                { "StopPropagatedFrom", PROPERTY_NEEDED },
        };
        RuntimeDirEntry *e;

        HASH_FIND_STR(list->bus->dir.entries, list->units[unit].name, e);
        if (!e || (!e->trace.undecided && e->trace.end != SYSTEMD_END_STOPPED_FOR &&
                   e->trace.end != SYSTEMD_END_UNKNOWN))
                return;
        for (size_t i = 0; i < ELEMENTS(relations); i++)
                list_send(list,
                          &(BusProperty) {
                                  .list = list, .unit = unit, .names = true, .kind = relations[i].kind },
                          path, SYSTEMD ".Unit", relations[i].property);
}

/* The interface that has "Result": a type's own, with a capital. */
static const char *result_interface(const char *name, char buffer[static 64]) {
        const char *type = quadlet_is(name) ? "service" : unit_name_type(name);

        if (!streq(type, "service") && !streq(type, "socket") && !streq(type, "timer") &&
            !streq(type, "mount") && !streq(type, "path") && !streq(type, "automount") &&
            !streq(type, "swap"))
                return NULL;
        snprintf(buffer, 64, SYSTEMD ".%c%s", type[0] - 'a' + 'A', type + 1);
        return buffer;
}

static int read_type(sd_bus_message *m, SystemdUnit *u) {
        const char *v;
        int r = sd_bus_message_read(m, "v", "s", &v);

        u->oneshot = r >= 0 && streq(v, "oneshot");
        return r;
}

static int read_remain(sd_bus_message *m, SystemdUnit *u) {
        int v, r = sd_bus_message_read(m, "v", "b", &v);

        u->oneshot &= r >= 0 && !v;
        return r;
}

static void list_is_running(BusList *list, size_t unit) {
        RuntimeDirEntry *e;

        HASH_FIND_STR(list->bus->dir.entries, list->units[unit].name, e);
        if (e)
                systemd_trace_running(&e->trace);
}

/* What systemd says of the i-th unit; the rest is asked for. A service and a Quadlet file may be known by one
 * name. */
static void list_take(BusList *list, size_t i, const char *load, const char *active, const char *sub,
                      const char *path, bool job) {
        SystemdUnit *u = &list->units[i];
        const char *interface;
        char buffer[64];

        snprintf(u->load, sizeof(u->load), "%s", load);
        snprintf(u->active, sizeof(u->active), "%s", active);
        snprintf(u->sub, sizeof(u->sub), "%s", sub);
        u->job = job;
        if (streq(load, "not-found"))
                return;
        list_ask(list, i, path, SYSTEMD ".Unit", "FragmentPath", read_fragment);
        if (quadlet_is(u->name)) /* after it, so that it goes over it */
                list_ask(list, i, path, SYSTEMD ".Unit", "SourcePath", read_source);
        list_ask(list, i, path, SYSTEMD ".Unit", "NeedDaemonReload", read_need_reload);
        list_ask(list, i, path, SYSTEMD ".Unit", "InvocationID", read_invocation);
        if ((streq(active, "inactive") || streq(active, "failed")) &&
            (interface = result_interface(u->name, buffer)))
                list_ask(list, i, path, interface, "Result", read_result);
        if (streq(active, "inactive")) {
                list_ask(list, i, path, SYSTEMD ".Service", "Type", read_type);
                list_ask(list, i, path, SYSTEMD ".Service", "RemainAfterExit", read_remain); /* after it */
                list_ask_relations(list, i, path);
        } else if (!streq(active, "failed"))
                list_is_running(list, i);
}

/* One answer a name, in order: an alias is answered with the Id of its unit. Only where systemd left names
 * out (it takes none for a name) the Ids have to do. */
static int list_read(BusList *list, sd_bus_message *reply) {
        const char *id, *load, *active, *sub, *path;
        BusName *asked = list->by_known_as;
        size_t n_answers = 0;
        uint32_t job;
        bool all;
        int r;

        r = sd_bus_message_enter_container(reply, 'a', "(ssssssouso)");
        while (r >= 0 && sd_bus_message_at_end(reply, false) == 0) {
                r = sd_bus_message_skip(reply, "(ssssssouso)");
                n_answers++;
        }
        if (r >= 0)
                r = sd_bus_message_rewind(reply, false);
        all = n_answers == HASH_CNT(by_known_as, list->by_known_as);
        while (r >= 0 && (r = sd_bus_message_read(reply, "(ssssssouso)", &id, NULL, &load, &active, &sub,
                                                  NULL, &path, &job, NULL, NULL)) > 0) {
                BusName *n = asked;

                if (all)
                        asked = asked->by_known_as.next;
                else
                        HASH_FIND(by_known_as, list->by_known_as, id, strlen(id), n);
                for (; n; n = n->same) {
                        list->units[n - list->names].alias = !streq(n->known_as, id);
                        list_take(list, n - list->names, load, active, sub, path, job > 0);
                }
        }
        return r;
}

static void list_finish_files(BusList *list) {
        RuntimeDir *dir = &list->bus->dir;
        bool anew = runtime_dir_check(dir) > 0;

        /* Units that are not in this listing have lost their files, too. */
        if (anew && list->bus->events.on_changed)
                list->bus->events.on_changed(list->bus->events.userdata, NULL);
        for (size_t i = 0; i < list->n; i++) {
                SystemdUnit *u = &list->units[i];
                const RuntimeDirEntry *e = NULL;

                if (runtime_dir_get(dir, u->name, &e) < 0)
                        list->error = -ENOMEM;
                u->has_file = e != NULL;
                if (e)
                        memcpy(u->hash, e->hash, sizeof(u->hash));
        }
}

static int list_on_reply(sd_bus_message *reply, void *userdata, sd_bus_error *unused) {
        BusList *list = userdata;
        const sd_bus_error *e = sd_bus_message_get_error(reply);
        int r = e ? -sd_bus_error_get_errno(e) : list_read(list, reply);

        if (r < 0)
                list->error = r;
        list_finish_files(list);
        list_release(list);
        return 1;
}

static void list_add(BusList *list, const char *name) {
        SystemdUnit *u = &list->units[list->n];
        BusName *n = &list->names[list->n], *other;
        bool added;

        HASH_FIND(by_name, list->by_name, name, strlen(name), other);
        if (other)
                return;
        snprintf(u->name, sizeof(u->name), "%s", name);
        snprintf(u->load, sizeof(u->load), "not-found");
        snprintf(u->active, sizeof(u->active), "inactive");
        snprintf(u->sub, sizeof(u->sub), "dead");
        HASH_ADD_KEYPTR(by_name, list->by_name, u->name, strlen(u->name), n);
        added = n->by_name.tbl;

        quadlet_service(name, n->known_as);
        HASH_FIND(by_known_as, list->by_known_as, n->known_as, strlen(n->known_as), other);
        if (other) {
                n->same = other->same;
                other->same = n;
        } else if (!unit_name_is_template(
                           name)) { /* for one that names a template systemd refuses the whole call */
                HASH_ADD_KEYPTR(by_known_as, list->by_known_as, n->known_as, strlen(n->known_as), n);
                added = added && n->by_known_as.tbl;
        }
        list->n++;
        if (!added)
                list->error = -ENOMEM;
}

int manager_list(Systemd *s, const char *const *names, size_t n, bool files, SystemdListed done,
                 void *userdata) {
        SystemdBus *b = systemd_bus(s);
        BusList *list = NEW0(BusList, 1);
        sd_bus_message *m = NULL;
        int r;

        if (!list)
                return -ENOMEM;
        *list = (BusList) { .bus = b,
                            .done = done,
                            .userdata = userdata,
                            .pending = 1,
                            .finish = DEFERRED(manager_list_finish, list) };
        TAILQ_INIT(&list->properties);
        TAILQ_INSERT_TAIL(&b->lists, list, lists);
        list->units = NEW0(SystemdUnit, n + HASH_COUNT(b->dir.entries) + 1);
        list->names = NEW0(BusName, n + HASH_COUNT(b->dir.entries) + 1);
        if (!list->units || !list->names)
                list->error = -ENOMEM;
        else {
                for (size_t i = 0; i < n; i++)
                        list_add(list, names[i]);
                for (RuntimeDirEntry *e = files ? b->dir.entries : NULL; e; e = e->hh.next)
                        list_add(list, e->name);
        }

        r = list->error < 0 ? list->error : manager_method(b, "ListUnitsByNames", &m);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "s");
        for (const BusName *known = list->by_known_as; r >= 0 && known; known = known->by_known_as.next)
                r = sd_bus_message_append(m, "s", known->known_as);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        if (r >= 0)
                r = sd_bus_call_async(b->bus, NULL, m, list_on_reply, list, BUS_CALL_TIMEOUT_US);
        sd_bus_message_unref(m);
        if (r < 0) {
                list->error = r;
                list_release(list);
        }
        return 0;
}
