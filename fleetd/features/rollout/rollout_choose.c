/* Which instances a step of a rollout updates. */

#include "fleetd/features/rollout/rollout_internal.h"

enum {
        UPDATES_MAX = 150, /* of one step */
        UPDATES_BYTES_MAX = 1024 * 1024,
        SURGE_WORK_MAX = 20000, /* comparisons in the search of machines, of one step */
        SEARCHES_MAX = 4,       /* in vain, of one step, for instances without drop-ins of their own */
        EXECUTE_MS = 5000,      /* in which a machine that is up publishes that it has begun a step */
};

/* Return the view of the scheduler, or NULL without memory. */
static SchedulerView *rolling_view(Rolling *x) {
        if (!x->view && scheduler_view_new(x->cluster, x->cluster->now_ms, &x->view) < 0)
                return NULL;
        return x->view;
}

static const char *instance_zone(const Rolling *x, const RolloutInstance *p) {
        return x->policy.by ? pairs_get(&p->assignment->machine->metadata, x->policy.by) : NULL;
}

/* Whether the zone of 'a' is updated before that of 'b'; machines without the key are last. */
static bool zone_precedes(const char *a, const char *b) {
        if (!a || !b)
                return a && !b;
        return strcmp(a, b) < 0;
}

/* The zone whose instances are updated now: the first one with an instance that lacks the text, or is being
 * updated. False: none is left. */
static bool rolling_zone(const Rolling *x, const char **ret) {
        bool found = false;

        for (size_t i = 0; i < x->set.n; i++) {
                const RolloutInstance *p = &x->set.instances[i];

                if (p->state != INSTANCE_OLD && p->state != INSTANCE_BAD && p->state != INSTANCE_SURGING &&
                    p->state != INSTANCE_UPDATING)
                        continue;
                if (!found || zone_precedes(instance_zone(x, p), *ret))
                        *ret = instance_zone(x, p);
                found = true;
        }
        return found;
}

/* One whose text with its drop-ins would be too large is left out: the others go on. */
static int rolling_update(Rolling *x, const RolloutInstance *p, const ClusterMachine *to) {
        _cleanup_unit_ Unit *whole = NULL;
        RolloutStep *step = x->step;
        int r = rollout_compose(x->set.head, p->unit, &whole);

        if (r < 0)
                return r == -ENOMEM ? r : 0;

        if (!step->updates) {
                step->updates = calloc(x->set.n, sizeof(*step->updates));
                if (!step->updates)
                        return -ENOMEM;
        }
        step->updates[step->n_updates] = *p;
        step->updates[step->n_updates++].to = to;
        return 0;
}

/* Return whether the rules of placement in the text differ between its instances. */
static bool rolling_has_specifiers(const UnitFile *file) {
        for (size_t i = 0; i < file->n_options; i++) {
                const UnitOption *o = &file->options[i];

                if (strchr(o->value, '%') &&
                    (unit_file_section_is_ours(o->section) ? options_level(o->name) != OPTION_LEVEL_UPDATES :
                                                             streq(o->name, "PublishPort")))
                        return true;
        }
        return false;
}

void rolling_done_placement(Rolling *x) {
        if (x->common)
                placement_done(x->common);
        free(x->common);
}

/* Read once what is the same for ten thousand instances. 0 or a negative errno. */
static int rolling_read_common(Rolling *x) {
        if (x->common || x->own_placements)
                return 0;
        x->common = NEW0(Placement, 1);
        if (!x->common)
                return -ENOMEM;
        x->own_placements = options_read(&x->set.head->unit->file, NULL, x->common, NULL, NULL) < 0 ||
                            rolling_has_specifiers(&x->set.head->unit->file);
        return 0;
}

/* An instance with the wanted text, and the options of that text. */
typedef struct Wanted {
        ClusterUnit unit; /* it borrows all but its text */
        Unit text;        /* it borrows all but its options */
        Unit *whole;      /* with the drop-ins of the instance; owned; NULL: it has none */
        bool borrows;     /* also the options */
} Wanted;

static void wanted_done(Wanted *w) {
        if (!w->whole && !w->borrows)
                placement_done(&w->text.placement);
        unit_free(w->whole);
}

/* 0 or an error: the text with the drop-ins is not valid. */
static int wanted_read(Rolling *x, const ClusterUnit *u, Wanted *ret) {
        Placement placement = {};
        int r;

        *ret = (Wanted) { .unit = *u, .text = *x->set.head->unit };
        if (u != x->set.head)
                ret->unit.index = UINT64_MAX; /* its key will have the text last */
        r = rollout_compose(x->set.head, u, &ret->whole);
        if (r == 0)
                r = rolling_read_common(x);
        ret->borrows = r == 0 && !x->own_placements;
        if (ret->borrows)
                placement = *x->common;
        else if (r == 0)
                r = options_read(&ret->text.file, u->name, &placement, NULL, NULL);
        if (r < 0)
                return r;
        if (!ret->whole)
                ret->text.placement = placement;
        ret->unit.unit = ret->whole ?: &ret->text;
        return 0;
}

/* Find another machine on which the instance may start first. 1, 0 if there is none, or -ENOMEM. -EAGAIN: the
 * unit is being stopped there, and its published state may be the one before: it would count as available. */
static int rolling_find_machine(Rolling *x, const RolloutInstance *p, const ClusterMachine **ret) {
        Wanted wanted;
        int r;

        if (!rolling_view(x))
                return -ENOMEM;
        if (scheduler_view_work(x->view) >= SURGE_WORK_MAX)
                return 0;
        r = wanted_read(x, p->unit, &wanted);
        if (r >= 0) {
                r = scheduler_pick(x->view, &wanted.unit, ret, NULL);
                wanted_done(&wanted);
        }
        if (r < 0)
                return r == -ENOMEM ? r : 0;
        if (cluster_assignment_on(*ret, p->unit->name))
                return -EAGAIN;
        r = scheduler_view_decide(x->view, *ret, p->unit, true);
        return r < 0 ? r : 1;
}

/* Return whether there are machines that the wanted text of the instance may exclude. */
static bool rolling_may_exclude(const Rolling *x, const RolloutInstance *p) {
        const Placement *wanted = &x->set.head->unit->placement;

        return p->unit->unit->own_size > 0 || wanted->machine_id || wanted->metadata.n > 0 ||
               wanted->machine_of.n + wanted->conflicts.n + wanted->ports.n > 0 ||
               rolling_has_specifiers(&x->set.head->unit->file);
}

/* Return whether the instance stays on its machine with the wanted text. A drain or a requested move is no
 * rule of the text. */
static bool wanted_stays(const Rolling *x, const Wanted *wanted, const ClusterMachine *m) {
        SchedulerRule rule = scheduler_refusal(x->view, &wanted->unit, m, true, NULL);

        return rule == RULE_NONE || rule == RULE_MAINTENANCE || rule == RULE_MOVE;
}

int rolling_place(Rolling *x, const RolloutInstance *p, const ClusterMachine **ret) {
        const ClusterMachine *other;
        bool common;
        Wanted wanted;
        int r;

        *ret = NULL;
        if (p->unit->unit->placement.global || !rolling_may_exclude(x, p))
                return 1;
        if (!rolling_view(x))
                return -ENOMEM;
        r = wanted_read(x, p->unit, &wanted);
        if (r < 0)
                return r == -ENOMEM ? r : 1;
        common = wanted.borrows;
        if (wanted_stays(x, &wanted, p->assignment->machine))
                r = 1;
        else if (common && x->n_nowhere >= SEARCHES_MAX)
                r = 0;
        else if (scheduler_view_work(x->view) >= SURGE_WORK_MAX)
                r = -EBUSY;
        else if (placement_stops_first(&wanted.unit.unit->placement)) {
                r = scheduler_pick(x->view, &wanted.unit, &other, NULL);
                r = r == -ENOMEM ? r : r != -ENOENT;
        } else
                r = rolling_find_machine(x, p, ret);
        wanted_done(&wanted);
        x->n_nowhere += common && r == 0;
        return r;
}

/* One transaction has the texts of the instances that follow a template. */
static bool rolling_is_full(const Rolling *x) {
        size_t n = x->step->n_updates + x->step->n_followers;

        return n >= UPDATES_MAX || n * (x->set.head->unit->text_size + 1024) >= UPDATES_BYTES_MAX;
}

/* The text and content that the step would assign, with the drop-ins of the instance. Without memory, it may
 * be another one. */
static bool state_has_wanted_text(const Rolling *x, const ClusterUnit *u, const UnitState *state) {
        const Unit *wanted = x->set.head->unit;
        _cleanup_unit_ Unit *whole = NULL;

        return state->inputs >= rollout_content(u) && rollout_compose(x->set.head, u, &whole) >= 0 &&
               same_string(state->hash, (whole ?: wanted)->hash);
}

/* Whether the published state of an instance may precede its step: the instance was available with the wanted
 * text then, and another text is assigned. With the wanted text assigned at once, it would count as available
 * while its machine restarts it. Its machine publishes the next state soon, or does not act. */
static bool rolling_awaits_state(Rolling *x, const RolloutInstance *p) {
        const ClusterState *s = p->assignment->state;
        uint64_t until_ms = x->next->progress_ms + EXECUTE_MS;

        if (!s || !s->state.available || !state_has_wanted_text(x, p->unit, &s->state) ||
            x->cluster->now_ms >= until_ms)
                return false;
        rolling_again(x, until_ms);
        return true;
}

/* Return whether the budget has no room for another instance that stops. */
static bool rolling_may_stop_none(const Rolling *x, size_t unavailable, size_t available) {
        return unavailable >= x->max_unavailable || available <= x->min_available;
}

/* Return whether no available instance can be updated: it would be one too many at a time. */
static bool rolling_is_exhausted(const Rolling *x, size_t unavailable, size_t available, size_t n_surging) {
        return x->max_surge > 0 ? n_surging >= x->max_surge :
                                  rolling_may_stop_none(x, unavailable, available);
}

bool rolling_awaits_inputs(const RolloutInstance *p) {
        return (p->state == INSTANCE_UPDATING || p->state == INSTANCE_SURGING) && p->unit->inputs &&
               p->unit->inputs->problem.code != VERDICT_NONE && rollout_is_unexecuted(p->assignment);
}

bool rolling_awaits_others(const Rolling *x) {
        size_t unavailable = rollout_unavailable(&x->set, x->next), available = rollout_available(&x->set),
               absent = x->set.n_of[INSTANCE_UNREACHABLE] - x->set.n_passed;

        for (size_t i = 0; i < x->set.n; i++)
                if (rolling_awaits_inputs(&x->set.instances[i]))
                        return true;
        /* With MaxSurge=, too: there would be a step, if a machine qualified. */
        return x->next->state != ROLLOUT_REVERTING && absent > 0 && x->set.n_of[INSTANCE_OLD] > 0 &&
               x->set.n_of[INSTANCE_BAD] + rolling_steps(x) + x->set.n_missing == 0 &&
               rolling_may_stop_none(x, unavailable, available) &&
               !rolling_may_stop_none(x, unavailable - absent, available + absent);
}

bool rolling_serves(const Rolling *x, const RolloutInstance *p) {
        const ClusterAssignment *a = p->assignment;

        return x->max_surge > 0 && p->state == INSTANCE_BAD && !a->instead[0] &&
               a->machine->presence == PRESENCE_UP && plan_is_healthy(a) && rollout_is_executed(a);
}

bool rolling_may_begin(const Rolling *x) {
        RolloutState state = x->next->state;

        return !x->conditions->braked && state != ROLLOUT_HELD && state != ROLLOUT_BETWEEN_BATCHES &&
               state != ROLLOUT_PAUSED;
}

/* The budget of a choice, and what it has taken. */
typedef struct Choice {
        size_t n, n_stopped, n_surging, unavailable, available;
        bool zones;
        const char *zone; /* whose instances are updated now */
} Choice;

static bool choice_has_zone(const Rolling *x, const Choice *c, const RolloutInstance *p) {
        const char *zone = instance_zone(x, p);

        return !c->zones || (!zone_precedes(c->zone, zone) && !zone_precedes(zone, c->zone));
}

/* Choose where an instance is updated: *ret is another machine, on which it starts first, or NULL. 1, 0: it
 * is not updated now, -EBUSY: no further one is, or -ENOMEM. */
static int rolling_choose_place(Rolling *x, Choice *c, const RolloutInstance *p, const ClusterMachine **ret) {
        bool old = p->state == INSTANCE_OLD, bad = p->state == INSTANCE_BAD, serves = rolling_serves(x, p);
        int r;

        if ((serves && (c->n_surging >= x->max_surge || x->next->state == ROLLOUT_DONE)) ||
            (old && !choice_has_zone(x, c, p)) || (bad && rolling_awaits_state(x, p)))
                return 0;
        if (old && x->max_surge > 0 && c->n_surging >= x->max_surge)
                return -EBUSY;
        if (serves || (old && x->max_surge > 0)) {
                r = rolling_find_machine(x, p, ret);
                if (r < 0)
                        return r == -EAGAIN ? 0 : r;
                c->n_surging += r > 0;
        }
        if (*ret || p->state == INSTANCE_IDLE)
                return 1;
        if (old && rolling_may_stop_none(x, c->unavailable + c->n_stopped, c->available - c->n_stopped))
                return x->max_surge == 0 ? -EBUSY : 0; /* a later one may fit another machine */
        if (bad && x->set.n_of[INSTANCE_UPDATING] + c->n >= MAX(x->max_unavailable, (size_t) 1))
                return -EBUSY;
        r = rolling_place(x, p, ret);
        if (r == -ENOMEM || r == -EBUSY)
                return r;
        /* An available one that no machine may run stops, within the budget, and waits. A rollout that is
         * done has no instances that start first: rolling_has_moves_left(). */
        if (r == -EAGAIN || (r == 0 && bad) || (*ret && x->next->state == ROLLOUT_DONE))
                return 0;
        c->n_stopped += old;
        return 1;
}

int rolling_choose(Rolling *x, RolloutInstanceState state, size_t max) {
        Choice c = { .n_surging = rolling_surging(x),
                     .unavailable = rollout_unavailable(&x->set, x->next),
                     .available = rollout_available(&x->set),
                     .zones = x->policy.by && x->next->state != ROLLOUT_REVERTING };
        _cleanup_rollout_order_ RolloutOrder order = {};
        const RolloutInstance *p;

        if (x->max_surge == 0) /* each of them takes the place of one that stops */
                c.unavailable += c.n_surging;
        for (size_t i = 0; i < x->step->n_updates && x->max_surge > 0;
             i++) /* in this step, of other states */
                c.n_surging += x->step->updates[i].to != NULL;
        if (!rolling_may_begin(x) || x->set.n_of[state] == 0 || max == 0 ||
            (state == INSTANCE_OLD && rolling_is_exhausted(x, c.unavailable, c.available, c.n_surging)) ||
            (c.zones && !rolling_zone(x, &c.zone)))
                return 0;
        TRY(rollout_order_begin(&x->set, state, &order));
        while (c.n < max && !rolling_is_full(x) && (p = rollout_order_next(&order))) {
                const ClusterMachine *to = NULL;
                int r = rolling_choose_place(x, &c, p, &to);

                if (r < 0)
                        return r == -EBUSY ? 0 : r;
                if (r == 0)
                        continue;
                TRY(rolling_update(x, p, to));
                c.n++;
        }
        return 0;
}

/* For all followers and joiners. 0 or -ENOMEM. */
static int rolling_make_room(Rolling *x) {
        RolloutStep *step = x->step;

        if (!step->followers)
                step->followers = calloc(x->set.n_followers + x->set.n_joiners, sizeof(*step->followers));
        return step->followers ? 0 : -ENOMEM;
}

int rolling_choose_followers(Rolling *x, size_t n) {
        RolloutStep *step = x->step;

        if (n == 0 || !rolling_may_begin(x))
                return 0;
        if (rolling_make_room(x) < 0)
                return -ENOMEM;
        for (step->n_followers = 0; step->n_followers < n && !rolling_is_full(x); step->n_followers++)
                step->followers[step->n_followers] = x->set.followers[step->n_followers];
        return 0;
}

int rolling_choose_joiners(Rolling *x) {
        RolloutStep *step = x->step;

        if (x->set.n_joiners == 0 || step->change == ROLLOUT_REVERT || step->change == ROLLOUT_DELETE)
                return 0;
        if (rolling_make_room(x) < 0)
                return -ENOMEM;
        for (size_t i = 0; i < x->set.n_joiners && !rolling_is_full(x); i++)
                step->followers[step->n_followers++] = x->set.joiners[i];
        return 0;
}

int rolling_choose_all(Rolling *x, size_t max) {
        int r = rolling_choose(x, INSTANCE_IDLE, SIZE_MAX);
        size_t before = x->step->n_updates;

        if (r == 0)
                r = rolling_choose(x, INSTANCE_BAD, max);
        max -= MIN(max, x->step->n_updates - before);
        if (r == 0)
                r = rolling_choose(x, INSTANCE_OLD, max);
        return r < 0 ? r : rolling_choose_followers(x, x->set.n_launched);
}

/* Return whether the wanted text has run: it was completed, or an instance is available with it. */
static bool rolling_has_proof(const Rolling *x) {
        const RolloutRecord *r = x->next;

        return streq(r->to.hash, x->set.head->unit->hash) &&
               (streq(r->to.hash, r->completed.hash) || x->set.n_of[INSTANCE_AVAILABLE] > 0);
}

/* Return whether an instance on a machine that is down has a text that has failed or was reverted, and that
 * was not available there: otherwise it may still run, and several of them would restart together on their
 * return. One that starts here for another machine stays as it is. */
static bool rolling_is_abandoned(const Rolling *x, const RolloutInstance *p) {
        const ClusterAssignment *a = p->assignment;
        const char *hash = rollout_hash_of(x->set.head, a);
        const RolloutOutcome *outcome = rollout_record_outcome(x->next, hash);

        return p->state == INSTANCE_UNREACHABLE && !a->instead[0] && !streq(hash, x->next->to.hash) &&
               outcome && outcome->result != ROLLOUT_COMPLETED && !rollout_was_available(a);
}

int rolling_choose_abandoned(Rolling *x) {
        _cleanup_rollout_order_ RolloutOrder order = {};
        const RolloutInstance *p;
        int r;

        if (!rolling_may_begin(x) || !rolling_has_proof(x) || x->set.n_of[INSTANCE_UNREACHABLE] == 0)
                return 0;
        r = rollout_order_begin(&x->set, INSTANCE_UNREACHABLE, &order);
        while (r == 0 && !rolling_is_full(x) && (p = rollout_order_next(&order)))
                if (rolling_is_abandoned(x, p))
                        r = rolling_update(x, p, NULL);
        return r;
}

bool rolling_has_failed(const RolloutRecord *r, const RolloutText *text) {
        const RolloutOutcome *outcome = rollout_record_outcome(r, text->hash);

        return outcome && outcome->result != ROLLOUT_COMPLETED;
}

void rolling_note_failed_texts(Rolling *x) {
        for (size_t i = 0; i < x->set.n; i++) {
                const RolloutInstance *p = &x->set.instances[i];
                const char *hash = rollout_hash_of(x->set.head, p->assignment);

                if (p->state == INSTANCE_BAD && *hash && !streq(hash, x->next->completed.hash) &&
                    !streq(hash, x->next->to.hash) && !rollout_record_outcome(x->next, hash) &&
                    rollout_has_failed(p->assignment))
                        (void) rollout_record_end(x->next, hash, ROLLOUT_FAILED);
        }
}

size_t rolling_count_stuck(Rolling *x) {
        const ClusterMachine *m;
        size_t n = 0;

        for (size_t i = 0; i < x->set.n_launched; i++) {
                if (!LIST_EMPTY(&x->set.followers[i]->assignments) || !rolling_view(x) ||
                    scheduler_view_work(x->view) >= SURGE_WORK_MAX)
                        continue;
                n += scheduler_pick(x->view, x->set.followers[i], &m, NULL) < 0;
        }
        return n;
}
