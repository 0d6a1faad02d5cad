#include "tests/lib/cluster_view.h"

#include "fleetd/registry/presence.h"
#include "units/quadlet.h"
#include "tests/lib/message.h"
#include "tests/lib/words_of.h"

const EnginePlanLimits cluster_view_limits = { .names_texts = true };

const char *cluster_view_id(char ret[static MACHINE_ID_SIZE], const char *machine) {
        memset(ret, machine[0] + ('a' - 'A'), 32);
        memcpy(ret + 1, machine + 1, strlen(machine + 1));
        ret[32] = 0;
        return ret;
}

static const char *name_of(char ret[static 2], const ClusterMachine *m) {
        ret[0] = m->id[0] - ('a' - 'A');
        ret[1] = 0;
        return ret;
}

static void put(ClusterView *p, LayoutKind kind, const char *unit, const char *machine, const char *value,
                size_t size, uint64_t created) {
        char key[LAYOUT_KEY_MAX], id[MACHINE_ID_SIZE] = "";
        Error err = {};
        int r;

        layout_key(key, kind, unit, machine ? cluster_view_id(id, machine) : NULL);
        r = cluster_put(&p->cluster,
                        &(KvNode) { .key = kv_string(key),
                                    .value = { value, size },
                                    .created = created,
                                    .modified = p->index },
                        &err);
        if (r < 0)
                fprintf(stderr, "%s: %s\n", key, error_text(&err, r));
        assert(r == 0);
        p->cluster.index = p->index;
}

static void put_text(ClusterView *p, LayoutKind kind, const char *unit, const char *machine, Text *t) {
        size_t size;
        _cleanup_free_ char *value = text_take(t, &size);

        assert(value);
        p->index++;
        put(p, kind, unit, machine, value, size, p->index);
}

void cluster_view_put(ClusterView *p, const char *key, const char *value) {
        Error err = {};

        p->index++;
        assert(cluster_put(&p->cluster,
                           &(KvNode) { .key = kv_string(key),
                                       .value = kv_string(value),
                                       .created = p->index,
                                       .modified = p->index },
                           &err) == 0);
        p->cluster.index = p->index;
}

void cluster_view_unreadable(ClusterView *p, LayoutKind kind, const char *unit, const char *machine) {
        static const char value[] = "of a later version\n\x01";
        char key[LAYOUT_KEY_MAX], id[MACHINE_ID_SIZE] = "";
        Error err = {};

        layout_key(key, kind, unit, machine ? cluster_view_id(id, machine) : NULL);
        p->index++;
        assert(cluster_put(&p->cluster,
                           &(KvNode) { .key = kv_string(key),
                                       .value = { value, sizeof(value) },
                                       .created = p->index,
                                       .modified = p->index },
                           &err) == -EBADMSG);
        assert(cluster_is_unreadable(&p->cluster, kv_string(key)));
}

void cluster_view_remove(ClusterView *p, const char *key) {
        p->index++;
        assert(cluster_remove(&p->cluster, kv_string(key)) >= 0);
}

void cluster_view_presence(ClusterView *p, const char *machine, Presence presence) {
        _cleanup_text_ Text t = {};
        char id[MACHINE_ID_SIZE];
        PresenceRecord record = presence_next(cluster_machine(&p->cluster, cluster_view_id(id, machine)),
                                              presence, p->cluster.adopting, p->announced, p->cluster.now_ms);

        stored_presence_write(&t, &record);
        put_text(p, LAYOUT_PRESENCE, NULL, machine, &t);
}

void cluster_view_facts(ClusterView *p, const char *machine, const char *metadata) {
        _cleanup_machine_ Machine m = {};
        _cleanup_text_ Text t = {};

        cluster_view_id(m.id, machine);
        m.name = strdup(machine);
        m.address = strdup("10.0.0.1");
        m.version = strdup("0");
        m.boot_id = strdup(m.id);
        assert(machine_metadata_parse(metadata, &m.metadata, NULL) >= 0);
        m.takes_finished = true;
        m.capacity = p->capacity;
        stored_facts_write(&t, &m);
        put_text(p, LAYOUT_FACTS, NULL, machine, &t);
}

void cluster_view_machine(ClusterView *p, const char *machine, const char *metadata, Presence presence) {
        cluster_view_facts(p, machine, metadata);
        cluster_view_presence(p, machine, presence);
}

void cluster_view_text(ClusterView *p, const char *name, const char *options, const char *command) {
        _cleanup_unit_ Unit *unit = NULL;
        _cleanup_text_ Text text = {}, t = {};
        Error err = {};
        int r;

        text_printf(&text, quadlet_is(name) ? "[Container]\nImage=%s\n" : "[Service]\nExecStart=%s\n",
                    command);
        if (*options)
                text_printf(&text, "[X-Fleet]\n%s\n", options);
        r = unit_parse(name, text.chars, text.size, &unit, &err);
        if (r < 0)
                fprintf(stderr, "%s: %s\n", name, error_text(&err, r));
        assert(r >= 0);
        stored_unit_write(&t, unit);
        put_text(p, LAYOUT_UNIT, name, NULL, &t);
}

void cluster_view_target(ClusterView *p, const char *name, TargetState target) {
        _cleanup_text_ Text t = {};

        text_append(&t, target_state_to_string(target));
        put_text(p, LAYOUT_TARGET, name, NULL, &t);
}

void cluster_view_unit(ClusterView *p, const char *name, const char *options, TargetState target) {
        cluster_view_text(p, name, options, "/bin/true");
        cluster_view_target(p, name, target);
}

void cluster_view_destroy(ClusterView *p, const char *name) {
        char key[LAYOUT_KEY_MAX];

        cluster_view_remove(p, layout_key(key, LAYOUT_UNIT, name, NULL));
        cluster_view_remove(p, layout_key(key, LAYOUT_TARGET, name, NULL));
}

void cluster_view_assign(ClusterView *p, const char *machine, const char *unit, AssignmentKind kind) {
        ClusterUnit *u = cluster_any_unit(&p->cluster, unit);
        char id[MACHINE_ID_SIZE];
        ClusterAssignment *there = cluster_assignment(&p->cluster, cluster_view_id(id, machine), unit);
        Assignment assignment = { .kind = kind,
                                  .unit_index = u ? u->index : 0,
                                  .since_ms = p->cluster.now_ms,
                                  .term = 1,
                                  .why = SAID("because") };
        _cleanup_text_ Text t = {};

        p->index++;
        if (u && u->inputs)
                assignment.inputs = u->inputs->number;
        if (!p->below_updates && kind != ASSIGNMENT_STOP && u && u->unit) {
                assignment.revision = revisions_wanted(&u->unit->revisions);
                memcpy(assignment.hash, u->unit->hash, sizeof(assignment.hash));
        }
        stored_assignment_write(&t, &assignment);
        put(p, LAYOUT_ASSIGNMENT, unit, machine, t.chars, t.size, there ? there->created : p->index);
}

void cluster_view_roll(ClusterView *p, const char *name) {
        const ClusterUnit *u = cluster_unit(&p->cluster, name);
        EnginePlan plan = {};

        for (const ClusterAssignment *o = LIST_FIRST(&u->assignments); o; o = LIST_NEXT(o, of_unit)) {
                AssignmentChange *c;

                if (!cluster_assignment_is_active(o))
                        continue;
                assert(GROW(plan.changes, plan.capacity, plan.n + 1) >= 0);
                c = &plan.changes[plan.n++];
                *c = (AssignmentChange) { .kind = o->kind,
                                          .expected_index = o->index,
                                          .unit_index = u->index,
                                          .since_ms = o->since_ms,
                                          .hold_ms = o->hold_ms,
                                          .revision = revisions_wanted(&u->unit->revisions) };
                memcpy(c->machine, o->machine->id, sizeof(c->machine));
                memcpy(c->unit, o->unit, sizeof(c->unit));
                memcpy(c->hash, u->unit->hash, sizeof(c->hash));
                verdict_say(&c->why, VERDICT_SAID, "a rollout");
        }
        cluster_view_apply(p, &plan);
        engine_plan_done(&plan);
}

static UnitHealth health_of(const char *active) {
        return streq(active, "active")     ? UNIT_HEALTH_PASSING :
               streq(active, "failed")     ? UNIT_HEALTH_FAILING :
               streq(active, "activating") ? UNIT_HEALTH_STARTING :
                                             UNIT_HEALTH_NONE;
}

static void put_state(ClusterView *p, const char *machine, const char *unit, const char *load,
                      const char *active, bool done, UnitHealth health) {
        _cleanup_unit_state_ UnitState state = {};
        _cleanup_text_ Text t = {};
        ClusterUnit *u = cluster_unit(&p->cluster, unit);
        char id[MACHINE_ID_SIZE];
        ClusterAssignment *o = cluster_assignment(&p->cluster, cluster_view_id(id, machine), unit);
        ClusterState *was = cluster_state(&p->cluster, id, unit);
        const char *hash = u ? u->unit->hash : NULL;

        /* The machine has the text of its assignment. */
        if (o && o->hash[0])
                hash = o->hash;
        else if (o && was && u && o->unit_index != u->index)
                hash = was->state.hash;
        assert(unit_state_init(&state, load, active, streq(active, "active") ? "running" : "dead", hash, 1,
                               done) >= 0);
        if (!p->below_updates && !done && !streq(load, STATE_FOREIGN)) {
                state.health = health == UNIT_HEALTH_NONE ? health_of(active) : health;
                state.available = health == UNIT_HEALTH_NONE && streq(active, "active");
        }
        state.inputs = o ? o->inputs : was ? was->state.inputs : 0;
        if (o && o->kind == ASSIGNMENT_STOP && o->unless_running && streq(active, "active"))
                state.kept = o->index;
        stored_state_write(&t, &state);
        put_text(p, LAYOUT_STATE, unit, machine, &t);
}

void cluster_view_state(ClusterView *p, const char *machine, const char *unit, const char *active) {
        char key[LAYOUT_KEY_MAX], id[MACHINE_ID_SIZE];

        if (active)
                put_state(p, machine, unit, "loaded", active, false, UNIT_HEALTH_NONE);
        else
                cluster_view_remove(p, layout_key(key, LAYOUT_STATE, unit, cluster_view_id(id, machine)));
}

void cluster_view_active(ClusterView *p, const char *machine, const char *unit, const char *health) {
        put_state(p, machine, unit, "loaded", "active", false, unit_health_from_string(health));
}

void cluster_view_done(ClusterView *p, const char *machine, const char *unit) {
        put_state(p, machine, unit, "loaded", "inactive", true, UNIT_HEALTH_NONE);
}

void cluster_view_conflicting(ClusterView *p, const char *machine, const char *unit) {
        put_state(p, machine, unit, STATE_FOREIGN, "inactive", false, UNIT_HEALTH_NONE);
}

void cluster_view_free(ClusterView *p) {
        cluster_done(&p->cluster);
}

static void apply_ends(ClusterView *p, const EnginePlan *plan) {
        for (size_t i = 0; i < plan->n_ends; i++) {
                char key[LAYOUT_KEY_MAX];

                assert(plan->ends[i].unit->move_index > 0);
                cluster_view_remove(p, layout_key(key, LAYOUT_MOVE, plan->ends[i].unit->name, NULL));
        }
}

void cluster_view_apply(ClusterView *p, const EnginePlan *plan) {
        apply_ends(p, plan);
        p->index++;
        for (size_t i = 0; i < plan->n; i++) {
                const AssignmentChange *c = &plan->changes[i];
                const ClusterAssignment *o = cluster_assignment(&p->cluster, c->machine, c->unit);
                const ClusterUnit *u = cluster_unit(&p->cluster, c->unit);
                const ClusterMachine *m = cluster_machine(&p->cluster, c->machine);
                char key[LAYOUT_KEY_MAX];
                _cleanup_text_ Text t = {};
                Assignment assignment = c->record;

                assignment.term = 1;
                if (c->text_index > 0)
                        assignment.unit_index = c->text_index;
                if (streq(c->base, c->hash))
                        assignment.base[0] = 0;

                /* The transaction's checks. */
                assert(c->expected_index == (o ? o->index : 0));
                assert(c->unit_index == (u ? u->index : 0));
                assert(c->presence_index == 0 || c->presence_index == m->presence_index);

                stored_assignment_write(&t, &assignment);
                layout_key(key, LAYOUT_ASSIGNMENT, c->unit, c->machine);
                assert(cluster_put(&p->cluster,
                                   &(KvNode) { .key = kv_string(key),
                                               .value = { t.chars, t.size },
                                               .created = o ? o->created : p->index,
                                               .modified = p->index },
                                   NULL) == 0);
        }
}

/* Whether the machine runs the text that is assigned. */
static bool has_text(const ClusterAssignment *o, const ClusterState *s) {
        const char *hash = o->hash;

        if (!*hash)
                hash = o->of->unit && o->unit_index == o->of->index ? o->of->unit->hash : NULL;
        return !hash || (s->state.hash && streq(s->state.hash, hash));
}

void cluster_view_execute(ClusterView *p) {
        size_t n_machines;
        _cleanup_free_ ClusterMachine **machines = cluster_machines_sorted(&p->cluster, &n_machines);

        for (size_t i = 0; i < n_machines; i++) {
                ClusterMachine *m = machines[i];
                ClusterAssignment *o, *next;
                char name[33], key[LAYOUT_KEY_MAX];

                if (m->presence != PRESENCE_UP)
                        continue;
                snprintf(name, sizeof(name), "%s", m->id);
                name[0] -= 'a' - 'A';
                HASH_ITER(hh, m->assignments, o, next) {
                        ClusterState *s = cluster_state(&p->cluster, m->id, o->unit);
                        char unit[256];

                        snprintf(unit, sizeof(unit), "%s", o->unit);
                        if (o->kind == ASSIGNMENT_STOP && o->unless_running && s &&
                            streq(s->state.active, "active")) {
                                if (s->state.kept != o->index)
                                        cluster_view_state(p, name, unit, "active");
                        } else if (o->kind == ASSIGNMENT_STOP) {
                                if (s)
                                        cluster_view_remove(p, layout_key(key, LAYOUT_STATE, unit, m->id));
                                cluster_view_remove(p, layout_key(key, LAYOUT_ASSIGNMENT, unit, m->id));
                        } else if (!s ||
                                   !streq(s->state.active,
                                          o->kind == ASSIGNMENT_RUN ? "active" : "inactive") ||
                                   !has_text(o, s))
                                cluster_view_state(p, name, unit,
                                                   o->kind == ASSIGNMENT_RUN ? "active" : "inactive");
                }
        }
}

static int by_unit(const void *a, const void *b) {
        const AssignmentChange *c = a, *d = b;
        int r = strcmp(c->unit, d->unit);

        return r != 0 ? r : strcmp(c->machine, d->machine);
}

char *cluster_view_plan(ClusterView *p, bool apply) {
        _cleanup_(engine_plan_done) EnginePlan plan = {};
        _cleanup_text_ Text t = {};

        const EnginePlanLimits limits = { .names_texts = !p->below_updates };

        assert(engine_plan(&p->cluster, NULL, 0, 30000, &limits, &plan) >= 0);
        for (size_t i = 0; i < plan.n_ends; i++)
                text_printf(&t, "%s%s", t.size > 0 ? "; " : "", message_of(&plan.ends[i].result));
        if (apply)
                cluster_view_apply(p, &plan);
        if (plan.n > 0)
                qsort(plan.changes, plan.n, sizeof(*plan.changes), by_unit);
        for (size_t i = 0; i < plan.n; i++) {
                const ClusterMachine *m = cluster_machine(&p->cluster, plan.changes[i].machine);
                char letter[2];

                assert(plan.changes[i].why.code != VERDICT_NONE);
                text_printf(&t, "%s%s %s %s", t.size > 0 ? "; " : "",
                            assignment_kind_to_string(plan.changes[i].kind), plan.changes[i].unit,
                            name_of(letter, m));
        }
        return text_take(&t, NULL);
}
