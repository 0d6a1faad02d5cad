#include "fleetd/registry/slice.h"

#include "fleetd/registry/kinds.h"

/* A machine with a socket gets the template whose instances that may start. */
static bool slice_has_unit(const Cluster *c, const char *machine, const char *unit) {
        const ClusterUnit *u = cluster_any_unit(c, unit);
        const ClusterMachine *m = cluster_machine(c, machine);
        char socket[UNIT_NAME_MAX + 1];

        return (m && cluster_assignment_on(m, unit)) ||
               (u && u->owner && streq(u->owner->machine, machine)) ||
               (m && unit_class_accepting(unit, socket) && cluster_assignment_on(m, socket));
}

/* Return the template of a socket, or NULL. */
static ClusterUnit *slice_template(const Cluster *c, const char *socket) {
        char template[UNIT_NAME_MAX + 1];

        return unit_class_accepts(socket, NULL, template) ? cluster_any_unit(c, template) : NULL;
}

static bool slice_is_member(const Cluster *c, const char *machine) {
        const ClusterMachine *m = cluster_machine(c, machine);

        return m && m->is_member;
}

static bool slice_is_restricted(const Cluster *c, const char *machine) {
        const ClusterMachine *m = cluster_machine(c, machine);

        return m && cluster_machine_is_restricted(m);
}

static unsigned slice_groups_of(const ClusterMachine *m) {
        if (!m || cluster_machine_is_restricted(m))
                return 0;
        return 1u << SLICE_SERVICES | (m->facts && m->facts->users ? 1u << SLICE_USERS : 0);
}

unsigned slice_groups(const Cluster *c, const char *machine) {
        return slice_groups_of(cluster_machine(c, machine));
}

bool slice_has(const Cluster *c, const char *machine, const LayoutKey *k) {
        if (k->kind == _LAYOUT_OTHER)
                return false;
        switch (kinds[k->kind]->slice) {
        case SLICE_ALL:
                return true;
        case SLICE_MACHINE:
                return streq(k->machine, machine);
        case SLICE_MEMBER:
                return streq(k->machine, machine) || slice_is_member(c, k->machine);
        case SLICE_PLACE:
                return streq(k->machine, machine) ||
                       (slice_is_member(c, k->machine) && !slice_is_restricted(c, machine));
        case SLICE_UNIT:
                return slice_has_unit(c, machine, k->unit);
        case SLICE_SERVICES:
                return streq(k->machine, machine) || slice_groups(c, machine) & 1u << SLICE_SERVICES;
        case SLICE_USERS:
                return slice_groups(c, machine) & 1u << SLICE_USERS;
        case SLICE_NAMED:
                return streq(k->unit, CLUSTER_ADOPTING);
        default:
                return false;
        }
}

/* -- Enumeration -- */

typedef struct SliceEach {
        const Cluster *cluster;
        const char *machine;
        SliceFound *found;
        void *userdata;
} SliceEach;

static int slice_on_key(void *userdata, LayoutKind kind, const char *unit, const char *machine) {
        const SliceEach *s = userdata;
        LayoutKey k = { .kind = kind };

        snprintf(k.unit, sizeof(k.unit), "%s", unit ?: "");
        snprintf(k.machine, sizeof(k.machine), "%s", machine ?: "");
        return slice_has(s->cluster, s->machine, &k) ? s->found(s->userdata, &k) : 0;
}

/* The keys of the unit itself. Its assignments and states, of which a global unit has many, are omitted. */
static int slice_each_unit(SliceEach *s, ClusterUnit *u) {
        const KindEntries e = { .unit = u };
        int r = 0;

        for (LayoutKind kind = 0; kind < _LAYOUT_MAX && r == 0; kind++)
                if (kinds[kind]->slice == SLICE_UNIT)
                        r = kinds_each_of(kind, s->cluster, &e, slice_on_key, s);
        for (const ClusterUnreadable *x = LIST_FIRST(&u->unreadable); x && r == 0; x = LIST_NEXT(x, of_owner))
                if (kinds[x->key.kind]->slice == SLICE_UNIT)
                        r = slice_on_key(s, x->key.kind, x->key.unit, x->key.machine);
        return r;
}

/* Its assignments and states are keys of units and of machines: the enumeration by machine omits them. */
static int slice_each_own(SliceEach *s, ClusterMachine *m) {
        ClusterUnit *template;
        int r;

        r = kinds_each(s->cluster, &(KindEntries) { .machine = m }, slice_on_key, s);
        for (const ClusterAssignment *a = m->assignments; a && r == 0; a = a->hh.next) {
                r = slice_on_key(s, LAYOUT_ASSIGNMENT, a->unit, m->id);
                if (r == 0)
                        r = slice_each_unit(s, a->of);
                template = r == 0 ? slice_template(s->cluster, a->unit) : NULL;
                if (template && !(template->owner && streq(template->owner->machine, m->id)))
                        r = slice_each_unit(s, template);
        }
        for (const ClusterState *state = m->states; state && r == 0; state = state->hh.next)
                r = slice_on_key(s, LAYOUT_STATE, state->unit, m->id);
        return r;
}

int slice_each(const Cluster *c, const char *machine, SliceFound *found, void *userdata) {
        SliceEach s = { .cluster = c, .machine = machine, .found = found, .userdata = userdata };
        const ClusterOwner *owner = cluster_owner(c, machine);
        ClusterMachine *own = cluster_machine(c, machine);
        int r;

        r = kinds_each(c, &(KindEntries) {}, slice_on_key, &s);
        for (ClusterMachine *m = LIST_FIRST(&c->members); m && r == 0; m = LIST_NEXT(m, of_members))
                if (m != own)
                        r = kinds_each(c, &(KindEntries) { .machine = m }, slice_on_key, &s);
        if (own && r == 0)
                r = slice_each_own(&s, own);
        for (ClusterUnit *u = owner ? LIST_FIRST(&owner->units) : NULL; u && r == 0;
             u = LIST_NEXT(u, of_owner))
                if (!own || !cluster_assignment_on(own, u->name))
                        r = slice_each_unit(&s, u);
        return r;
}

/* -- Routes -- */

static void slice_touch(SliceTouched *touched, void *userdata, const char *machine, LayoutKind kind,
                        const LayoutKey *of) {
        LayoutKey k = { .kind = kind };

        if (kinds[kind]->of & OF_UNIT)
                memcpy(k.unit, of->unit, sizeof(k.unit));
        else
                memcpy(k.machine, of->machine, sizeof(k.machine));
        touched(userdata, machine, &k);
}

/* The other keys of the unit itself. */
static void slice_touch_unit(SliceTouched *touched, void *userdata, const char *machine, const LayoutKey *k) {
        for (LayoutKind kind = 0; kind < _LAYOUT_MAX; kind++)
                if (kinds[kind]->slice == SLICE_UNIT && kind != k->kind)
                        slice_touch(touched, userdata, machine, kind, k);
}

typedef struct SliceRoute {
        const char *machine; /* NULL: each */
        SliceTouched *touched;
        void *userdata;
        unsigned slices; /* KindSlice, as bits */
} SliceRoute;

/* A key, which machines receive, or do not receive any more. */
static int slice_on_routed_key(void *userdata, LayoutKind kind, const char *unit, const char *machine) {
        const SliceRoute *route = userdata;
        LayoutKey k = { .kind = kind };

        snprintf(k.unit, sizeof(k.unit), "%s", unit ?: "");
        snprintf(k.machine, sizeof(k.machine), "%s", machine ?: "");
        if (route->slices & 1u << kinds[kind]->slice)
                route->touched(route->userdata, route->machine, &k);
        return 0;
}

/* Route a key to the machines of a group. */
static void slice_touch_group(const SliceRoute *route, const Cluster *c, const LayoutKey *k,
                              KindSlice group) {
        for (const ClusterMachine *m = c->machines; m; m = m->hh.next)
                if (slice_groups_of(m) & 1u << group)
                        route->touched(route->userdata, m->id, k);
}

void slice_route(const Cluster *c, const RegistryChange *change, SliceTouched *touched, void *userdata) {
        SliceRoute route = { NULL, touched, userdata, 1u << SLICE_MEMBER | 1u << SLICE_PLACE };
        const LayoutKey *k = change->key;
        ClusterMachine *of = k ? cluster_machine(c, k->machine) : NULL;
        const ClusterUnit *u = k ? cluster_any_unit(c, k->unit) : NULL, *socket;
        LayoutKey other = { .kind = _LAYOUT_OTHER }; /* of a socket or of its template */

        if (!k)
                return;
        switch (kinds[k->kind]->slice) {
        case SLICE_ALL:
        case SLICE_NAMED:
                touched(userdata, NULL, k);
                break;
        case SLICE_MACHINE:
                touched(userdata, k->machine, k);
                break;
        case SLICE_MEMBER:
        case SLICE_PLACE:
                touched(userdata, slice_is_member(c, k->machine) ? NULL : k->machine, k);
                break;
        case SLICE_SERVICES:
                if (c->counts[MACHINES_RESTRICTED] == 0) {
                        touched(userdata, NULL, k);
                        break;
                }
                slice_touch_group(&route, c, k, SLICE_SERVICES);
                if (!(slice_groups(c, k->machine) & 1u << SLICE_SERVICES))
                        touched(userdata, k->machine, k);
                break;
        case SLICE_USERS:
                slice_touch_group(&route, c, k, SLICE_USERS);
                break;
        case SLICE_UNIT:
                for (const ClusterAssignment *a = u ? LIST_FIRST(&u->assignments) : NULL; a;
                     a = LIST_NEXT(a, of_unit))
                        touched(userdata, a->machine->id, k);
                if (u && u->owner)
                        touched(userdata, u->owner->machine, k);
                socket = unit_class_accepting(k->unit, other.unit) ? cluster_any_unit(c, other.unit) : NULL;
                for (const ClusterAssignment *a = socket ? LIST_FIRST(&socket->assignments) : NULL; a;
                     a = LIST_NEXT(a, of_unit))
                        touched(userdata, a->machine->id, k);
                break;
        default:
                break;
        }

        /* A change of these keys adds others to the slice, or takes them away. */
        if (k->kind == LAYOUT_ASSIGNMENT) {
                slice_touch_unit(touched, userdata, k->machine, k);
                if (unit_class_accepts(k->unit, NULL, other.unit))
                        slice_touch_unit(touched, userdata, k->machine, &other);
        } else if (k->kind == LAYOUT_MEMBER && of)
                (void) kinds_each(c, &(KindEntries) { .machine = of }, slice_on_routed_key, &route);
        else if (k->kind == LAYOUT_UNIT && u && u->owner)
                slice_touch_unit(touched, userdata, u->owner->machine, k);
        if (k->kind == LAYOUT_HOST) { /* it may be a restricted one now, or not any more */
                route.machine = k->machine;
                for (ClusterMachine *m = LIST_FIRST(&c->members); m; m = LIST_NEXT(m, of_members))
                        (void) kinds_each(c, &(KindEntries) { .machine = m }, slice_on_routed_key, &route);
        }
        route.slices = change->groups ^ slice_groups(c, k->machine);
        if (route.slices != 0) {
                route.machine = k->machine;
                (void) kinds_each(c, &(KindEntries) {}, slice_on_routed_key, &route);
        }
        if (change->former_owner) {
                touched(userdata, change->former_owner, k);
                slice_touch_unit(touched, userdata, change->former_owner, k);
        }
}
