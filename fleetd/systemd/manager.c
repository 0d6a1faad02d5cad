/* Units as systemd sees them: their states all at once, then a few properties of each that is loaded. */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "fleetd/systemd/bus_internal.h"
#include "units/name.h"
#include "units/quadlet.h"

/* A property that is on its way into a listing. */
struct BusProperty {
        BusList *list;
        size_t unit;
        sd_bus_slot *slot;
        int (*read)(sd_bus_message *m, SystemdUnit *u);
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
        for (size_t i = 0; list->units && i < list->n; i++)
                list->units[i].ours = unit_dir_owns(&list->bus->dir, list->units[i].name, list->units[i].fragment);
        list->done(list->userdata, list->error, list->units, list->error < 0 ? 0 : list->n);
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

/* After FragmentPath. systemd forgets a service that has stopped, and reads it again as it was generated, with the time of a source that is
 * newer by then: NeedDaemonReload says no. So the two files are compared. */
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

static int property_on_reply(sd_bus_message *reply, void *userdata, sd_bus_error *unused) {
        BusProperty *p = userdata;
        BusList *list = p->list;

        /* A unit that went away meanwhile, or has no such property, is looked at again when it changes. */
        if (!sd_bus_message_is_method_error(reply, NULL))
                (void) p->read(reply, &list->units[p->unit]);
        property_free(p);
        list_release(list);
        return 1;
}

static void list_ask(BusList *list, size_t unit, const char *path, const char *interface, const char *name,
                     int (*read)(sd_bus_message *m, SystemdUnit *u)) {
        BusProperty *p = NEW0(BusProperty, 1);
        int r;

        if (!p) {
                list->error = -ENOMEM;
                return;
        }
        *p = (BusProperty) { .list = list, .unit = unit, .read = read };
        TAILQ_INSERT_TAIL(&list->properties, p, properties);
        r = sd_bus_call_method_async(list->bus->bus, &p->slot, SYSTEMD, path, PROPERTIES, "Get", property_on_reply, p, "ss", interface, name);
        if (r < 0) {
                list->error = r;
                property_free(p);
                return;
        }
        list->pending++;
}

/* The interface that has "Result": a type's own, with a capital. */
static const char *result_interface(const char *name, char buffer[static 64]) {
        const char *type = quadlet_is(name) ? "service" : unit_name_type(name);

        if (!streq(type, "service") && !streq(type, "socket") && !streq(type, "timer") && !streq(type, "mount") && !streq(type, "path")
            && !streq(type, "automount") && !streq(type, "swap"))
                return NULL;
        snprintf(buffer, 64, SYSTEMD ".%c%s", type[0] - 'a' + 'A', type + 1);
        return buffer;
}

/* What systemd says of the i-th unit; the rest is asked for. A service and a Quadlet file may be known by one name. */
static void list_take(BusList *list, size_t i, const char *load, const char *active, const char *sub, const char *path, bool job) {
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
        if ((streq(active, "inactive") || streq(active, "failed")) && (interface = result_interface(u->name, buffer)))
                list_ask(list, i, path, interface, "Result", read_result);
}

static int list_read(BusList *list, sd_bus_message *reply) {
        const char *name, *load, *active, *sub, *path;
        uint32_t job;
        int r;

        r = sd_bus_message_enter_container(reply, 'a', "(ssssssouso)");
        while (r >= 0
               && (r = sd_bus_message_read(reply, "(ssssssouso)", &name, NULL, &load, &active, &sub, NULL, &path, &job, NULL, NULL)) > 0) {
                for (size_t i = 0; i < list->n; i++) {
                        char known_as[UNIT_NAME_MAX + 32];

                        quadlet_service(list->units[i].name, known_as);
                        if (streq(known_as, name))
                                list_take(list, i, load, active, sub, path, job > 0);
                }
        }
        return r;
}

static void list_finish_files(BusList *list) {
        UnitDir *dir = &list->bus->dir;

        for (size_t i = 0; i < list->n; i++) {
                SystemdUnit *u = &list->units[i];
                const UnitDirEntry *e = NULL;

                if (unit_dir_get(dir, u->name, &e) < 0)
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

static bool list_has(const BusList *list, const char *name) {
        for (size_t i = 0; i < list->n; i++)
                if (streq(list->units[i].name, name))
                        return true;
        return false;
}

static void list_add(BusList *list, const char *name) {
        if (list_has(list, name))
                return;
        snprintf(list->units[list->n].name, sizeof(list->units[0].name), "%s", name);
        snprintf(list->units[list->n].load, sizeof(list->units[0].load), "not-found");
        snprintf(list->units[list->n].active, sizeof(list->units[0].active), "inactive");
        snprintf(list->units[list->n].sub, sizeof(list->units[0].sub), "dead");
        list->n++;
}

int manager_list(Systemd *s, const char *const *names, size_t n, bool files, SystemdListed done, void *userdata) {
        SystemdBus *b = systemd_bus(s);
        BusList *list = NEW0(BusList, 1);
        sd_bus_message *m = NULL;
        int r;

        if (!list)
                return -ENOMEM;
        *list = (BusList) { .bus = b, .done = done, .userdata = userdata, .pending = 1,
                            .finish = { .run = manager_list_finish, .userdata = list } };
        TAILQ_INIT(&list->properties);
        TAILQ_INSERT_TAIL(&b->lists, list, lists);
        list->units = NEW0(SystemdUnit, n + HASH_COUNT(b->dir.entries) + 1);
        if (list->units) {
                for (size_t i = 0; i < n; i++)
                        list_add(list, names[i]);
                for (UnitDirEntry *e = files ? b->dir.entries : NULL; e; e = e->hh.next)
                        list_add(list, e->name);
        }

        r = list->units ? manager_method(b, "ListUnitsByNames", &m) : -ENOMEM;
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "s");
        for (size_t i = 0; r >= 0 && i < list->n; i++) {
                char known_as[UNIT_NAME_MAX + 32];

                quadlet_service(list->units[i].name, known_as);
                r = sd_bus_message_append(m, "s", known_as);
        }
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
