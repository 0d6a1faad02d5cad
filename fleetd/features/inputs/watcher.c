/* The leader's half: it writes the content of each unit with inputs (InputsRecord), as digest and number,
 * when an input has changed.
 *
 * An input is a path, with a watch, or a secret of the cluster view. Its change marks it; when it is due, all
 * its units are looked at together: that is a look, in which a change of any of them takes the highest number
 * of their set plus one, once. A change of the text alone changes the digest and no number: instances get the
 * text by a rollout, and the present content with it. What is remembered ends with the term; the next leader
 * looks at all units once. */
#include "fleetd/features/inputs/watched.h"

#include "base/log.h"
#include "fleetd/engine/rollout_set.h"
#include "fleetd/registry/unit_order.h"

enum {
        WATCHER_RETRY_MS = 100,         /* the tree cannot be read, or the step not written; a unit lags */
        WATCHER_WORK_MAX = 1024 * 1024, /* bytes, after which a step ends (turn_work_bytes()) */
};

/* A set, within one look. */
typedef struct WatchedSet {
        Named head;
        uint64_t look, highest;    /* number of the set */
        bool raised;               /* the number rose */
        bool noted, noted_problem; /* the history has the number, and a problem */
} WatchedSet;

typedef struct WatcherStep {
        const Cluster *cluster;
        InputsWrite writes[INPUTS_WRITES_MAX];
        InputsRecord records[INPUTS_WRITES_MAX];
        size_t n;
        /* The last content that was read: most instances of a set have equal inputs. Of one state of the
         * tree: no turn of the loop is in between. */
        const InputPolicy *policy; /* NULL: none */
        Content read;              /* without lists */
} WatcherStep;

/* The view has the last transaction, if it took effect. */
static void watcher_read_sent(Watcher *w, const Cluster *c) {
        bool failed = false;
        WatchedUnit *u;

        while ((u = TAILQ_FIRST(&w->of_state[WATCHED_SENT]))) {
                const ClusterUnit *cu = cluster_any_unit(c, u->named.name);
                bool written = (cu ? cu->inputs_index : 0) != u->sent_index;

                failed |= !written;
                if (written && !u->again)
                        watched_unit_done(w, u, cu && cu->inputs && cu->inputs->problem.code != VERDICT_NONE);
                else
                        watched_unit_move(w, u, WATCHED_DUE);
                u->again = false;
        }
        for (WatchedSet *set = failed ? (WatchedSet *) w->sets : NULL; set;
             set = (WatchedSet *) set->head.hh.next)
                set->noted = set->noted_problem = false; /* their rows are written again */
}

static bool watcher_can_reuse(const WatcherStep *step, const InputPolicy *policy, const char *unit) {
        const InputPolicy *p = step->policy;

        if (!p || step->read.problem.code == VERDICT_SECRET_OF_OTHERS ||
            !names_equal(&p->secrets, &policy->secrets) ||
            !names_equal(&p->credentials, &policy->credentials) ||
            !names_equal(&p->environment, &policy->environment) || !names_equal(&p->files, &policy->files) ||
            !names_equal(&p->directories, &policy->directories))
                return false;
        for (size_t i = 0; i < policy->secrets.n; i++) {
                const ClusterSecret *s = cluster_secret(step->cluster, policy->secrets.items[i]);

                if (s && !secret_is_for(&s->record, unit))
                        return false;
        }
        return true;
}

static int watcher_read(Watcher *w, WatcherStep *step, const ClusterUnit *u) {
        const InputPolicy *policy = &u->unit->placement.inputs;
        ResolverValues *values = NULL;
        Resolved read = {};

        loop_count(w->host->io.loop, 1, 0);
        if (watcher_can_reuse(step, policy, u->name))
                return 0;
        TRY(resolver_read(w->host, u->name, policy, false, &read, &values));
        step->policy = policy;
        step->read = read.content;
        content_done(&read.content);
        step->read.credentials = step->read.variables = step->read.files = NULL;
        (void) resolver_values_free(values);
        return 0;
}

/* Return the highest number that an instance of the unit was assigned, or has; 0: none. */
static uint64_t watcher_number_in_use(const ClusterUnit *u) {
        const ClusterAssignment *a;
        const ClusterState *s;
        uint64_t number = 0;

        LIST_FOREACH(a, &u->assignments, of_unit)
                number = MAX(number, a->inputs);
        LIST_FOREACH(s, &u->states, of_unit)
                number = MAX(number, s->state.inputs);
        return number;
}

static void watcher_set_add(WatchedSet *set, const ClusterUnit *u) {
        set->highest = MAX(set->highest, MAX(u->inputs ? u->inputs->number : 0, watcher_number_in_use(u)));
}

/* Return the number of the set, and what this look has done with it; NULL without memory. Keys may be of a
 * backup, or gone with their units: the numbers that hosts have count, too. */
static WatchedSet *watcher_set(Watcher *w, const Cluster *c, const ClusterUnit *head, uint64_t look) {
        WatchedSet *set = named_get(&w->sets, head->name, sizeof(WatchedSet));
        UnitPosition at = {};
        size_t left = 0;

        if (!set || set->look == look)
                return set;
        set->look = look;
        set->raised = set->noted = set->noted_problem = false;
        set->highest = MAX(set->highest, head->rollout ? head->rollout->to.inputs : 0);
        watcher_set_add(set, head);
        if (unit_name_is_template(head->name))
                left = unit_order_instances(&c->by_name, head->name, &at);
        loop_count(w->host->io.loop, left / 16, 0);
        for (; left > 0; left--) {
                const ClusterUnit *u = unit_order_next(&c->by_name, &at);

                if (!u->unit || rollout_head(c, u) == head)
                        watcher_set_add(set, u);
        }
        return set;
}

/* Decide the number of a content without a problem. Return false if it has to wait. 'lost': instances have a
 * content that is not known any more. */
static bool watcher_number(WatchedUnit *u, WatchedSet *set, const Content *content, bool lost, bool holds,
                           InputsRecord *next) {
        if (next->number == 0) { /* a new member */
                set->highest += lost && !set->raised;
                set->raised |= lost;
                next->number = set->highest = MAX(set->highest, (uint64_t) 1);
        } else if (u->values && !streq(next->digest, content->digest)) {
                if (holds && !set->raised)
                        return false;
                set->highest += !set->raised || next->number == set->highest;
                set->raised = true;
                next->number = set->highest;
                memcpy(next->what, u->what, sizeof(next->what));
        }
        memcpy(next->digest, content->digest, sizeof(next->digest));
        return true;
}

static void watcher_add(WatcherStep *step, const ClusterUnit *cu, const InputsRecord *record) {
        InputsWrite *write = &step->writes[step->n];

        *write = (InputsWrite) { .unit = cu };
        if (record) {
                step->records[step->n] = *record;
                write->record = &step->records[step->n];
        }
        step->n++;
}

/* Add a row of the history to the last write: one of each kind for a set in a look. */
static void watcher_note(WatcherStep *step, WatchedSet *set, const ClusterUnit *head,
                         const InputsRecord *was) {
        InputsWrite *write = &step->writes[step->n - 1];
        const InputsRecord *is = write->record;
        bool rises = was->number > 0 && is->number > was->number;

        write->begins = is->problem.code != VERDICT_NONE && is->problem.code != was->problem.code;
        if (write->begins ? !set->noted_problem : rises && !set->noted)
                write->noted = head->name;
        set->noted_problem |= write->begins;
        set->noted |= rises;
}

/* Compare the content of a unit with its record. 0 or a negative errno. */
static int watcher_compare(Watcher *w, WatcherStep *step, WatchedUnit *u, const ClusterUnit *cu) {
        static const InputsRecord none;
        const InputPolicy *policy = &cu->unit->placement.inputs;
        const ClusterUnit *head = rollout_head(step->cluster, cu);
        const InputsRecord *was = cu->inputs ?: &none;
        InputsRecord next = *was;
        WatchedSet *set;
        bool waits = false;

        TRY(watcher_read(w, step, cu));
        set = watcher_set(w, step->cluster, head, u->look);
        if (!set)
                return -ENOMEM;
        next.problem = step->read.problem;
        next.waits = step->read.waits;
        if (next.problem.code == VERDICT_NONE)
                waits = !watcher_number(u, set, &step->read, watcher_number_in_use(cu) > 0,
                                        input_policy_restarts(policy) && watched_set_rolls(head), &next);
        if (!waits)
                next.secrets = cluster_secrets_sum(step->cluster, &policy->secrets);
        if (json_record_equal(&inputs_record, was, &next)) {
                if (waits)
                        watched_unit_move(w, u, WATCHED_HELD);
                else
                        watched_unit_done(w, u, next.problem.code != VERDICT_NONE);
                return 0;
        }
        next.since_ms = step->cluster->now_ms;
        watcher_add(step, cu, &next);
        watcher_note(step, set, head, was);
        u->again = waits;
        return 0;
}

/* Look at a unit: add its write, or end its mark. */
static int watcher_look(Watcher *w, WatcherStep *step, WatchedUnit *u) {
        const ClusterUnit *cu = cluster_any_unit(step->cluster, u->named.name);

        if (cu &&
            (cluster_unit_has_unreadable(cu, LAYOUT_UNIT) || cluster_unit_has_unreadable(cu, LAYOUT_INPUTS)))
                watched_unit_move(w, u, WATCHED_HELD);
        else if (!watched_policy(cu) && cu && cu->inputs_index > 0)
                watcher_add(step, cu, NULL);
        else if (!watched_policy(cu))
                watched_unit_forget(w, u);
        else if (!cu->inputs && cu->target == TARGET_INACTIVE && LIST_EMPTY(&cu->assignments))
                watched_unit_done(w, u, false); /* no member of its set yet */
        else if (!u->values && cu->inputs && cu->inputs->number > 0 && watched_unit_lags(u)) {
                watched_unit_move(w, u, WATCHED_HELD);
                w->lags = true;
        } else
                return watcher_compare(w, step, u, cu);
        return 0;
}

/* Look at units that are due, until the step is full or its work is done. 0 or a negative errno. */
static int watcher_fill(Watcher *w, WatcherStep *step) {
        const Turns *turns = loop_turns(w->host->io.loop);
        uint64_t begin = turn_work_bytes(&turns->now);
        WatchedUnit *u = NULL;

        while (step->n < INPUTS_WRITES_MAX && (u = TAILQ_FIRST(&w->of_state[WATCHED_DUE])) &&
               turn_work_bytes(&turns->now) - begin < WATCHER_WORK_MAX) {
                size_t n = step->n;

                TRY(watcher_look(w, step, u));
                if (step->n > n) {
                        u->sent_index = step->writes[n].unit->inputs_index;
                        watched_unit_move(w, u, WATCHED_SENT);
                }
        }
        return 0;
}

/* 1: the writes are proposed. 0: there are none, or they are tried again. -ENOMEM. */
static int watcher_send(Watcher *w, WatcherStep *step, Control *control) {
        size_t n_sent = 0;
        int r = registry_write_inputs(control->registry, control->term, step->writes, step->n, &n_sent,
                                      control->done, control->userdata);

        if (r >= 0)
                return 1;
        log_warning(((LogFields) { .unit = step->writes[0].unit->name, .error = r, .term = control->term }),
                    "%s: its content cannot be written: %s; trying again", step->writes[0].unit->name,
                    strerror(-r));
        control->again_ms = WATCHER_RETRY_MS;
        return r == -ENOMEM ? r : 0;
}

int watcher_step(Control *control) {
        Watcher *w = ((Inputs *) control->self)->watcher;
        const Cluster *c = registry_cluster(control->registry);
        _cleanup_free_ WatcherStep *step = NULL;
        uint64_t next_ms;
        int r;

        if (c->adopting || c->level < KV_LEVEL_INPUTS)
                return 0;
        if (w->term != control->term) {
                watched_clear(w);
                w->term = control->term;
                watched_rescan(w);
        }
        TRY(watched_scan(w, c));
        watcher_read_sent(w, c);
        watched_retry(w);
        next_ms = watched_collect(w, c);
        if (next_ms < UINT64_MAX)
                control->again_ms = next_ms - loop_now_ms(w->host->io.loop);
        if (TAILQ_EMPTY(&w->of_state[WATCHED_DUE])) {
                named_clear(&w->sets);
                control->again_ms = w->scanning ? 0 : control->again_ms;
                return 0;
        }

        step = NEW0(WatcherStep, 1);
        if (!step)
                return -ENOMEM;
        step->cluster = c;
        r = watcher_fill(w, step);
        if (r < 0 && r != -EAGAIN)
                return r;
        if (step->n > 0)
                return watcher_send(w, step, control);
        if (r >= 0 && (w->scanning || !TAILQ_EMPTY(&w->of_state[WATCHED_DUE])))
                control->again_ms = 0;
        else if (r < 0 || w->lags)
                control->again_ms = MIN(control->again_ms, (uint64_t) WATCHER_RETRY_MS);
        return 0;
}
