/* The leader's half: it writes the content of each unit with inputs (InputsRecord), as digest and number,
 * when an input has changed.
 *
 * An input is a path, with a watch, or a secret of the cluster view. Its change marks it; when it is due, all
 * its units are looked at together: that is a look, in which a change of any of them takes the highest number
 * of their set plus one, once. A change of the text alone changes the digest and no number: instances get the
 * text by a rollout, and the present content with it. What is remembered ends with the term; the next leader
 * looks at all units once. */
#include "fleetd/features/inputs/inputs_internal.h"

#include "base/log.h"
#include "fleetd/engine/engine.h"
#include "fleetd/engine/rollout_set.h"
#include "fleetd/registry/unit_order.h"

enum {
        WATCH_WAIT_MS = 200,          /* after the first change of an input */
        WATCH_PAUSE_MS = 2000,        /* between two looks at an input */
        WATCH_RETRY_MS = 100,         /* the tree cannot be read, or the step not written */
        WATCH_SCAN_MAX = 250,         /* units of the view in one step */
        WATCH_WORK_MAX = 1024 * 1024, /* bytes, after which a step ends (turn_work_bytes()) */
        WATCH_INPUTS_MAX = INPUT_SECRETS_MAX + 2 * INPUT_PATHS_MAX, /* of one unit */
};

/* A path, or the name of a secret: only a path begins with '/'. */
typedef struct WatchedInput {
        Watcher *watcher;
        KvWatch *watch;  /* NULL: of a secret, or it could not be opened */
        size_t n_units;  /* references by units */
        uint64_t due_ms; /* when its units are looked at; 0: it has not changed */
        uint64_t looked_ms;
        TAILQ_ENTRY(WatchedInput) changed; /* while 'due_ms' is set */
        UT_hash_handle hh;
        char text[];
} WatchedInput;

typedef enum WatchedState {
        WATCHED_IDLE,
        WATCHED_DUE,  /* to be looked at */
        WATCHED_HELD, /* its number has to rise after the rollout of its set; a key of it cannot be read; or,
                         without 'values', see watcher_lags() */
        WATCHED_SENT, /* its record is being written */
        _WATCHED_STATE_MAX,
} WatchedState;

typedef TAILQ_HEAD(WatchedUnits, WatchedUnit) WatchedUnits;

typedef struct WatchedUnit {
        Named named;
        WatchedInput *inputs[WATCH_INPUTS_MAX];
        size_t n_inputs;
        WatchedState state;
        TAILQ_ENTRY(WatchedUnit) of_state; /* but for WATCHED_IDLE */
        uint64_t look;                     /* the last one in which it was marked */
        uint64_t sent_index;               /* WATCHED_SENT: of its key before */
        bool values;                       /* an input may have changed, not only the text */
        bool again;                        /* WATCHED_SENT: it is due after that */
        char what[INPUTS_WHAT_SIZE];       /* the input that changed last; "": unknown */
} WatchedUnit;

/* A set, within one look. */
typedef struct WatchedSet {
        Named head;
        uint64_t look, highest;    /* number of the set */
        bool raised;               /* the number rose */
        bool noted, noted_problem; /* the history has the number, and a problem */
} WatchedSet;

struct Watcher {
        ComponentHost *host; /* borrowed */
        RegistryObserver observer;
        Timer timer;   /* wakes the engine for the next input that is due */
        uint64_t term; /* 0: nothing is watched */
        uint64_t look; /* the last one */
        Named *units;  /* WatchedUnit: those with inputs, or with a content */
        Named *sets;   /* WatchedSet: until no unit is due, and all records are written */
        WatchedInput *inputs;
        TAILQ_HEAD(, WatchedInput) changed;
        WatchedUnits of_state[_WATCHED_STATE_MAX];
        bool lags;                      /* a held unit does */
        bool scanning;                  /* all units of the view are marked from 'cursor' on */
        char cursor[UNIT_NAME_MAX + 1]; /* "": the first one */
};

/* -- Inputs -- */

static void watcher_input_changed(WatchedInput *input) {
        Watcher *w = input->watcher;
        uint64_t now_ms = loop_now_ms(w->host->io.loop), due_ms = now_ms + WATCH_WAIT_MS;

        if (input->due_ms > 0)
                return;
        if (input->looked_ms > 0)
                due_ms = MAX(due_ms, input->looked_ms + WATCH_PAUSE_MS);
        input->due_ms = due_ms;
        TAILQ_INSERT_TAIL(&w->changed, input, changed);
        (void) timer_start_by(&w->timer, w->host->io.loop, due_ms, 0); /* else the engine's resync finds it */
}

static void watcher_on_event(void *userdata, KvWatchEvent *event) {
        watcher_input_changed(userdata);
}

static void watcher_on_cleared(void *userdata, uint64_t oldest, uint64_t current) {
        WatchedInput *input = userdata;

        input->watch = NULL; /* opened again before the look */
        watcher_input_changed(input);
}

/* Without a watch, the path is looked at again and again. */
static void watcher_open(WatchedInput *input) {
        static const KvWatchOps ops = { .on_event = watcher_on_event, .on_cleared = watcher_on_cleared };
        const KvWatchOptions options = { .key = kv_string(input->text), .recursive = true };
        uint64_t oldest;

        if (*input->text == '/' && !input->watch &&
            kv_watch(input->watcher->host->store, &options, &ops, input, &input->watch, &oldest) < 0)
                watcher_input_changed(input);
}

static void watcher_input_settle(WatchedInput *input) {
        if (input->due_ms > 0)
                TAILQ_REMOVE(&input->watcher->changed, input, changed);
        input->due_ms = 0;
}

static WatchedInput *watcher_get_input(Watcher *w, const char *text) {
        WatchedInput *input = TABLE_FIND(w->inputs, text);

        if (!input) {
                input = (WatchedInput *) NEW0(char, sizeof(*input) + strlen(text) + 1);
                if (!input)
                        return NULL;
                input->watcher = w;
                memcpy(input->text, text, strlen(text) + 1);
                HASH_ADD_KEYPTR(hh, w->inputs, input->text, strlen(text), input);
                if (!TABLE_ADDED_OR_FREED(input))
                        return NULL;
                watcher_open(input);
        }
        input->n_units++;
        return input;
}

static void watcher_put_input(Watcher *w, WatchedInput *input) {
        if (--input->n_units > 0)
                return;
        watcher_input_settle(input);
        (void) kv_watch_close(input->watch);
        HASH_DEL(w->inputs, input);
        free(input);
}

/* -- Units -- */

static void watcher_move(Watcher *w, WatchedUnit *u, WatchedState to) {
        if (u->state != WATCHED_IDLE)
                TAILQ_REMOVE(&w->of_state[u->state], u, of_state);
        u->state = to;
        if (to != WATCHED_IDLE)
                TAILQ_INSERT_TAIL(&w->of_state[to], u, of_state);
}

static void watcher_settle(Watcher *w, WatchedUnit *u) {
        watcher_move(w, u, WATCHED_IDLE);
        u->values = u->again = false;
        u->what[0] = 0;
}

/* 'what': the input that has changed; NULL: another reason. */
static void watcher_mark(Watcher *w, WatchedUnit *u, bool values, const char *what) {
        u->look = w->look;
        u->values |= values;
        if (what)
                text_format(u->what, sizeof(u->what), "%s%s", *what == '/' ? "" : "secret ", what);
        if (u->state == WATCHED_SENT)
                u->again = true;
        else if (u->state != WATCHED_DUE)
                watcher_move(w, u, WATCHED_DUE);
}

static void watcher_put_inputs(Watcher *w, WatchedInput *const *inputs, size_t n) {
        while (n > 0)
                watcher_put_input(w, inputs[--n]);
}

static void watcher_forget(Watcher *w, WatchedUnit *u) {
        char name[UNIT_NAME_MAX + 1];

        memcpy(name, u->named.name, sizeof(name));
        watcher_put_inputs(w, u->inputs, u->n_inputs);
        watcher_move(w, u, WATCHED_IDLE);
        named_remove(&w->units, name);
}

/* The inputs of a unit that may have a content; NULL: it has none. */
static const InputPolicy *watcher_policy(const ClusterUnit *u) {
        return u && u->unit && !unit_name_is_template(u->name) &&
                               input_policy_is_set(&u->unit->placement.inputs) ?
                       &u->unit->placement.inputs :
                       NULL;
}

/* Reference the inputs of the present text, then release those of the former one. */
static int watcher_refer(Watcher *w, WatchedUnit *u, const InputPolicy *policy) {
        WatchedInput *former[WATCH_INPUTS_MAX];
        size_t n_former = u->n_inputs, n_secrets = policy ? policy->secrets.n : 0;
        const char *text = NULL;

        memcpy(former, u->inputs, sizeof(former));
        u->n_inputs = 0;
        for (size_t i = 0; policy && u->n_inputs < WATCH_INPUTS_MAX; i++) {
                text = i < n_secrets ? policy->secrets.items[i] : input_policy_path(policy, i - n_secrets);
                if (!text)
                        break;
                u->inputs[u->n_inputs] = watcher_get_input(w, text);
                if (!u->inputs[u->n_inputs])
                        break;
                u->n_inputs++;
                text = NULL;
        }
        watcher_put_inputs(w, former, n_former);
        return text ? -ENOMEM : 0;
}

/* Mark the unit after a change of its text. 0 or -ENOMEM. */
static int watcher_take(Watcher *w, const Cluster *c, const char *name, bool values) {
        const ClusterUnit *cu = cluster_any_unit(c, name);
        const InputPolicy *policy = watcher_policy(cu);
        WatchedUnit *u = named_find(w->units, name);

        if (!u && !policy && !(cu && cu->inputs_index > 0))
                return 0;
        if (cu && cluster_unit_has_unreadable(cu, LAYOUT_UNIT))
                return 0; /* its inputs stay */
        values |= !u;     /* what has changed before is not known */
        u = u ?: named_get(&w->units, name, sizeof(WatchedUnit));
        if (!u)
                return -ENOMEM;
        watcher_mark(w, u, values, NULL);
        return watcher_refer(w, u, policy);
}

/* -- The term -- */

static void watcher_clear(Watcher *w) {
        while (w->units)
                watcher_forget(w, (WatchedUnit *) w->units);
        named_clear(&w->sets);
        timer_stop(&w->timer);
        w->term = 0;
}

static void watcher_rescan(Watcher *w) {
        w->look++;
        for (Named *u = w->units; u; u = u->hh.next)
                watcher_mark(w, (WatchedUnit *) u, true, NULL);
        w->scanning = true;
        w->cursor[0] = 0;
}

/* Mark the next units of the view. 0 or -ENOMEM. */
static int watcher_scan(Watcher *w, const Cluster *c) {
        UnitPosition at = {};
        const ClusterUnit *u = NULL;

        if (w->cursor[0])
                unit_order_seek(&c->by_name, w->cursor, &at);
        for (size_t n = 0; w->scanning && n < WATCH_SCAN_MAX; n++) {
                u = unit_order_next(&c->by_name, &at);
                w->scanning = u != NULL;
                TRY(u ? watcher_take(w, c, u->name, true) : 0);
        }
        if (u)
                memcpy(w->cursor, u->name, sizeof(w->cursor));
        return 0;
}

static bool watcher_is_rolling(const ClusterUnit *head) {
        static const unsigned rolling = 1u << ROLLOUT_CANARY | 1u << ROLLOUT_ROLLING |
                                        1u << ROLLOUT_BETWEEN_BATCHES | 1u << ROLLOUT_REVERTING;

        return cluster_unit_has_unreadable(head, LAYOUT_ROLLOUT) ||
               (head->rollout && rolling & 1u << head->rollout->state);
}

/* A rollout of the set has changed: those of its units whose number had to wait are looked at together. */
static void watcher_release(Watcher *w, const Cluster *c, const char *head) {
        const ClusterUnit *of = cluster_any_unit(c, head);
        WatchedUnit *u, *next;
        bool first = true;

        if (of && watcher_is_rolling(of))
                return;
        for (u = TAILQ_FIRST(&w->of_state[WATCHED_HELD]); u; u = next) {
                const ClusterUnit *cu = cluster_any_unit(c, u->named.name);

                next = TAILQ_NEXT(u, of_state);
                if (cu && !streq(rollout_head(c, cu)->name, head))
                        continue;
                w->look += first;
                first = false;
                watcher_mark(w, u, false, NULL);
        }
}

static void watcher_on_change(void *userdata, const RegistryChange *change) {
        Watcher *w = userdata;
        const Cluster *c = registry_cluster(w->host->registry);
        const ClusterUnit *cu;
        WatchedInput *secret;
        WatchedUnit *u;

        if (w->term != kv_leads(w->host->store))
                watcher_clear(w); /* step() begins the next term */
        if (w->term == 0)
                return;
        switch (change->kind) {
        case CHANGED_ALL:
                watcher_rescan(w);
                break;
        case CHANGED_UNIT:
                if (watcher_take(w, c, change->unit, false) < 0)
                        watcher_rescan(w);
                break;
        case CHANGED_TARGET:
        case CHANGED_ASSIGNMENT:
        case CHANGED_INPUTS:
                u = named_find(w->units, change->unit);
                cu = cluster_any_unit(c, change->unit);
                if (u && (!cu || cu->inputs_index == 0 || u->state == WATCHED_HELD))
                        watcher_mark(w, u, false, NULL);
                break;
        case CHANGED_ROLLOUT:
                watcher_release(w, c, change->unit);
                break;
        case CHANGED_SECRET:
                secret = TABLE_FIND(w->inputs, change->key->unit);
                if (secret)
                        watcher_input_changed(secret);
                break;
        default:
                break;
        }
}

/* -- A step -- */

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

static void watcher_input_look(Watcher *w, const Cluster *c, WatchedInput *input, uint64_t now_ms) {
        const Pattern *naming = patterns_find(
                &c->rules[*input->text == '/' ? CLUSTER_PATHS : CLUSTER_SECRETS], input->text);

        watcher_input_settle(input);
        input->looked_ms = now_ms;
        watcher_open(input);
        for (size_t i = 0; naming && i < naming->n; i++) {
                WatchedUnit *u = named_find(w->units, naming->units[i]->name);

                if (u)
                        watcher_mark(w, u, true, input->text);
        }
}

/* Mark the units of all inputs that are due, as one look. Return when the next one is due; UINT64_MAX: none.
 */
static uint64_t watcher_collect(Watcher *w, const Cluster *c) {
        uint64_t now_ms = loop_now_ms(w->host->io.loop), next_ms = UINT64_MAX;
        WatchedInput *input, *next;
        bool first = true;

        for (input = TAILQ_FIRST(&w->changed); input; input = next) {
                next = TAILQ_NEXT(input, changed);
                if (input->due_ms > now_ms) {
                        next_ms = MIN(next_ms, input->due_ms);
                        continue;
                }
                w->look += first;
                first = false;
                watcher_input_look(w, c, input, now_ms);
        }
        return next_ms;
}

/* Look again at the units that lagged. */
static void watcher_retry(Watcher *w) {
        WatchedUnit *u, *next;

        for (u = w->lags ? TAILQ_FIRST(&w->of_state[WATCHED_HELD]) : NULL; u; u = next) {
                next = TAILQ_NEXT(u, of_state);
                if (!u->values)
                        watcher_move(w, u, WATCHED_DUE);
        }
        w->lags = false;
}

/* The view has the last transaction, if it took effect. */
static void watcher_read_sent(Watcher *w, const Cluster *c) {
        bool failed = false;
        WatchedUnit *u;

        while ((u = TAILQ_FIRST(&w->of_state[WATCHED_SENT]))) {
                const ClusterUnit *cu = cluster_any_unit(c, u->named.name);
                bool written = (cu ? cu->inputs_index : 0) != u->sent_index;

                failed |= !written;
                if (written && !u->again)
                        watcher_settle(w, u);
                else
                        watcher_move(w, u, WATCHED_DUE);
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

/* Return the number of the set, and what this look has done with it; NULL without memory. */
static WatchedSet *watcher_set(Watcher *w, const Cluster *c, const ClusterUnit *head, uint64_t look) {
        WatchedSet *set = named_get(&w->sets, head->name, sizeof(WatchedSet));
        UnitPosition at = {};
        size_t left = 0;

        if (!set || set->look == look)
                return set;
        set->look = look;
        set->raised = set->noted = set->noted_problem = false;
        set->highest = MAX(set->highest, head->inputs ? head->inputs->number : 0);
        if (unit_name_is_template(head->name))
                left = unit_order_instances(&c->by_name, head->name, &at);
        loop_count(w->host->io.loop, left / 16, 0);
        for (; left > 0; left--) {
                const ClusterUnit *u = unit_order_next(&c->by_name, &at);

                if (u->inputs && rollout_head(c, u) == head)
                        set->highest = MAX(set->highest, u->inputs->number);
        }
        return set;
}

/* Decide the number of a content without a problem. Return false if it has to wait. */
static bool watcher_number(WatchedUnit *u, WatchedSet *set, const Content *content, bool holds,
                           InputsRecord *next) {
        if (next->number == 0) /* a new member */
                next->number = set->highest = MAX(set->highest, (uint64_t) 1);
        else if (u->values && !streq(next->digest, content->digest)) {
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

/* Return whether a change of an input may be in the tree that has not marked the unit yet: the events of
 * users' keys come after those of the registry. */
static bool watcher_lags(const WatchedUnit *u) {
        for (size_t i = 0; i < u->n_inputs; i++) {
                const WatchedInput *input = u->inputs[i];

                if (input->due_ms > 0 || (input->watch && !kv_watch_is_current(input->watch)))
                        return true;
        }
        return false;
}

/* Compare the content of a unit with its record. 0 or a negative errno. */
static int watcher_compare(Watcher *w, WatcherStep *step, WatchedUnit *u, const ClusterUnit *cu) {
        static const InputsRecord none;
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
                waits = !watcher_number(u, set, &step->read,
                                        input_policy_restarts(&cu->unit->placement.inputs) &&
                                                watcher_is_rolling(head),
                                        &next);
        if (json_record_equal(&inputs_record, was, &next)) {
                if (waits)
                        watcher_move(w, u, WATCHED_HELD);
                else
                        watcher_settle(w, u);
                return 0;
        }
        next.since_ms = step->cluster->now_ms;
        watcher_add(step, cu, &next);
        watcher_note(step, set, head, was);
        u->again = waits;
        return 0;
}

/* Look at a unit: add its write, or settle it. */
static int watcher_look(Watcher *w, WatcherStep *step, WatchedUnit *u) {
        const ClusterUnit *cu = cluster_any_unit(step->cluster, u->named.name);

        if (cu &&
            (cluster_unit_has_unreadable(cu, LAYOUT_UNIT) || cluster_unit_has_unreadable(cu, LAYOUT_INPUTS)))
                watcher_move(w, u, WATCHED_HELD);
        else if (!watcher_policy(cu) && cu && cu->inputs_index > 0)
                watcher_add(step, cu, NULL);
        else if (!watcher_policy(cu))
                watcher_forget(w, u);
        else if (!cu->inputs && cu->target == TARGET_INACTIVE && LIST_EMPTY(&cu->assignments))
                watcher_settle(w, u); /* no member of its set yet */
        else if (!u->values && cu->inputs && cu->inputs->number > 0 && watcher_lags(u)) {
                watcher_move(w, u, WATCHED_HELD);
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
               turn_work_bytes(&turns->now) - begin < WATCH_WORK_MAX) {
                size_t n = step->n;

                TRY(watcher_look(w, step, u));
                if (step->n > n) {
                        u->sent_index = step->writes[n].unit->inputs_index;
                        watcher_move(w, u, WATCHED_SENT);
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
        control->again_ms = WATCH_RETRY_MS;
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
                watcher_clear(w);
                w->term = control->term;
                watcher_rescan(w);
        }
        TRY(watcher_scan(w, c));
        watcher_read_sent(w, c);
        watcher_retry(w);
        next_ms = watcher_collect(w, c);
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
                control->again_ms = MIN(control->again_ms, (uint64_t) WATCH_RETRY_MS);
        return 0;
}

/* -- Lifetime -- */

static void watcher_on_timer(void *userdata) {
        Watcher *w = userdata;

        if (w->term == kv_leads(w->host->store))
                engine_wake_controllers(w->host->engine);
        else
                watcher_clear(w);
}

int watcher_new(Watcher **ret, ComponentHost *host) {
        Watcher *w = NEW0(Watcher, 1);

        if (!w)
                return -ENOMEM;
        w->host = host;
        w->observer = (RegistryObserver) { .on_change = watcher_on_change, .userdata = w };
        w->timer = TIMER(watcher_on_timer, w);
        TAILQ_INIT(&w->changed);
        for (WatchedState state = 0; state < _WATCHED_STATE_MAX; state++)
                TAILQ_INIT(&w->of_state[state]);
        registry_observe(host->registry, &w->observer);
        *ret = w;
        return 0;
}

Watcher *watcher_free(Watcher *w) {
        if (!w)
                return NULL;
        registry_unobserve(w->host->registry, &w->observer);
        watcher_clear(w);
        free(w);
        return NULL;
}
