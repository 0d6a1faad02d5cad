/* Plays of rollouts: a set in a cluster view whose machines do as they are assigned, second by second. */
#pragma once

#include "fleetd/features/rollout/rollout.h"
#include "tests/lib/plans.h"

#ifndef PLAY_INSTANCES
#define PLAY_INSTANCES 16
#endif

enum { REVISIONS = 8, INSTANCES = PLAY_INSTANCES };

typedef enum Quality {
        GOOD,      /* it is available two seconds after its start */
        FAILS,     /* it exits */
        SLOW,      /* it runs, and is never available */
        UNCHECKED, /* the same, and its host cannot run its check */
        STUCK,     /* its host does not execute the assignment */
        UNSTARTED, /* the same after the stop */
} Quality;

/* A set whose machines start what they are assigned. */
typedef struct Play {
        ClusterView p;
        const char *head, *options;
        const char *own;      /* drop-in of web@1.service; NULL: none */
        UpdateRequest update; /* of the next text that is wanted */
        const char *failure;  /* reason of an instance that fails; NULL: "exit status 1" */
        bool template;
        Quality quality[REVISIONS];
        Quality contents[REVISIONS]; /* by number: of an instance whose text is good */
        struct {
                char unit[32], machine[8];
                bool present;
                uint64_t index;  /* of the assignment that its machine has executed */
                uint64_t inputs; /* number of its content */
                uint64_t started_ms;
                unsigned n_starts;
        } instances[INSTANCES];
        size_t n;
        uint64_t leads_ms; /* since when this engine leads */
        bool braked;
        size_t n_steps;         /* transactions */
        size_t max_unavailable; /* instances at one time */
        char reasons[2048];
} Play;

static inline const ClusterUnit *head_of(Play *play) {
        return cluster_any_unit(&play->p.cluster, play->head);
}

static inline const RolloutRecord *record_of(Play *play) {
        return head_of(play)->rollout;
}

static inline Unit *unit_of(Play *play, const char *name, unsigned revision, const char *from) {
        _cleanup_text_ Text t = {};
        Unit *unit = NULL;

        text_printf(&t, "[X-Fleet]\n%s\n[Service]\nExecStart=/bin/run %u\n", play->options, revision);
        assert_int_equal(unit_read(name, t.chars, t.size, &unit, NULL), 0);
        if (play->own && streq(name, "web@1.service")) {
                _cleanup_unit_ Unit *template = unit;
                Unit whole = *template;

                text_printf(&t, "\n\n# web@1.service.d/own.conf\n%s", play->own);
                whole.text = t.chars;
                whole.text_size = t.size;
                whole.own_size = t.size - template->text_size;
                assert_int_equal(unit_compose(&whole, template, &unit), 0);
        }
        free(unit->from);
        unit->from = from ? strdup(from) : NULL;
        unit->revisions.wanted.number = revision;
        return unit;
}

/* All texts that the set has had are stored. */
static inline void add_former(Play *play, Unit *unit, unsigned revision) {
        const ClusterUnit *before = cluster_any_unit(&play->p.cluster, unit->name);
        uint64_t last = before && before->unit ? revisions_wanted(&before->unit->revisions) : 0;
        Revisions *all = &unit->revisions;

        all->former = NEW0(Revision, REVISIONS);
        assert_non_null(all->former);
        for (unsigned k = 1; k <= MAX(last, (uint64_t) revision); k++) {
                Unit *former;

                if (k == revision)
                        continue;
                former = unit_of(play, unit->name, k, NULL);
                all->former[all->n_former] = (Revision) { .number = k };
                /* The text before may have had other options. */
                memcpy(all->former[all->n_former++].hash, k == last ? before->unit->hash : former->hash,
                       UNIT_HASH_SIZE);
                unit_free(former);
        }
}

static inline void put_unit(Play *play, const char *name, unsigned revision, const char *from,
                            RevisionHow how) {
        Unit *unit = unit_of(play, name, revision, from);
        char key[LAYOUT_KEY_MAX];
        _cleanup_text_ Text t = {};

        unit->revisions.wanted.how = how;
        unit->revisions.wanted.update = play->update;
        if (!from)
                add_former(play, unit, revision);
        stored_unit_write(&t, unit);
        cluster_view_put(&play->p, layout_key(key, LAYOUT_UNIT, name, NULL), t.chars);
        unit_free(unit);
}

static inline void want(Play *play, unsigned revision) {
        put_unit(play, play->head, revision, NULL, REVISION_SUBMITTED);
}

static inline const char *machine_id(const char *machine) {
        static char id[MACHINE_ID_SIZE];

        return cluster_view_id(id, machine);
}

static inline const ClusterAssignment *assignment_of(Play *play, size_t i) {
        return cluster_assignment(&play->p.cluster, machine_id(play->instances[i].machine),
                                  play->instances[i].unit);
}

/* The content of this unit, or of all that have an instance. */
static inline void put_content(Play *play, const char *unit, unsigned number) {
        char key[LAYOUT_KEY_MAX], value[64];

        snprintf(value, sizeof(value), "{\"number\":%u,\"what\":\"secret pw\"}", number);
        cluster_view_put(&play->p, layout_key(key, LAYOUT_INPUTS, unit, NULL), value);
}

static inline void change_content(Play *play, unsigned number) {
        for (size_t i = 0; i < play->n; i++)
                put_content(play, play->instances[i].unit, number);
}

static inline uint64_t content_of(Play *play, const char *unit) {
        const ClusterUnit *u = cluster_any_unit(&play->p.cluster, unit);

        return u && u->inputs ? u->inputs->number : 0;
}

static inline Quality quality_of(Play *play, size_t i) {
        Quality quality = play->quality[assignment_of(play, i)->revision];

        return quality != GOOD ? quality : play->contents[play->instances[i].inputs];
}

/* 'id': of the machine; 'instead': that of the one on which the unit stops then, or "". */
static inline void put_assignment_instead(Play *play, const char *id, const char *unit, unsigned revision,
                                          uint64_t since_ms, const char *instead) {
        _cleanup_unit_ Unit *text = unit_of(play, unit, revision, NULL);
        char key[LAYOUT_KEY_MAX], value[512];

        snprintf(value, sizeof(value),
                 "{\"base\":\"%s\",\"hash\":\"%s\",\"inputs\":%llu,\"instead\":\"%s\",\"order\":\"run\","
                 "\"own\":%llu,\"rev\":%u,\"since\":%llu}",
                 streq(text->base, text->hash) ? "" : text->base, text->hash,
                 (unsigned long long) content_of(play, unit), instead, (unsigned long long) text->own,
                 revision, (unsigned long long) since_ms);
        cluster_view_put(&play->p, layout_key(key, LAYOUT_ASSIGNMENT, unit, id), value);
}

static inline void put_assignment(Play *play, const char *machine, const char *unit, unsigned revision,
                                  uint64_t since_ms) {
        put_assignment_instead(play, machine_id(machine), unit, revision, since_ms, "");
}

static inline void put_state(Play *play, size_t i, const char *active, bool available) {
        const ClusterAssignment *a = assignment_of(play, i);
        bool unchecked = quality_of(play, i) == UNCHECKED;
        char key[LAYOUT_KEY_MAX], value[512];

        snprintf(value, sizeof(value),
                 "{\"active\":\"%s\",\"available\":%s,\"hash\":\"%s\",\"health\":\"%s\",\"inputs\":%llu,"
                 "\"load\":\"loaded\",\"reason\":\"%s\",\"sub\":\"running\"%s}",
                 active, available ? "true" : "false", a->hash,
                 streq(active, "failed") ? "failing" : "passing",
                 (unsigned long long) play->instances[i].inputs,
                 streq(active, "failed") ? play->failure ?: "exit status 1" : "",
                 unchecked ? ",\"unchecked\":true,\"why\":\"no room\"" : "");
        cluster_view_put(&play->p,
                         layout_key(key, LAYOUT_STATE, play->instances[i].unit,
                                    machine_id(play->instances[i].machine)),
                         value);
}

/* One instance, which is available with this revision. */
static inline void add_with(Play *play, const char *unit, const char *machine, unsigned revision) {
        size_t i = play->n++;

        if (!cluster_machine(&play->p.cluster, machine_id(machine)))
                cluster_view_machine(&play->p, machine, "", PRESENCE_UP);
        snprintf(play->instances[i].unit, sizeof(play->instances[i].unit), "%s", unit);
        snprintf(play->instances[i].machine, sizeof(play->instances[i].machine), "%s", machine);
        put_assignment(play, machine, unit, revision, 1);
        play->instances[i].index = assignment_of(play, i)->index;
        play->instances[i].inputs = content_of(play, unit);
        put_state(play, i, "active", true);
}

static inline void add(Play *play, const char *unit, const char *machine) {
        add_with(play, unit, machine, 1);
}

static inline void begin(Play *play, const char *head, const char *options) {
        *play = (Play) { .p = { .cluster.now_ms = 1000000 },
                         .head = head,
                         .options = options,
                         .template = unit_name_is_template(head) };
        want(play, 1);
        if (!play->template)
                cluster_view_target(&play->p, head, TARGET_LAUNCHED);
}

static inline void end(Play *play) {
        cluster_view_free(&play->p);
}

/* The IDs of machines are hex. */
static inline const char *machine_name(unsigned i) {
        static const char *const names[] = { "A", "B", "C", "D", "E", "F", "A1", "B1" };

        return names[i];
}

/* web@1.service to web@N.service, each on a machine of its own, follow web@.service. */
static inline void begin_template(Play *play, unsigned n, const char *options) {
        begin(play, "web@.service", options);
        for (unsigned i = 0; i < n; i++) {
                char unit[32];

                snprintf(unit, sizeof(unit), "web@%u.service", i + 1);
                put_unit(play, unit, 1, play->head, REVISION_SUBMITTED);
                cluster_view_target(&play->p, unit, TARGET_LAUNCHED);
                add(play, unit, machine_name(i));
        }
}

/* web@1.service has this drop-in of its own from now on, in its key only, or also on its machine. */
static inline void add_own(Play *play, const char *own, bool runs) {
        unsigned revision = (unsigned) revisions_wanted(&head_of(play)->unit->revisions);

        play->own = own;
        put_unit(play, "web@1.service", revision, play->head, REVISION_SUBMITTED);
        if (!runs)
                return;
        put_assignment(play, play->instances[0].machine, "web@1.service", revision, 1);
        play->instances[0].index = assignment_of(play, 0)->index;
        put_state(play, 0, "active", true);
}

static inline void begin_global(Play *play, unsigned n, const char *options) {
        static char text[512];

        snprintf(text, sizeof(text), "Global=yes\n%s", options);
        begin(play, "agent.service", text);
        for (unsigned i = 0; i < n; i++)
                add(play, "agent.service", machine_name(i));
}

/* -- Steps -- */

static inline void write_record(Play *play, const RolloutRecord *record) {
        char key[LAYOUT_KEY_MAX];
        _cleanup_text_ Text t = {};

        stored_rollout_write(&t, record);
        cluster_view_put(&play->p, layout_key(key, LAYOUT_ROLLOUT, play->head, NULL), t.chars);
}

static inline const char *machine_of(Play *play, const char *id) {
        for (size_t i = 0; i < play->n; i++)
                if (streq(machine_id(play->instances[i].machine), id))
                        return play->instances[i].machine;
        fail();
        return NULL;
}

/* Instances without a machine get the text of the step. */
static inline void put_followers(Play *play, const RolloutStep *step, unsigned revision) {
        for (size_t i = 0; i < step->n_followers; i++) {
                char unit[UNIT_NAME_MAX + 1];

                snprintf(unit, sizeof(unit), "%s", step->followers[i]->name);
                put_unit(play, unit, revision, play->head, REVISION_SUBMITTED);
        }
}

/* Write a step as the engine does. Return what it changes. */
static inline RolloutChange step(Play *play) {
        const RolloutConditions conditions = { .leads_ms = play->leads_ms, .braked = play->braked };
        _cleanup_rollout_step_ RolloutStep step = {};
        const ClusterUnit *head = head_of(play);
        unsigned to = (unsigned) revisions_wanted(&head->unit->revisions);
        size_t used = strlen(play->reasons);
        char key[LAYOUT_KEY_MAX];

        assert_int_equal(rollout_step(&play->p.cluster, head, &conditions, &step), 0);
        if (step.change == ROLLOUT_NOTHING)
                return step.change;
        play->n_steps++;
        snprintf(play->reasons + used, sizeof(play->reasons) - used, "%s%s", step.reason,
                 step.reason[0] ? "; " : "");
        for (size_t i = 0; i < step.n_updates; i++) {
                const ClusterAssignment *a = step.updates[i].assignment;
                const char *machine = machine_of(play, a->machine->id);
                char unit[32];

                snprintf(unit, sizeof(unit), "%s", a->unit);
                put_assignment(play, machine, unit, to, play->p.cluster.now_ms);
                if (play->template)
                        put_unit(play, unit, to, play->head, REVISION_SUBMITTED);
        }
        put_followers(play, &step, to);
        if (step.change == ROLLOUT_REVERT)
                put_unit(play, play->head, (unsigned) step.next.to.number, NULL, REVISION_REVERTED);
        if (step.has_record)
                write_record(play, &step.next);
        if (step.change == ROLLOUT_DELETE)
                cluster_view_remove(&play->p, layout_key(key, LAYOUT_ROLLOUT, play->head, NULL));
        return step.change;
}

static inline size_t count_unavailable(Play *play) {
        size_t n = 0;

        for (size_t i = 0; i < play->n; i++) {
                const ClusterState *s = cluster_state(
                        &play->p.cluster, machine_id(play->instances[i].machine), play->instances[i].unit);
                const ClusterAssignment *a = assignment_of(play, i);

                n += !s || !s->state.available || !a || !streq(s->state.hash, a->hash) ||
                     s->state.inputs < a->inputs;
        }
        return n;
}

/* Whether an instance runs and is available with the text and the content that are assigned. */
static inline bool has_it(Play *play, size_t i) {
        const ClusterState *s = cluster_state(&play->p.cluster, machine_id(play->instances[i].machine),
                                              play->instances[i].unit);

        return s && s->state.available && streq(s->state.hash, assignment_of(play, i)->hash) &&
               s->state.inputs >= assignment_of(play, i)->inputs;
}

/* The machines that are up execute assignments that they have not executed, with the present content. */
static inline void machines_act(Play *play) {
        for (size_t i = 0; i < play->n; i++) {
                const ClusterMachine *m = cluster_machine(&play->p.cluster,
                                                          machine_id(play->instances[i].machine));
                const ClusterAssignment *a = assignment_of(play, i);

                if (!a || m->presence != PRESENCE_UP || play->quality[a->revision] == STUCK ||
                    play->contents[a->inputs] == STUCK)
                        continue;
                if (play->instances[i].index != a->index && has_it(play, i))
                        play->instances[i].index = a->index;
                else if (play->instances[i].index != a->index) {
                        play->instances[i].index = a->index;
                        play->instances[i].inputs = content_of(play, play->instances[i].unit);
                        play->instances[i].started_ms = play->p.cluster.now_ms;
                        play->instances[i].n_starts++;
                        put_state(play, i,
                                  quality_of(play, i) == FAILS     ? "failed" :
                                  quality_of(play, i) == UNSTARTED ? "inactive" :
                                                                     "active",
                                  false);
                } else if (play->instances[i].started_ms > 0 && quality_of(play, i) == GOOD &&
                           play->p.cluster.now_ms >= play->instances[i].started_ms + 2000) {
                        play->instances[i].started_ms = 0;
                        put_state(play, i, "active", true);
                }
        }
}

/* A second passes. */
static inline void second(Play *play) {
        for (unsigned n = 0; step(play) != ROLLOUT_NOTHING; n++)
                assert_true(n < 10); /* a step ends */
        machines_act(play);
        play->max_unavailable = MAX(play->max_unavailable, count_unavailable(play));
        play->p.cluster.now_ms += 1000;
}

static inline void seconds(Play *play, unsigned n) {
        while (n-- > 0)
                second(play);
}

static inline size_t count_with(Play *play, unsigned revision) {
        size_t n = 0;

        for (size_t i = 0; i < play->n; i++)
                n += assignment_of(play, i) && assignment_of(play, i)->revision == revision;
        return n;
}

/* 0 or a negative errno: the request is refused. */
static inline int ask(Play *play, RolloutVerb verb) {
        const RolloutRequest request = { .now_ms = play->p.cluster.now_ms, .index = play->p.index + 1 };
        RolloutRecord next = {};
        Error err = {};
        int r = rollout_ask(head_of(play), verb, &request, &next, &err);

        if (r >= 0)
                write_record(play, &next);
        rollout_record_done(&next);
        return r;
}

static inline unsigned starts(Play *play) {
        unsigned n = 0;

        for (size_t i = 0; i < play->n; i++)
                n += play->instances[i].n_starts;
        return n;
}

#define assert_rollout(play, expected, revision)                                     \
        do {                                                                         \
                assert_non_null(record_of(play));                                    \
                assert_string_equal(rollout_state_to_string(record_of(play)->state), \
                                    rollout_state_to_string(expected));              \
                assert_int_equal(record_of(play)->to.number, (revision));            \
        } while (false)
