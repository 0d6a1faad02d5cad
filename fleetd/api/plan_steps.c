/* /fleet/v1/plan: where units would be placed that are not submitted yet. /fleet/v1/plan/machines: which
 * units a change of metadata would move or stop.
 *
 * A plan may compare units with thousands of machines. It is made in steps, of which a turn of the loop makes
 * few, as of lists; between them, the cluster changes. Each sender has a pace. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fleetd/api/plan_v1.h"

enum {
        STEP_WORK = 50000,              /* of the scheduler */
        STEP_BYTES = TURN_WORK_MAX / 4, /* which the turn counts for it */
        PACE_WORK = 1000,               /* of one unit of the pace */
        PACE_PER_SECOND = 200,          /* of one sender: 2 to 5 % of a processor */
        PACE_BURST = 2 * PLAN_WORK_MAX / PACE_WORK,
};

/* -- Paces -- */

/* Return the pace of the sender: a principal of this host, or the host that has forwarded the request. Of too
 * many senders, the one that was used least has to share its place. */
static Pace *plan_pace(Request *request) {
        PlanPace *paces = request->api->plans;
        char name[PRINCIPAL_TEXT_SIZE];
        size_t least = 0;

        if (request->origin)
                snprintf(name, sizeof(name), "%s", request->origin->machine);
        else
                (void) principal_text(&request->sender->principal, name);
        for (size_t i = 0; i < PLAN_PACES_MAX; i++) {
                if (streq(paces[i].name, name))
                        return &paces[i].pace;
                (void) pace_wait_ms(&paces[i].pace, PACE_PER_SECOND, PACE_BURST,
                                    loop_now_ms(request->api->loop));
                if (paces[i].pace.thousandths < paces[least].pace.thousandths)
                        least = i;
        }
        snprintf(paces[least].name, sizeof(name), "%s", name);
        return &paces[least].pace;
}

/* -- Steps -- */

/* What is done with each unit, first of the request, then of the instances that follow a template of it. They
 * do not stop the units of the request. Units that stop or move leave their machines to those that had to
 * stop: two units exchange their machines. */
typedef enum PlanPhase {
        PLAN_FIND,    /* those that stop because no machine is free */
        PLAN_OTHERS,  /* plan the others */
        PLAN_REMOVE,  /* those that leave */
        PLAN_STOPPED, /* plan those that stop */
        _PLAN_PHASE_MAX,
} PlanPhase;

/* A machine with the metadata that it would have. */
typedef struct DraftMetadata {
        const ClusterMachine *machine; /* NULL: it is gone */
        char id[MACHINE_ID_SIZE];
        Pairs pairs;
} DraftMetadata;

/* A unit on such a machine. */
typedef struct Leaving {
        char *unit;
        size_t from; /* of the metadata */
        char to[MACHINE_ID_SIZE];
        int result; /* of draft_leave() */
} Leaving;

typedef struct Planning {
        Request *request;
        Draft draft;
        Text t;
        RegistryObserver observer;
        bool changed; /* the cluster view, since the last step */
        Timer timer;
        bool (*step)(struct Planning *p); /* false: it was the last one, or has failed */
        int error;                        /* -E2BIG: the plan is too large */
        size_t at;                        /* the next unit */
        unsigned phase;                   /* PlanPhase, 4 more for the instances, then the rollouts */
        bool open;                        /* a list of the answer */
        DraftMetadata *metadata;          /* of a plan of metadata, as all that follows */
        size_t n_metadata, n_begun;
        Leaving *leaving; /* on the machines that were begun */
        size_t n_leaving, leaving_capacity, first;
        bool again; /* a unit has left the machine: others may follow it (MachineOf=) */
} Planning;

static void plan_on_end(Request *request) {
        Planning *p = request->state;

        registry_unobserve(request->api->options.registry, &p->observer);
        timer_stop(&p->timer);
        draft_done(&p->draft);
        text_done(&p->t);
        for (size_t i = 0; i < p->n_metadata; i++)
                pairs_done(&p->metadata[i].pairs);
        free(p->metadata);
        for (size_t i = 0; i < p->n_leaving; i++)
                free(p->leaving[i].unit);
        free(p->leaving);
        free(p);
}

static bool plan_is_too_large(const Draft *d) {
        return scheduler_view_work(d->view) - d->spent > PLAN_WORK_MAX;
}

/* Borrow from the cluster view as it is now, with all that was decided. 0 or -ENOMEM. */
static int plan_renew(Planning *p) {
        const Cluster *c = registry_cluster(p->request->api->options.registry);
        int r = draft_renew(&p->draft, c);

        for (size_t i = 0; r >= 0 && i < p->n_metadata; i++) {
                DraftMetadata *x = &p->metadata[i];

                x->machine = cluster_machine(c, x->id);
                if (x->machine)
                        scheduler_view_set_metadata(p->draft.view, x->machine, &x->pairs);
        }
        for (size_t i = 0; r >= 0 && i < p->n_leaving; i++) {
                const Leaving *l = &p->leaving[i];
                const ClusterMachine *m = p->metadata[l->from].machine, *to = cluster_machine(c, l->to);
                const ClusterUnit *u = cluster_unit(c, l->unit);

                if (l->result != 1 || !u)
                        continue;
                if (to)
                        r = scheduler_view_decide(p->draft.view, to, u, true);
                if (r >= 0 && m)
                        r = scheduler_view_decide(p->draft.view, m, u, false);
        }
        p->changed = false;
        return r;
}

static void plan_on_turn(Request *request);

static void plan_on_timer(void *userdata) {
        const Planning *p = userdata;

        request_list_later(p->request, plan_on_turn);
}

/* Answer, which frees 'p'. */
static void plan_answer(Planning *p) {
        _cleanup_text_ Text t = p->t;

        p->t = (Text) {};
        if (p->error == -E2BIG) {
                request_error(p->request, 400,
                              "the plan compares too much (more than %d steps): plan fewer units at once",
                              PLAN_WORK_MAX);
                return;
        }
        if (p->open)
                json_close(&t, ']');
        json_close(&t, '}');
        t.error = MIN(t.error, p->error);
        request_answer_json(p->request, 200, &t);
}

static void plan_on_turn(Request *request) {
        Planning *p = request->state;
        Loop *loop = request->api->loop;
        Pace *pace = plan_pace(request);
        uint64_t wait_ms = pace_wait_ms(pace, PACE_PER_SECOND, PACE_BURST, loop_now_ms(loop));
        size_t begin, work;
        bool more = true;

        if (wait_ms > 0 && timer_start(&p->timer, loop, wait_ms) >= 0)
                return;
        if (p->changed)
                p->error = plan_renew(p);
        if (p->error < 0) {
                plan_answer(p);
                return;
        }
        begin = scheduler_view_work(p->draft.view);
        do {
                more = p->step(p);
                work = scheduler_view_work(p->draft.view) - begin;
        } while (more && work < STEP_WORK);
        pace_take(pace, 1 + work / PACE_WORK);
        loop_count(loop, 0, (size_t) STEP_BYTES * MIN(work, (size_t) STEP_WORK) / STEP_WORK);
        if (more)
                request_list_later(request, plan_on_turn);
        else
                plan_answer(p);
}

static void plan_on_change(void *userdata, const RegistryChange *change) {
        Planning *p = userdata;

        p->changed = true;
}

/* NULL without memory: the request is answered. */
static Planning *plan_new(Request *request, bool (*step)(Planning *p)) {
        Planning *p = NEW0(Planning, 1);

        if (!p) {
                request_error(request, 500, "out of memory");
                return NULL;
        }
        *p = (Planning) { .request = request,
                          .step = step,
                          .open = true,
                          .observer = { .on_change = plan_on_change, .userdata = p },
                          .timer = TIMER(plan_on_timer, p) };
        registry_observe(request->api->options.registry, &p->observer);
        request->state = p;
        request->on_end = plan_on_end;
        json_open(&p->t, NULL, '{');
        json_open(&p->t, "units", '[');
        return p;
}

static void plan_begin(Planning *p) {
        if (request_may_list(p->request, plan_on_turn))
                plan_on_turn(p->request);
}

/* -- The plan of units -- */

static int plan_unit(Planning *p, PlanPhase phase, size_t i) {
        Draft *d = &p->draft;
        DraftPosition *at = &d->positions[i];

        switch (phase) {
        case PLAN_FIND:
                draft_find_stopped(d, i);
                return 0;
        case PLAN_REMOVE:
                if ((!at->moved && !at->stopped) || !at->machine)
                        return 0;
                at->gone = true;
                return scheduler_view_remove(d->view, at->machine, &d->units[i]);
        default:
                if (at->stopped != (phase == PLAN_STOPPED))
                        return 0;
                if (i < d->n_given && plan_is_too_large(d))
                        return -E2BIG;
                return draft_is_exhausted(d, i) ? 0 : draft_unit(d, i, &p->t);
        }
}

/* Below KV_LEVEL_UPDATES there are no rollouts. Return false after the last phase. */
static bool plan_next_phase(Planning *p) {
        Draft *d = &p->draft;
        KvState state;

        p->phase++;
        p->at = p->phase >= _PLAN_PHASE_MAX && p->phase < 2 * _PLAN_PHASE_MAX ? d->n_given : 0;
        if (p->phase == _PLAN_PHASE_MAX)
                d->given_work = scheduler_view_work(d->view);
        if (p->phase != 2 * _PLAN_PHASE_MAX)
                return p->phase < 2 * _PLAN_PHASE_MAX;
        d->spent = scheduler_view_work(d->view) - d->given_work;
        kv_state(p->request->api->options.store, &state);
        if (state.level < KV_LEVEL_UPDATES)
                return false;
        json_close(&p->t, ']');
        p->open = false;
        return true;
}

static bool plan_step_units(Planning *p) {
        Draft *d = &p->draft;
        bool rollouts = p->phase == 2 * _PLAN_PHASE_MAX;
        size_t end = p->phase < _PLAN_PHASE_MAX || rollouts ? d->n_given : d->n;

        if (p->at >= end)
                return plan_next_phase(p);
        if (!rollouts)
                p->error = plan_unit(p, p->phase % _PLAN_PHASE_MAX, p->at++);
        else if (plan_is_too_large(d))
                p->error = -E2BIG;
        else
                p->error = draft_write_rollout_of(d, p->at++, &p->open, &p->t);
        return p->error >= 0;
}

void plan_handle(Request *request) {
        const Cluster *c = registry_cluster(request->api->options.registry);
        _cleanup_api_page_ ApiPage page = {};
        Planning *p;
        Error err = {};
        int r;

        r = api_units_read(request->http->body, request->http->body_size, PLAN_UNITS_MAX, &page, &err);
        if (r == -E2BIG) {
                request_error(request, 400, "more than %d units in one plan", PLAN_UNITS_MAX);
                return;
        }
        if (r < 0) {
                request_error(request, request_status_of(r), "unable to decode body: %s",
                              error_text(&err, r));
                return;
        }
        p = plan_new(request, plan_step_units);
        if (!p)
                return;
        r = draft_make(&p->draft, c, &page, &err);
        for (size_t i = 0; r >= 0 && i < p->draft.n_given; i++)
                r = draft_add_instances(&p->draft, &p->draft.units[i]);
        if (r < 0)
                request_refuse(request, r, &err);
        else
                plan_begin(p);
}

/* -- The plan of metadata -- */

/* The metadata of the machines as it would be, in the order of the request. 0 or -ENOMEM. */
static int plan_make_metadata(Planning *p, const Cluster *c, const MetadataPatch *patch) {
        p->metadata = NEW0(DraftMetadata, patch->n + 1);
        if (!p->metadata)
                return -ENOMEM;
        for (size_t i = 0; i < patch->n; i++) {
                const MetadataChange *change = &patch->changes[i];
                const ClusterMachine *m = cluster_machine(c, change->machine);
                size_t k = 0;

                if (!m)
                        continue;
                while (k < p->n_metadata && !streq(p->metadata[k].id, m->id))
                        k++;
                if (k == p->n_metadata) {
                        memcpy(p->metadata[p->n_metadata++].id, m->id, sizeof(m->id));
                        if (pairs_copy(&m->metadata, &p->metadata[k].pairs) < 0)
                                return -ENOMEM;
                }
                if (pairs_set(&p->metadata[k].pairs, change->key, *change->value ? change->value : NULL) < 0)
                        return -ENOMEM;
        }
        return 0;
}

static int leaving_compare(const void *a, const void *b) {
        return strcmp(((const Leaving *) a)->unit, ((const Leaving *) b)->unit);
}

/* Begin the next machine: its units by their names. Return false after the last one. */
static bool plan_next_machine(Planning *p) {
        const ClusterMachine *m;

        if (p->n_begun == p->n_metadata)
                return false;
        m = p->metadata[p->n_begun].machine;
        p->first = p->at = p->n_leaving;
        for (const ClusterAssignment *o = m ? m->assignments : NULL; o; o = o->hh.next) {
                char *name = draft_may_leave(o) ? strdup(o->unit) : NULL;

                if (!draft_may_leave(o))
                        continue;
                if (!name || GROW(p->leaving, p->leaving_capacity, p->n_leaving + 1) < 0) {
                        free(name);
                        p->error = -ENOMEM;
                        return false;
                }
                p->leaving[p->n_leaving++] = (Leaving) { .unit = name, .from = p->n_begun };
        }
        if (p->n_leaving > p->first)
                qsort(p->leaving + p->first, p->n_leaving - p->first, sizeof(*p->leaving), leaving_compare);
        p->n_begun++;
        return true;
}

static bool plan_step_machines(Planning *p) {
        Draft *d = &p->draft;
        const ClusterMachine *m;
        const ClusterUnit *u;
        Leaving *l;

        if (p->at == p->n_leaving) {
                if (!p->again)
                        return plan_next_machine(p);
                p->again = false;
                p->at = p->first;
        }
        l = &p->leaving[p->at++];
        m = p->metadata[l->from].machine;
        u = cluster_unit(d->cluster, l->unit);
        if (l->result != 0 || !u || !m || !scheduler_view_has(d->view, m, u->name))
                return true;
        p->error = plan_is_too_large(d) ? -E2BIG : draft_leave(d, m, u, l->to, &p->t);
        if (p->error < 0)
                return false;
        l->result = p->error;
        p->error = 0;
        p->again = p->again || l->result == 1;
        return true;
}

void plan_machines_handle(Request *request) {
        const Cluster *c = registry_cluster(request->api->options.registry);
        _cleanup_(metadata_patch_done) MetadataPatch patch = {};
        ApiPage no_units = {};
        Planning *p;
        int r;

        if (!metadata_patch_read(request, &patch))
                return;
        p = plan_new(request, plan_step_machines);
        if (!p)
                return;
        r = plan_make_metadata(p, c, &patch);
        if (r >= 0)
                r = draft_make(&p->draft, c, &no_units, NULL);
        if (r >= 0)
                r = plan_renew(p);
        if (r < 0)
                request_error(request, 500, "out of memory");
        else
                plan_begin(p);
}
