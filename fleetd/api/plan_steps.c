/* /fleet/v1/plan: where units would be placed that are not submitted yet. /fleet/v1/plan/machines: which
 * units a change of metadata would move or stop.
 *
 * A plan may compare units with thousands of machines. It is made in steps, of which a turn of the loop makes
 * few, as of lists; between them, the cluster changes. Each sender has a pace, and one plan at a time. */

#include "fleetd/api/plan_v1.h"
#include "fleetd/engine/plan.h"

enum {
        STEP_WORK = 50000,              /* of the scheduler: some ms */
        STEP_LEAST = 10,                /* of it, for a step that compares nothing */
        STEP_BYTES = TURN_WORK_MAX / 4, /* which the turn counts for STEP_WORK */
        UNIT_WORK_MAX = 700000,         /* of one unit in one step: about 50 ms */
        OPTION_WORK = 30,               /* of an option or section that is read */
        WORK_BYTES = 2,                 /* of a body or text that are read in a unit of work */
        PACE_WORK = 1000,               /* of one unit of the pace */
        PACE_PER_SECOND = 200,          /* of one sender: 2 to 5 % of a processor, above the debt */
        PACE_BURST = 2 * PLAN_WORK_MAX / PACE_WORK,
        PACE_DEBT_S = 3,                      /* at most, until the next plan of the sender begins */
        WAITING_BYTES_MAX = 32 * 1024 * 1024, /* bodies of these */
};

/* -- Senders -- */

/* Return the sender: a principal of this host, or the host that has forwarded the request. Of too many
 * senders, the one that was used least loses its place; if all have plans, the first one shares it. */
static PlanSender *plan_sender(Request *request) {
        PlanSender *senders = request->api->plans, *least = NULL;
        char name[PRINCIPAL_TEXT_SIZE];

        if (request->origin)
                snprintf(name, sizeof(name), "%s", request->origin->machine);
        else
                (void) principal_text(&request->sender->principal, name);
        for (PlanSender *s = senders; s < senders + PLAN_SENDERS_MAX; s++) {
                if (streq(s->name, name))
                        return s;
                (void) pace_wait_ms(&s->pace, PACE_PER_SECOND, PACE_BURST, loop_now_ms(request->api->loop));
                if (TAILQ_EMPTY(&s->plans) && (!least || s->pace.thousandths < least->pace.thousandths))
                        least = s;
        }
        if (!least)
                return senders;
        snprintf(least->name, sizeof(name), "%s", name);
        return least;
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
        PlanSender *sender;
        TAILQ_ENTRY(Planning) plans;       /* of the sender, in the order of their arrival */
        bool (*begin)(struct Planning *p); /* reads the body; false: the request is answered */
        Text body;                         /* of a client of this host, if the plan has waited */
        ApiPage page;                      /* the units of the request, until they are drafted */
        size_t paid;                       /* of plan_work() */
        Error err;                         /* of 'error' */
        Draft draft;
        Text t;
        RegistryObserver observer;
        bool changed; /* the cluster view, since the last step */
        Timer timer;
        bool (*step)(struct Planning *p); /* false: no more. NULL: it has not begun, and has only its body */
        int error;
        size_t at;               /* the next unit */
        const char *unit;        /* of the request or of a machine, that the step has planned; or NULL */
        unsigned phase;          /* PlanPhase, 4 more for the instances, then the rollouts */
        bool open;               /* a list of the answer */
        DraftMetadata *metadata; /* of a plan of metadata, as all that follows */
        size_t n_metadata, n_begun;
        Leaving *leaving; /* on the machines that were begun */
        size_t n_leaving, leaving_capacity, first;
        bool again;           /* a unit has left the machine: others may follow it (MachineOf=) */
        const PlanType *type; /* of a feature; NULL: none */
        void *self;
} Planning;

static void plan_on_turn(Request *request);

static void plan_on_end(Request *request) {
        Planning *p = request->state, *next = TAILQ_NEXT(p, plans);

        if (next && TAILQ_FIRST(&p->sender->plans) == p)
                request_list_later(next->request, plan_on_turn);
        registry_unobserve(request->api->host->registry, &p->observer);
        timer_stop(&p->timer);
        TAILQ_REMOVE(&p->sender->plans, p, plans);
        request->api->plan_bytes -= p->body.size;
        text_done(&p->body);
        api_page_done(&p->page);
        draft_done(&p->draft);
        text_done(&p->t);
        for (size_t i = 0; i < p->n_metadata; i++)
                pairs_done(&p->metadata[i].pairs);
        free(p->metadata);
        for (size_t i = 0; i < p->n_leaving; i++)
                free(p->leaving[i].unit);
        free(p->leaving);
        if (p->type)
                p->type->free(p->self);
        free(p);
}

static size_t plan_work(const Planning *p) {
        const Draft *d = &p->draft;

        return d->work + (d->view ? scheduler_view_work(d->view) : 0) +
               OPTION_WORK * (d->n_options + d->instance_options) + d->text_size / WORK_BYTES +
               d->steps / PATTERNS_STEPS;
}

/* Count what was done since the last call, for the turn and for the sender. */
static void plan_pay(Planning *p) {
        size_t work = plan_work(p) - p->paid;
        uint64_t *taken = &p->sender->pace.thousandths;

        pace_take(&p->sender->pace, 1 + work / PACE_WORK);
        *taken = MIN(*taken, (PACE_BURST + PACE_DEBT_S * (uint64_t) PACE_PER_SECOND) * 1000);
        loop_count(p->request->api->loop, 0, (uint64_t) STEP_BYTES * work / STEP_WORK);
        p->paid += work;
}

/* Return whether the plan waits for others of its sender, or for the pace. It does not wait with a draft. */
static bool plan_waits(Planning *p) {
        Loop *loop = p->request->api->loop;
        uint64_t wait_ms;

        if (p->step || TAILQ_FIRST(&p->sender->plans) != p)
                return !p->step;
        wait_ms = pace_wait_ms(&p->sender->pace, PACE_PER_SECOND, PACE_BURST, loop_now_ms(loop));
        return wait_ms > 0 && timer_start(&p->timer, loop, wait_ms) >= 0;
}

/* Borrow from the cluster view as it is now, with all that was decided. 0 or -ENOMEM. */
static int plan_renew(Planning *p) {
        const Cluster *c = registry_cluster(p->request->api->host->registry);
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
        if (r >= 0 && p->type)
                r = p->type->renew(p->self, p->draft.view);
        p->draft.work += p->n_leaving;
        plan_pay(p);
        p->changed = false;
        return r;
}

static void plan_on_timer(void *userdata) {
        const Planning *p = userdata;

        request_list_later(p->request, plan_on_turn);
}

/* Answer, which frees 'p'. */
static void plan_answer(Planning *p) {
        _cleanup_text_ Text t = p->t;

        p->t = (Text) {};
        if (p->error < 0 && p->error != -ENOMEM) {
                request_error(p->request, p->error == -ENOENT ? 404 : request_refused(p->error, &p->err),
                              "%s", p->err.message);
                return;
        }
        if (p->open)
                json_close(&t, ']');
        json_close(&t, '}');
        t.error = MIN(t.error, p->error);
        request_answer_json(p->request, 200, &t);
}

/* Read the body. False: the request is answered, and 'p' is freed. */
static bool plan_start(Planning *p) {
        HttpRequest *http = p->request->http;

        if (p->body.size > 0) {
                http->body = p->body.chars;
                http->body_size = p->body.size;
        }
        p->draft.work = http->body_size / WORK_BYTES;
        plan_pay(p);
        p->changed = false;
        return p->begin(p);
}

static bool plan_step(Planning *p) {
        const Draft *d = &p->draft;
        bool more;

        p->unit = NULL;
        p->draft.work += STEP_LEAST;
        scheduler_view_limit(d->view, UNIT_WORK_MAX);
        more = p->step(p);
        if (p->unit && scheduler_view_is_spent(d->view))
                p->error = error_set(&p->err, -E2BIG,
                                     "%s: too many patterns are compared with too many units (more than %d "
                                     "steps): use fewer patterns, or full names",
                                     p->unit, UNIT_WORK_MAX);
        else if (p->unit && scheduler_view_work(d->view) - d->spent > PLAN_WORK_MAX)
                p->error = error_set(&p->err, -E2BIG,
                                     "the plan compares too much (more than %d steps): plan fewer units at "
                                     "once",
                                     PLAN_WORK_MAX);
        return more && p->error >= 0;
}

static void plan_on_turn(Request *request) {
        Planning *p = request->state;
        bool more;

        if (plan_waits(p) || (!p->step && !plan_start(p)))
                return;
        if (p->changed)
                p->error = plan_renew(p);
        more = p->error >= 0;
        while (more && !p->changed && plan_work(p) - p->paid < STEP_WORK)
                more = plan_step(p);
        plan_pay(p);
        if (more)
                request_list_later(request, plan_on_turn);
        else
                plan_answer(p);
}

static void plan_on_change(void *userdata, const RegistryChange *change) {
        Planning *p = userdata;

        p->changed = true;
}

/* Make the plan in its turn. The connection of a client does not keep the body. */
static void plan_receive(Request *request, bool (*begin)(Planning *p), const PlanType *type, void *self) {
        Planning *p = NEW0(Planning, 1);

        if (!p) {
                if (type)
                        type->free(self);
                request_error(request, 500, "out of memory");
                return;
        }
        *p = (Planning) { .request = request,
                          .type = type,
                          .self = self,
                          .sender = plan_sender(request),
                          .begin = begin,
                          .open = true,
                          .observer = { .on_change = plan_on_change, .userdata = p },
                          .timer = TIMER(plan_on_timer, p) };
        registry_observe(request->api->host->registry, &p->observer);
        TAILQ_INSERT_TAIL(&p->sender->plans, p, plans);
        request->state = p;
        request->on_end = plan_on_end;
        json_open(&p->t, NULL, '{');
        json_open(&p->t, type ? type->list : "units", '[');
        if (!plan_waits(p) && request_may_list(request, plan_on_turn)) {
                plan_on_turn(request);
                return;
        }
        if (!request->http->sink)
                text_append_bytes(&p->body, request->http->body, request->http->body_size);
        request->api->plan_bytes += p->body.size;
        if (p->body.error < 0 || request->api->plan_bytes > WAITING_BYTES_MAX)
                request_error(request, 503, "too many plans wait: ask again later");
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
                return draft_is_exhausted(d, i) ? 0 : draft_unit(d, i, &p->t);
        }
}

/* Below KV_LEVEL_UPDATES there are no rollouts. Return false after the last phase. */
static bool plan_next_phase(Planning *p) {
        Draft *d = &p->draft;

        p->phase++;
        p->at = p->phase >= _PLAN_PHASE_MAX && p->phase < 2 * _PLAN_PHASE_MAX ? d->n_given : 0;
        if (p->phase == _PLAN_PHASE_MAX)
                d->given_work = scheduler_view_work(d->view);
        if (p->phase != 2 * _PLAN_PHASE_MAX)
                return p->phase < 2 * _PLAN_PHASE_MAX;
        d->spent = scheduler_view_work(d->view) - d->given_work;
        if (request_level(p->request) < KV_LEVEL_UPDATES)
                return false;
        json_close(&p->t, ']');
        p->open = false;
        return true;
}

/* Go to the next unit, unless this one is to be continued. An instance above the limit is left out. */
static bool plan_advance(Planning *p) {
        if (p->error != 1) {
                p->draft.after[0] = 0;
                p->at++;
        }
        p->error = p->error == -E2BIG && !p->unit ? 0 : p->error;
        return p->error >= 0;
}

static bool plan_step_units(Planning *p) {
        Draft *d = &p->draft;
        bool rollouts = p->phase == 2 * _PLAN_PHASE_MAX;
        size_t end = p->phase < _PLAN_PHASE_MAX || rollouts ? d->n_given : d->n;

        if (p->at >= end)
                return plan_next_phase(p);
        p->unit = p->at < d->n_given ? d->units[p->at].name : NULL;
        p->error = rollouts ? draft_write_rollout_of(d, p->at, &p->open, &p->t) :
                              plan_unit(p, p->phase % _PLAN_PHASE_MAX, p->at);
        return plan_advance(p);
}

static bool plan_step_texts(Planning *p) {
        p->error = draft_add(&p->draft, &p->page, &p->err);
        if (p->error == 0)
                p->step = plan_step_units;
        return p->error >= 0;
}

static bool plan_begin_units(Planning *p) {
        const HttpRequest *http = p->request->http;

        p->step = plan_step_texts;
        p->error = api_units_read(http->body, http->body_size, PLAN_UNITS_MAX, &p->page, &p->err);
        if (p->error == -E2BIG)
                error_set(&p->err, -E2BIG, "more than %d units in one plan", PLAN_UNITS_MAX);
        else if (p->error < 0)
                error_prefix(&p->err, p->error, "unable to decode body");
        else
                p->error = draft_begin(&p->draft, registry_cluster(p->request->api->host->registry),
                                       &p->page);
        return true;
}

unsigned plan_handle(Request *request, Error *err) {
        plan_receive(request, plan_begin_units, NULL, NULL);
        return 0;
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
                char *name = engine_may_leave(o) ? strdup(o->unit) : NULL;

                p->draft.work += STEP_LEAST;
                if (!engine_may_leave(o))
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
        p->unit = l->unit;
        p->error = draft_leave(d, m, u, l->to, &p->t);
        if (p->error < 0)
                return false;
        l->result = p->error;
        p->error = 0;
        p->again = p->again || l->result == 1;
        return true;
}

static bool plan_begin_machines(Planning *p) {
        const Cluster *c = registry_cluster(p->request->api->host->registry);
        _cleanup_(metadata_patch_done) MetadataPatch patch = {};
        unsigned status;

        status = metadata_patch_read(p->request, &patch, &p->err);
        if (status > 0) {
                request_error(p->request, status, "%s", p->err.message);
                return false;
        }
        p->draft.work += STEP_LEAST * patch.n + patch.n * patch.n / 16; /* each is searched */
        p->step = plan_step_machines;
        p->error = plan_make_metadata(p, c, &patch);
        if (p->error >= 0)
                p->error = draft_begin(&p->draft, c, &p->page);
        p->changed = p->error >= 0;
        return true;
}

unsigned plan_machines_handle(Request *request, Error *err) {
        plan_receive(request, plan_begin_machines, NULL, NULL);
        return 0;
}

/* -- The plan of a feature -- */

static bool plan_step_type(Planning *p) {
        p->error = p->type->step(p->self, &p->t, &p->err);
        p->changed |= p->error > 1;
        return p->error > 0;
}

static bool plan_begin_type(Planning *p) {
        p->step = plan_step_type;
        p->changed = true;
        return true;
}

unsigned plan_of(Request *request, const PlanType *type, void *self) {
        plan_receive(request, plan_begin_type, type, self);
        return 0;
}
