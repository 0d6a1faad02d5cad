/* Listings of units: the states of all units at once, then a few properties of each loaded unit. */
#include <sys/stat.h>

#include "fleetd/systemd/bus_internal.h"
#include "units/quadlet.h"
#include "units/state.h"

enum {
        PROPERTY_BOUND,
        PROPERTY_NEEDED,
        PROPERTY_CONFLICTS,
        PROPERTY_JOB,
        PROPERTY_GUARD,       /* of a singleton, which is bound to it */
        RELATED_MAX = 64,     /* names read from one property */
        TOGETHER_US = 500000, /* changes from so long before a stop on count as its cause */
};

/* A property of a listing that is being read. */
struct BusProperty {
        BusList *list;
        size_t unit;
        sd_bus_slot *slot;
        int (*read)(sd_bus_message *m, SystemdUnit *u);
        bool all;      /* without 'read': all properties of an interface, of an inactive unit; */
        int kind;      /* otherwise of a related unit, by the kind of relation */
        char *related; /* owned; the unit, if this is a property of a related one */
        TAILQ_ENTRY(BusProperty) properties;
};

int manager_method(SystemdBus *b, const char *member, sd_bus_message **ret) {
        *ret = NULL;
        if (!b->bus || (!b->ready && !b->reloading))
                return -ENOTCONN;
        return sd_bus_message_new_method_call(b->bus, ret, SYSTEMD, SYSTEMD_PATH, MANAGER, member);
}

void manager_copy_message(char *ret, size_t size, const char *message) {
        size_t n = strlen(message);

        text_format(ret, size, "%.*s", (int) (n - (n > 0 && message[n - 1] == '.')), message);
}

void manager_list_finish(void *userdata) {
        BusList *list = userdata;

        TAILQ_REMOVE(&list->bus->lists, list, lists);
        for (size_t i = 0; i < list->n; i++) {
                SystemdUnit *u = &list->units[i];
                RuntimeDirEntry *e = runtime_dir_find(&list->bus->dir, u->name);

                if (runtime_dir_lost_link(&list->bus->dir, u->name, u->fragment))
                        u->fragment[0] = 0;
                u->owner = systemd_owner(u, runtime_dir_owns(&list->bus->dir, u->name, u->fragment));
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

static void manager_list_release(BusList *list) {
        if (--list->pending == 0)
                loop_defer(list->bus->loop, &list->finish);
}

static int manager_read_text(sd_bus_message *m, char *ret, size_t size) {
        const char *v;
        int r = sd_bus_message_read(m, "v", "s", &v);

        if (r >= 0)
                snprintf(ret, size, "%s", v);
        return r;
}

static int manager_read_fragment(sd_bus_message *m, SystemdUnit *u) {
        return manager_read_text(m, u->fragment, sizeof(u->fragment));
}

static int manager_read_result(sd_bus_message *m, SystemdUnit *u) {
        return manager_read_text(m, u->result, sizeof(u->result));
}

static int manager_read_exec_code(sd_bus_message *m, SystemdUnit *u) {
        return sd_bus_message_read(m, "v", "i", &u->exec_code);
}

static int manager_read_exec_status(sd_bus_message *m, SystemdUnit *u) {
        return sd_bus_message_read(m, "v", "i", &u->exec_status);
}

static int manager_read_restarts(sd_bus_message *m, SystemdUnit *u) {
        return sd_bus_message_read(m, "v", "u", &u->n_restarts);
}

static int manager_read_load_error(sd_bus_message *m, SystemdUnit *u) {
        const char *name, *message;
        int r = sd_bus_message_read(m, "v", "(ss)", &name, &message);

        if (r >= 0 && !streq(u->load, "loaded"))
                manager_copy_message(u->load_error, sizeof(u->load_error), message);
        return r;
}

static int64_t manager_modified_ns(const char *path) {
        struct stat st;

        return stat(path, &st) < 0 ? 0 : st.st_mtim.tv_sec * INT64_C(1000000000) + st.st_mtim.tv_nsec;
}

/* Return when a source of podman's generator, or a drop-in that fleetd adds to it, was written last. */
static int64_t manager_source_modified_ns(const char *source) {
        int64_t newest_ns = manager_modified_ns(source);
        char path[DROP_IN_PATH_SIZE];

        for (DropIn f = 0; f < _DROP_IN_MAX; f++)
                if (drop_in_path(source, f, path) == 0)
                        newest_ns = MAX(newest_ns, manager_modified_ns(path));
        return newest_ns;
}

/* Runs after FragmentPath. systemd unloads a stopped service, and loads it again as it was generated, with
 * the modification time of the source at that moment: NeedDaemonReload is false although the source is newer.
 * So compare the times of both files. */
static int manager_read_source(sd_bus_message *m, SystemdUnit *u) {
        const char *v;
        int r = sd_bus_message_read(m, "v", "s", &v);

        if (r < 0 || !*v)
                return r;
        u->need_reload |= manager_source_modified_ns(v) >= manager_modified_ns(u->fragment);
        snprintf(u->fragment, sizeof(u->fragment), "%s", v);
        return r;
}

static int manager_read_need_reload(sd_bus_message *m, SystemdUnit *u) {
        int v, r = sd_bus_message_read(m, "v", "b", &v);

        if (r >= 0)
                u->need_reload |= v;
        return r;
}

static int manager_read_invocation(sd_bus_message *m, SystemdUnit *u) {
        const void *id;
        size_t size;
        int r;

        TRY(sd_bus_message_enter_container(m, 'v', "ay"));
        r = sd_bus_message_read_array(m, 'y', &id, &size);
        if (r >= 0 && size == 16)
                hex_print(id, size, u->invocation_id);
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static void manager_property_free(BusProperty *p) {
        TAILQ_REMOVE(&p->list->properties, p, properties);
        sd_bus_slot_unref(p->slot);
        free(p->related);
        free(p);
}

void manager_list_abort(BusList *list, int error) {
        while (!TAILQ_EMPTY(&list->properties))
                manager_property_free(TAILQ_FIRST(&list->properties));
        list->error = error;
        list->pending = 0;
        loop_defer(list->bus->loop, &list->finish);
}

static void manager_list_get_related(BusList *list, size_t unit, const char *name, const char *property,
                                     int kind);

/* Read names of related units: they may have caused the stop of this unit, or prevent its start. */
static int manager_list_read_relation(BusList *list, size_t unit, int kind, sd_bus_message *m) {
        RuntimeDirEntry *e = runtime_dir_find(&list->bus->dir, list->units[unit].name);
        const char *name;
        int r;

        TRY(sd_bus_message_enter_container(m, 'v', "as"));
        r = sd_bus_message_enter_container(m, 'a', "s");
        for (unsigned n = 0; r >= 0 && (r = sd_bus_message_read(m, "s", &name)) > 0; n++) {
                if (n >= RELATED_MAX)
                        continue;
                if (e && e->trace.undecided &&
                    systemd_moves_have(list->bus->moves, name,
                                       e->trace.stopped_us - MIN(e->trace.stopped_us, (uint64_t) TOGETHER_US),
                                       e->trace.begun_signal))
                        systemd_trace_stopped_for(&e->trace, name);
                if (streq(name, "shutdown.target") ||
                    (e && kind == PROPERTY_NEEDED && !systemd_trace_may_be_for(&e->trace, name)))
                        continue;
                manager_list_get_related(list, unit, name, "ActiveState",
                                         starts_with(name, SINGLETON_GUARD) ? PROPERTY_GUARD : kind);
                if (kind == PROPERTY_CONFLICTS)
                        manager_list_get_related(list, unit, name, "Job", PROPERTY_JOB);
        }
        for (unsigned i = 0; r >= 0 && i < 2; i++)
                r = sd_bus_message_exit_container(m);
        return r;
}

static void manager_hold(SystemdUnit *u, const BusProperty *p) {
        u->held = true;
        if (!u->held_by[0])
                snprintf(u->held_by, sizeof(u->held_by), "%s", p->related);
}

/* A unit that this one is bound to has to run; a conflicting one must have stopped, without a queued job. */
static int manager_list_read_related(BusList *list, const BusProperty *p, sd_bus_message *m) {
        SystemdUnit *u = &list->units[p->unit];
        bool active, ended;
        const char *v;
        uint32_t job;
        int r;

        if (p->kind == PROPERTY_JOB) {
                r = sd_bus_message_read(m, "v", "(uo)", &job, &v);
                if (r >= 0 && job != 0)
                        manager_hold(u, p);
                return r;
        }
        TRY(sd_bus_message_read(m, "v", "s", &v));
        active = active_state_is_up(v);
        ended = streq(v, "inactive") || streq(v, "failed");
        if (p->kind == PROPERTY_GUARD)
                u->unguarded |= !streq(v, "active");
        else if (p->kind == PROPERTY_CONFLICTS ? !ended : !active)
                manager_hold(u, p);
        return 0;
}

/* Return whether the property does not exist: the unit was unloaded meanwhile, has another type, or systemd
 * is older. Other errors do not describe the unit. */
static bool manager_is_missing(const sd_bus_error *e) {
        static const char *const missing[] = { SD_BUS_ERROR_UNKNOWN_OBJECT, SD_BUS_ERROR_UNKNOWN_INTERFACE,
                                               SD_BUS_ERROR_UNKNOWN_PROPERTY, SYSTEMD ".NoSuchUnit" };

        for (size_t i = 0; i < ELEMENTS(missing); i++)
                if (streq(e->name, missing[i]))
                        return true;
        return false;
}

/* 'oneshot' is set before: both properties may take it back, in any order. */
static int manager_read_type(sd_bus_message *m, SystemdUnit *u) {
        const char *v;
        int r = sd_bus_message_read(m, "v", "s", &v);

        u->oneshot &= r >= 0 && streq(v, "oneshot");
        return r;
}

static int manager_read_remain(sd_bus_message *m, SystemdUnit *u) {
        int v, r = sd_bus_message_read(m, "v", "b", &v);

        u->oneshot &= r >= 0 && !v;
        return r;
}

/* Return whether to read why an inactive unit of ours may have been stopped, and whether related units
 * prevent its start. */
static bool manager_reads_relations(const BusList *list, size_t unit) {
        const RuntimeDirEntry *e = runtime_dir_find(&list->bus->dir, list->units[unit].name);

        return e && (e->trace.undecided || e->trace.end == SYSTEMD_END_STOPPED_FOR ||
                     e->trace.end == SYSTEMD_END_UNKNOWN);
}

/* Read one property of an inactive unit; skip those that are not needed. */
static int manager_list_read_one(BusList *list, size_t unit, bool needed, const char *name,
                                 sd_bus_message *m) {
        static const struct {
                const char *name;
                int (*read)(sd_bus_message *m, SystemdUnit *u); /* NULL: names of related units, */
                int kind;                                       /* of this kind */
        } rows[] = {
                { "FragmentPath", manager_read_fragment },   { "NeedDaemonReload", manager_read_need_reload },
                { "InvocationID", manager_read_invocation }, { "LoadError", manager_read_load_error },
                { "Result", manager_read_result },           { "Type", manager_read_type },
                { "RemainAfterExit", manager_read_remain },  { "BindsTo", NULL, PROPERTY_BOUND },
                { "Conflicts", NULL, PROPERTY_CONFLICTS },   { "ConflictedBy", NULL, PROPERTY_CONFLICTS },
                { "Requisite", NULL, PROPERTY_BOUND },       { "Requires", NULL, PROPERTY_NEEDED },
                { "PartOf", NULL, PROPERTY_NEEDED },         { "StopPropagatedFrom", NULL, PROPERTY_NEEDED },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                if (!streq(name, rows[i].name) || (rows[i].kind == PROPERTY_NEEDED) != needed)
                        continue;
                if (rows[i].read)
                        return rows[i].read(m, &list->units[unit]);
                if (manager_reads_relations(list, unit))
                        return manager_list_read_relation(list, unit, rows[i].kind, m);
        }
        return sd_bus_message_skip(m, "v");
}

/* Which of the needed units matter depends on those that have caused the stop: read them last. */
static int manager_list_read_all(BusList *list, size_t unit, sd_bus_message *m) {
        const char *name;
        int r = 0;

        for (unsigned needed = 0; r >= 0 && needed < 2; needed++) {
                r = sd_bus_message_rewind(m, true);
                if (r >= 0)
                        r = sd_bus_message_enter_container(m, 'a', "{sv}");
                while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                        r = sd_bus_message_read(m, "s", &name);
                        if (r >= 0)
                                r = manager_list_read_one(list, unit, needed, name, m);
                        if (r >= 0)
                                r = sd_bus_message_exit_container(m);
                }
        }
        return r;
}

static int manager_property_on_reply(sd_bus_message *reply, void *userdata, sd_bus_error *unused) {
        const sd_bus_error *e = sd_bus_message_get_error(reply);
        BusProperty *p = userdata;
        BusList *list = p->list;
        int r = 0;

        if (!e && p->read)
                r = p->read(reply, &list->units[p->unit]);
        else if (!e && p->all)
                r = manager_list_read_all(list, p->unit, reply);
        else if (!e)
                r = manager_list_read_related(list, p, reply);
        else if (!manager_is_missing(e))
                r = -sd_bus_error_get_errno(e);
        else if (p->all)
                list->units[p->unit].oneshot = false;
        else if (!p->read) /* the state of a related unit is unknown */
                manager_hold(&list->units[p->unit], p);
        if (r < 0) /* unread is not "none": the caller lists again */
                list->error = r;
        manager_property_free(p);
        manager_list_release(list);
        return 1;
}

/* Takes like->related. */
static void manager_list_send(BusList *list, const BusProperty *like, const char *path, const char *interface,
                              const char *name) {
        BusProperty *p = NEW0(BusProperty, 1);
        int r;

        if (!p) {
                free(like->related);
                list->error = -ENOMEM;
                return;
        }
        *p = *like;
        p->list = list;
        TAILQ_INSERT_TAIL(&list->properties, p, properties);
        r = sd_bus_call_method_async(list->bus->bus, &p->slot, SYSTEMD, path, PROPERTIES,
                                     p->all ? "GetAll" : "Get", manager_property_on_reply, p,
                                     p->all ? "s" : "ss", interface, name);
        if (r < 0) {
                list->error = r;
                manager_property_free(p);
                return;
        }
        list->pending++;
}

static void manager_list_get(BusList *list, size_t unit, const char *path, const char *interface,
                             const char *name, int (*read)(sd_bus_message *m, SystemdUnit *u)) {
        manager_list_send(list, &(BusProperty) { .unit = unit, .read = read }, path, interface, name);
}

static void manager_list_get_related(BusList *list, size_t unit, const char *name, const char *property,
                                     int kind) {
        _cleanup_free_ char *path = NULL, *related = strdup(name);

        if (!related || sd_bus_path_encode(SYSTEMD_PATH "/unit", name, &path) < 0)
                list->error = -ENOMEM;
        else
                manager_list_send(list,
                                  &(BusProperty) { .unit = unit, .kind = kind, .related = TAKE_PTR(related) },
                                  path, SYSTEMD ".Unit", property);
}

/* Return the interface with the property Result: the unit type, capitalized. NULL: none. */
static const char *manager_result_interface(const char *name, char buffer[static 64]) {
        const char *type = quadlet_is(name) ? "service" : unit_name_type(name);

        if (!streq(type, "service") && !streq(type, "socket") && !streq(type, "timer") &&
            !streq(type, "mount") && !streq(type, "path") && !streq(type, "automount") &&
            !streq(type, "swap"))
                return NULL;
        snprintf(buffer, 64, SYSTEMD ".%c%s", type[0] - 'a' + 'A', type + 1);
        return buffer;
}

/* Read why a unit that is not loaded, has failed or is restarted does not run: no properties of other units.
 */
static void manager_list_get_reason(BusList *list, size_t i, const char *path) {
        const SystemdUnit *u = &list->units[i];
        bool failed = streq(u->active, "failed");
        const char *interface;
        char buffer[64];

        if (!streq(u->load, "loaded"))
                manager_list_get(list, i, path, SYSTEMD ".Unit", "LoadError", manager_read_load_error);
        if (!failed && !systemd_is_restarting(u))
                return;
        interface = manager_result_interface(u->name, buffer);
        if (!interface)
                return;
        if (streq(interface, SYSTEMD ".Service")) {
                manager_list_get(list, i, path, interface, "ExecMainCode", manager_read_exec_code);
                manager_list_get(list, i, path, interface, "ExecMainStatus", manager_read_exec_status);
                if (failed)
                        manager_list_get(list, i, path, interface, "NRestarts", manager_read_restarts);
        }
        /* After the status, which a start resets, too: a start in between leaves "success" and no reason. */
        manager_list_get(list, i, path, interface, "Result", manager_read_result);
}

/* systemd loads a unit that does not run for each call, with its files, and unloads it again. */
static void manager_list_get_inactive(BusList *list, size_t i, const char *path) {
        SystemdUnit *u = &list->units[i];
        char buffer[64];
        const char *interface = manager_result_interface(u->name, buffer);

        u->oneshot = interface && streq(interface, SYSTEMD ".Service");
        manager_list_send(list, &(BusProperty) { .unit = i, .all = true }, path, SYSTEMD ".Unit", NULL);
        if (interface)
                manager_list_send(list, &(BusProperty) { .unit = i, .all = true }, path, interface, NULL);
        if (quadlet_is(u->name)) /* after the first: manager_read_source() replaces the fragment */
                manager_list_get(list, i, path, SYSTEMD ".Unit", "SourcePath", manager_read_source);
}

/* Add the state of the i-th unit, and read its properties. A service and a Quadlet file may share one name in
 * systemd. */
static void manager_list_add_state(BusList *list, size_t i, const char *load, const char *active,
                                   const char *sub, const char *path, bool job) {
        SystemdUnit *u = &list->units[i];
        RuntimeDirEntry *e = runtime_dir_find(&list->bus->dir, u->name);

        snprintf(u->load, sizeof(u->load), "%s", load);
        snprintf(u->active, sizeof(u->active), "%s", active);
        snprintf(u->sub, sizeof(u->sub), "%s", sub);
        u->job = job;
        if (streq(load, "not-found"))
                return;
        if (streq(active, "inactive")) {
                manager_list_get_inactive(list, i, path);
                return;
        }
        manager_list_get(list, i, path, SYSTEMD ".Unit", "FragmentPath", manager_read_fragment);
        if (quadlet_is(u->name)) /* after it: manager_read_source() replaces the fragment */
                manager_list_get(list, i, path, SYSTEMD ".Unit", "SourcePath", manager_read_source);
        manager_list_get(list, i, path, SYSTEMD ".Unit", "NeedDaemonReload", manager_read_need_reload);
        manager_list_get(list, i, path, SYSTEMD ".Unit", "InvocationID", manager_read_invocation);
        manager_list_get_reason(list, i, path);
        if (!streq(active, "failed")) /* else it is read with the reason */
                manager_list_get(list, i, path, SYSTEMD ".Service", "NRestarts", manager_read_restarts);
        if (e && !streq(active, "failed"))
                systemd_trace_running(&e->trace, list->bus->n_signals, job || streq(active, "deactivating"));
}

/* One reply for each name, in order; an alias has the Id of its unit. If systemd left names out, because it
 * rejects them, match by Id. */
static int manager_list_read(BusList *list, sd_bus_message *reply) {
        const char *id, *load, *active, *sub, *path;
        BusName *expected = list->by_known_as;
        size_t n_answers = 0;
        uint32_t job;
        bool all;
        int r;

        r = sd_bus_message_enter_container(reply, 'a', "(ssssssouso)");
        while (r >= 0 && sd_bus_message_at_end(reply, false) == 0) {
                r = sd_bus_message_skip(reply, "(ssssssouso)");
                n_answers++;
        }
        if (r < 0)
                return r;
        r = sd_bus_message_rewind(reply, false);
        all = n_answers == HASH_CNT(by_known_as, list->by_known_as);
        while (r >= 0 && (r = sd_bus_message_read(reply, "(ssssssouso)", &id, NULL, &load, &active, &sub,
                                                  NULL, &path, &job, NULL, NULL)) > 0) {
                BusName *n = expected;

                if (all)
                        expected = expected->by_known_as.next;
                else
                        HASH_FIND(by_known_as, list->by_known_as, id, strlen(id), n);
                for (; n; n = SLIST_NEXT(n, same)) {
                        list->units[n - list->names].alias = !streq(n->known_as, id);
                        manager_list_add_state(list, n - list->names, load, active, sub, path, job > 0);
                }
        }
        return r;
}

static void manager_list_add_files(BusList *list) {
        RuntimeDir *dir = &list->bus->dir;
        bool remade = runtime_dir_check(dir) > 0;

        /* Units outside this listing have lost their files, too. */
        if (remade && list->bus->events.on_changed)
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

static int manager_list_on_reply(sd_bus_message *reply, void *userdata, sd_bus_error *unused) {
        BusList *list = userdata;
        const sd_bus_error *e = sd_bus_message_get_error(reply);
        int r = e ? -sd_bus_error_get_errno(e) : manager_list_read(list, reply);

        if (r < 0)
                list->error = r;
        manager_list_add_files(list);
        manager_list_release(list);
        return 1;
}

static void manager_list_add(BusList *list, const char *name) {
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
                SLIST_INSERT_AFTER(other, n, same);
        } else if (!unit_name_is_template(
                           name)) { /* systemd rejects the whole call for the name of a template */
                HASH_ADD_KEYPTR(by_known_as, list->by_known_as, n->known_as, strlen(n->known_as), n);
                added = added && n->by_known_as.tbl;
        }
        list->n++;
        if (!added)
                list->error = -ENOMEM;
}

static int manager_list_request(BusList *list) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        TRY(manager_method(list->bus, "ListUnitsByNames", &m));
        r = sd_bus_message_open_container(m, 'a', "s");
        for (const BusName *known = list->by_known_as; r >= 0 && known; known = known->by_known_as.next)
                r = sd_bus_message_append(m, "s", known->known_as);
        if (r < 0)
                return r;
        TRY(sd_bus_message_close_container(m));
        return sd_bus_call_async(list->bus->bus, NULL, m, manager_list_on_reply, list, BUS_CALL_TIMEOUT_US);
}

int manager_list(Systemd *s, const char *const *names, size_t n, bool files, SystemdListed done,
                 void *userdata) {
        SystemdBus *b = systemd_bus(s);
        BusList *list = NEW0(BusList, 1);
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
                        manager_list_add(list, names[i]);
                for (const Named *e = files ? b->dir.entries : NULL; e; e = e->hh.next)
                        manager_list_add(list, e->name);
        }

        r = list->error < 0 ? list->error : manager_list_request(list);
        if (r < 0) {
                list->error = r;
                manager_list_release(list);
        }
        return 0;
}
