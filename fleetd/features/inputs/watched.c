#include "fleetd/features/inputs/watched.h"

#include "fleetd/engine/engine.h"
#include "fleetd/engine/rollout_set.h"
#include "fleetd/registry/unit_order.h"

enum {
        WATCH_WAIT_MS = 200,   /* after the first change of an input */
        WATCH_PAUSE_MS = 2000, /* between two looks at an input */
        WATCH_SCAN_MAX = 250,  /* units of the view in one step */
};

/* -- Inputs -- */

static void watched_input_changed(WatchedInput *input) {
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

static void watched_input_on_event(void *userdata, KvWatchEvent *event) {
        watched_input_changed(userdata);
}

static void watched_input_on_cleared(void *userdata, uint64_t oldest, uint64_t current) {
        WatchedInput *input = userdata;

        input->watch = NULL; /* opened again before the look */
        watched_input_changed(input);
}

/* Without a watch, the path is looked at again and again. */
static void watched_input_open(WatchedInput *input) {
        static const KvWatchOps ops = { .on_event = watched_input_on_event,
                                        .on_cleared = watched_input_on_cleared };
        const KvWatchOptions options = { .key = kv_string(input->text), .recursive = true };
        uint64_t oldest;

        if (*input->text == '/' && !input->watch &&
            kv_watch(input->watcher->host->store, &options, &ops, input, &input->watch, &oldest) < 0)
                watched_input_changed(input);
}

static void watched_input_clear(WatchedInput *input) {
        if (input->due_ms > 0)
                TAILQ_REMOVE(&input->watcher->changed, input, changed);
        input->due_ms = 0;
}

static WatchedInput *watched_input_get(Watcher *w, const char *text) {
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
                watched_input_open(input);
        }
        input->n_units++;
        return input;
}

static void watched_input_put(Watcher *w, WatchedInput *input) {
        if (--input->n_units > 0)
                return;
        watched_input_clear(input);
        (void) kv_watch_close(input->watch);
        HASH_DEL(w->inputs, input);
        free(input);
}

/* -- Units -- */

void watched_unit_move(Watcher *w, WatchedUnit *u, WatchedState to) {
        if (u->state != WATCHED_IDLE)
                TAILQ_REMOVE(&w->of_state[u->state], u, of_state);
        u->state = to;
        if (to != WATCHED_IDLE)
                TAILQ_INSERT_TAIL(&w->of_state[to], u, of_state);
}

void watched_unit_done(Watcher *w, WatchedUnit *u, bool has_problem) {
        watched_unit_move(w, u, WATCHED_IDLE);
        u->again = false;
        if (has_problem)
                return;
        u->values = false;
        u->what[0] = 0;
}

/* 'what': the input that has changed; NULL: another reason. */
static void watched_unit_mark(Watcher *w, WatchedUnit *u, bool values, const char *what) {
        u->look = w->look;
        u->values |= values;
        if (what)
                text_format(u->what, sizeof(u->what), "%s%s", *what == '/' ? "" : "secret ", what);
        if (u->state == WATCHED_SENT)
                u->again = true;
        else if (u->state != WATCHED_DUE)
                watched_unit_move(w, u, WATCHED_DUE);
}

static void watched_inputs_put(Watcher *w, WatchedInput *const *inputs, size_t n) {
        while (n > 0)
                watched_input_put(w, inputs[--n]);
}

void watched_unit_forget(Watcher *w, WatchedUnit *u) {
        char name[UNIT_NAME_MAX + 1];

        memcpy(name, u->named.name, sizeof(name));
        watched_inputs_put(w, u->inputs, u->n_inputs);
        watched_unit_move(w, u, WATCHED_IDLE);
        named_remove(&w->units, name);
}

const InputPolicy *watched_policy(const ClusterUnit *u) {
        return u && u->unit && !unit_name_is_template(u->name) &&
                               input_policy_is_set(&u->unit->placement.inputs) ?
                       &u->unit->placement.inputs :
                       NULL;
}

/* Reference the inputs of the present text, then release those of the former one. */
static int watched_unit_refer(Watcher *w, WatchedUnit *u, const InputPolicy *policy) {
        WatchedInput *former[WATCH_INPUTS_MAX];
        size_t n_former = u->n_inputs, n_secrets = policy ? policy->secrets.n : 0;
        const char *text = NULL;

        memcpy(former, u->inputs, sizeof(former));
        u->n_inputs = 0;
        for (size_t i = 0; policy && u->n_inputs < WATCH_INPUTS_MAX; i++) {
                text = i < n_secrets ? policy->secrets.items[i] : input_policy_path(policy, i - n_secrets);
                if (!text)
                        break;
                u->inputs[u->n_inputs] = watched_input_get(w, text);
                if (!u->inputs[u->n_inputs])
                        break;
                u->n_inputs++;
                text = NULL;
        }
        watched_inputs_put(w, former, n_former);
        return text ? -ENOMEM : 0;
}

/* Mark the unit after a change of its text. 0 or -ENOMEM. */
static int watched_unit_take(Watcher *w, const Cluster *c, const char *name, bool values) {
        const ClusterUnit *cu = cluster_any_unit(c, name);
        const InputPolicy *policy = watched_policy(cu);
        WatchedUnit *u = named_find(w->units, name);

        if (!u && !policy && !(cu && cu->inputs_index > 0))
                return 0;
        if (cu && cluster_unit_has_unreadable(cu, LAYOUT_UNIT))
                return 0; /* its inputs stay */
        values |= !u;     /* what has changed before is not known */
        u = u ?: named_get(&w->units, name, sizeof(WatchedUnit));
        if (!u)
                return -ENOMEM;
        watched_unit_mark(w, u, values, NULL);
        return watched_unit_refer(w, u, policy);
}

/* -- The term -- */

void watched_clear(Watcher *w) {
        while (w->units)
                watched_unit_forget(w, (WatchedUnit *) w->units);
        named_clear(&w->sets);
        timer_stop(&w->timer);
        w->term = 0;
}

void watched_rescan(Watcher *w) {
        w->look++;
        for (Named *u = w->units; u; u = u->hh.next)
                watched_unit_mark(w, (WatchedUnit *) u, true, NULL);
        w->scanning = true;
        w->cursor[0] = 0;
}

int watched_scan(Watcher *w, const Cluster *c) {
        UnitPosition at = {};
        const ClusterUnit *u = NULL;

        if (w->cursor[0])
                unit_order_seek(&c->by_name, w->cursor, &at);
        for (size_t n = 0; w->scanning && n < WATCH_SCAN_MAX; n++) {
                u = unit_order_next(&c->by_name, &at);
                w->scanning = u != NULL;
                TRY(u ? watched_unit_take(w, c, u->name, true) : 0);
        }
        if (u)
                memcpy(w->cursor, u->name, sizeof(w->cursor));
        return 0;
}

bool watched_set_rolls(const ClusterUnit *head) {
        static const unsigned rolling = 1u << ROLLOUT_CANARY | 1u << ROLLOUT_ROLLING |
                                        1u << ROLLOUT_BETWEEN_BATCHES | 1u << ROLLOUT_REVERTING;

        return cluster_unit_has_unreadable(head, LAYOUT_ROLLOUT) ||
               (head->rollout && rolling & 1u << head->rollout->state);
}

/* A rollout of the set has changed: those of its units whose number had to wait are looked at together. */
static void watched_release(Watcher *w, const Cluster *c, const char *head) {
        const ClusterUnit *of = cluster_any_unit(c, head);
        WatchedUnit *u, *next;
        bool first = true;

        if (of && watched_set_rolls(of))
                return;
        for (u = TAILQ_FIRST(&w->of_state[WATCHED_HELD]); u; u = next) {
                const ClusterUnit *cu = cluster_any_unit(c, u->named.name);

                next = TAILQ_NEXT(u, of_state);
                if (cu && !streq(rollout_head(c, cu)->name, head))
                        continue;
                w->look += first;
                first = false;
                watched_unit_mark(w, u, false, NULL);
        }
}

static void watched_on_change(void *userdata, const RegistryChange *change) {
        Watcher *w = userdata;
        const Cluster *c = registry_cluster(w->host->registry);
        const ClusterUnit *cu;
        WatchedInput *secret;
        WatchedUnit *u;

        if (w->term != kv_leads(w->host->store))
                watched_clear(w); /* step() begins the next term */
        if (w->term == 0)
                return;
        switch (change->kind) {
        case CHANGED_ALL:
                watched_rescan(w);
                break;
        case CHANGED_UNIT:
                if (watched_unit_take(w, c, change->unit, false) < 0)
                        watched_rescan(w);
                break;
        case CHANGED_TARGET:
        case CHANGED_ASSIGNMENT:
        case CHANGED_INPUTS:
                u = named_find(w->units, change->unit);
                cu = cluster_any_unit(c, change->unit);
                if (u && (!cu || cu->inputs_index == 0 || u->state == WATCHED_HELD))
                        watched_unit_mark(w, u, false, NULL);
                break;
        case CHANGED_ROLLOUT:
                watched_release(w, c, change->unit);
                break;
        case CHANGED_SECRET:
                secret = TABLE_FIND(w->inputs, change->key->unit);
                if (secret)
                        watched_input_changed(secret);
                break;
        default:
                break;
        }
}

/* -- Looks -- */

static void watched_input_look(Watcher *w, const Cluster *c, WatchedInput *input, uint64_t now_ms) {
        const Pattern *naming = patterns_find(
                &c->rules[*input->text == '/' ? CLUSTER_PATHS : CLUSTER_SECRETS], input->text);

        watched_input_clear(input);
        input->looked_ms = now_ms;
        watched_input_open(input);
        for (size_t i = 0; naming && i < naming->n; i++) {
                WatchedUnit *u = named_find(w->units, naming->units[i]->name);

                if (u)
                        watched_unit_mark(w, u, true, input->text);
        }
}

uint64_t watched_collect(Watcher *w, const Cluster *c) {
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
                watched_input_look(w, c, input, now_ms);
        }
        return next_ms;
}

void watched_retry(Watcher *w) {
        WatchedUnit *u, *next;

        for (u = w->lags ? TAILQ_FIRST(&w->of_state[WATCHED_HELD]) : NULL; u; u = next) {
                next = TAILQ_NEXT(u, of_state);
                if (!u->values)
                        watched_unit_move(w, u, WATCHED_DUE);
        }
        w->lags = false;
}

bool watched_unit_lags(const WatchedUnit *u) {
        for (size_t i = 0; i < u->n_inputs; i++) {
                const WatchedInput *input = u->inputs[i];

                if (input->due_ms > 0 || (input->watch && !kv_watch_is_current(input->watch)))
                        return true;
        }
        return false;
}

/* -- Lifetime -- */

static void watched_on_timer(void *userdata) {
        Watcher *w = userdata;

        if (w->term == kv_leads(w->host->store))
                engine_wake_controllers(w->host->engine);
        else
                watched_clear(w);
}

int watcher_new(Watcher **ret, ComponentHost *host) {
        Watcher *w = NEW0(Watcher, 1);

        if (!w)
                return -ENOMEM;
        w->host = host;
        w->observer = (RegistryObserver) { .on_change = watched_on_change, .userdata = w };
        w->timer = TIMER(watched_on_timer, w);
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
        watched_clear(w);
        free(w);
        return NULL;
}
