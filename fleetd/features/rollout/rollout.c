/* The steps of a rollout. */
#include "fleetd/features/rollout/rollout.h"

#include "fleetd/features/rollout/rollout_internal.h"

enum { POSTPONE_MS = 60000 };

/* -- One step -- */

/* What the rollout is of precedes the note. */
static void _printf_(2, 3) rolling_note(Rolling *x, const char *format, ...) {
        char label[ROLLOUT_LABEL_SIZE], what[HISTORY_REASON_SIZE];
        va_list ap;

        va_start(ap, format);
        text_format_list(what, sizeof(what), format, ap);
        va_end(ap);
        rollout_record_label(x->next, label);
        text_format(x->step->reason, sizeof(x->step->reason), "%s: %s", label, what);
        x->step->code = VERDICT_SAID;
        x->changed = true;
}

static void rolling_set_text(RolloutText *text, uint64_t number, const char *hash, uint64_t inputs) {
        text->number = number;
        snprintf(text->hash, sizeof(text->hash), "%s", hash);
        text->inputs = inputs;
}

static void rolling_set_wanted(Rolling *x) {
        const Unit *wanted = x->set.head->unit;

        rolling_set_text(&x->next->to, revisions_wanted(&wanted->revisions), wanted->hash,
                         rollout_set_content(&x->set));
}

/* Return whether both are of one revision, with any contents. */
static bool text_is(const RolloutText *a, const RolloutText *b) {
        return a->number > 0 && b->number > 0 && streq(a->hash, b->hash);
}

static bool text_equal(const RolloutText *a, const RolloutText *b) {
        return text_is(a, b) && a->inputs == b->inputs;
}

/* Keep how the rollout of a text ended: history shows it. Without memory, the outcome is unknown. */
static void rolling_end_text(RolloutRecord *r, const RolloutText *text, RolloutResult result) {
        (void) rollout_record_end(r, text->hash, result);
}

/* All instances that are reachable have the text, and are available, at least one of them. */
static void rolling_complete(Rolling *x) {
        RolloutRecord *r = x->next;

        r->completed = r->to;
        rolling_end_text(r, &r->to, ROLLOUT_COMPLETED);
        r->hold_ms = plan_hold_ms(x->cluster, x->set.head->unit, NULL, ASSIGNMENT_RUN);
        x->changed = true;
}

/* Return whether the instance joins the set with another text than the former ones of the set. */
static bool rolling_is_new(const Rolling *x, const RolloutInstance *p) {
        return rollout_joins(&x->set, p) &&
               !revisions_find(&x->set.head->unit->revisions, 0, p->assignment->base);
}

/* The text that the available instances have: the one to which a revert returns. Without one, that of an
 * instance that was available before its machine went away. 0 or -ENOMEM. */
static int rolling_find_from(Rolling *x, RolloutRecord *r) {
        static const RolloutInstanceState states[] = { INSTANCE_OLD, INSTANCE_UNREACHABLE };

        for (size_t i = 0; i < ELEMENTS(states); i++) {
                _cleanup_rollout_order_ RolloutOrder order = {};
                const RolloutInstance *p;

                if (rollout_order_begin(&x->set, states[i], &order) < 0)
                        return -ENOMEM;
                while ((p = rollout_order_next(&order))) {
                        const ClusterAssignment *a = p->assignment;

                        if (a->revision == 0 || rolling_is_new(x, p) ||
                            (p->state == INSTANCE_UNREACHABLE && !rollout_was_available(a)))
                                continue;
                        rolling_set_text(&r->completed, a->revision, rollout_hash_of(x->set.head, a),
                                         rollout_content(p->unit) > 0 ? a->inputs : 0);
                        r->hold_ms = a->hold_ms;
                        return 0;
                }
        }
        return 0;
}

static void rolling_shares(Rolling *x) {
        size_t n = rolling_count(x);

        x->max_unavailable = update_max_unavailable(&x->policy, n);
        x->min_available = update_min_available(&x->policy, n);
        x->max_surge = x->set.head->unit->placement.global ? 0 : update_max_surge(&x->policy, n);
        x->canary = update_canaries(&x->policy, n);
        x->max_failures = update_max_failures(&x->policy, n);
}

/* Instances that have the text, and those that have left the set since the rollout began: that the set gets
 * smaller is no lack of progress. */
static uint64_t rolling_progress(const Rolling *x) {
        return x->set.n_of[INSTANCE_AVAILABLE] + x->set.n_of[INSTANCE_SKIPPED] + x->next->left;
}

/* Instances are new in the set, have left it, or have returned. */
static void rolling_note_size(Rolling *x) {
        RolloutRecord *r = x->next;
        uint64_t left;

        if (x->set.n > r->placed) {
                r->added += x->set.n - r->placed;
                r->placed = x->set.n;
                x->changed = true;
        }
        left = r->placed - MIN(r->placed, (uint64_t) (x->set.n + x->set.n_missing));
        if (left < r->left)
                r->available -= MIN(r->available, r->left - left);
        x->changed |= left != r->left;
        r->left = left;
}

/* The rollout gets another text: all that it counts begins again. */
static void rolling_reset(Rolling *x) {
        RolloutRecord *r = x->next;

        r->begun = x->cluster->index;
        r->progress_ms = x->cluster->now_ms;
        r->until_ms = 0;
}

/* Return whether others have the wanted text already, and what is behind has joined the set, or has other
 * drop-ins: no instance has a former text of the set. */
static bool rolling_only_joins(const Rolling *x) {
        for (size_t i = 0; i < x->set.n; i++) {
                const RolloutInstance *p = &x->set.instances[i];

                if ((p->state == INSTANCE_OLD || p->state == INSTANCE_BAD ||
                     p->state == INSTANCE_UNREACHABLE) &&
                    !rolling_is_new(x, p))
                        return false;
        }
        return x->set.n_of[INSTANCE_AVAILABLE] > 0;
}

/* Return whether the set has the text already, and further instances get it: it needs no canary, and their
 * failure reverts none of the others. */
static bool rolling_only_adds(const RolloutRecord *r) {
        return text_equal(&r->completed, &r->to) || text_equal(&r->from, &r->to);
}

/* A text or content is wanted that instances do not have. 0 or -ENOMEM. */
static int rolling_begin(Rolling *x, bool supersedes) {
        const Revision *wanted = &x->set.head->unit->revisions.wanted;
        RolloutRecord *r = x->next;
        uint64_t lost = supersedes ? rollout_lost(&x->set, r) : 0;
        bool content;

        if (!supersedes && r->completed.number == 0 && rolling_find_from(x, r) < 0)
                return -ENOMEM;
        if (!supersedes)
                r->from = rolling_has_failed(r, &r->to) ? r->to : r->completed;
        if (r->completed.number > 0 && !rollout_record_outcome(r, r->completed.hash))
                rolling_end_text(r, &r->completed, ROLLOUT_COMPLETED);
        content = streq(r->to.number > 0 ? r->to.hash : r->completed.hash, x->set.head->unit->hash);
        rolling_set_wanted(x);
        if (!content && text_is(&r->from, &r->to)) /* it is a return to that text */
                r->from.inputs = r->to.inputs;
        if (!supersedes && r->completed.number == 0 && rolling_only_joins(x))
                r->completed = r->to;
        rolling_note_failed_texts(x);
        rollout_record_drop_outcomes(r, r->to.hash, &x->set.head->unit->revisions);
        if (text_is(&r->reverted, &r->to)) /* it is wanted again */
                r->reverted = (RolloutText) {};
        rollout_record_clear_failures(r);
        rolling_reset(x);
        r->since_ms = x->cluster->now_ms;
        if (!supersedes) {
                x->set.n_missing = x->set.n_waiting - rolling_count_stuck(x);
                r->placed = x->set.n + x->set.n_missing;
                rolling_shares(x);
        }
        rolling_note_size(x);
        r->available = rolling_progress(x);
        r->served = MAX(supersedes ? r->served : 0,
                        (uint64_t) (x->set.n_of[INSTANCE_OLD] + x->set.n_of[INSTANCE_SURGING] +
                                    x->set.n_of[INSTANCE_AVAILABLE]) +
                                lost);
        r->added = 0;
        if (!content || rollout_record_is_of_content(r)) /* who has changed an input is not known here */
                snprintf(r->by, sizeof(r->by), "%s", content ? "" : wanted->by);
        r->before = ROLLOUT_ROLLING;
        r->state = x->canary > 0 && !rolling_only_adds(r) ? ROLLOUT_CANARY : ROLLOUT_ROLLING;
        if (wanted->how == REVISION_REVERTED && !content && !rolling_has_failed(r, &r->to))
                r->state = ROLLOUT_REVERTING;
        rolling_note(x, "%s%s", rollout_state_to_string(r->state),
                     supersedes ? ", instead of the one before" : "");
        return 0;
}

/* 'failed': the text has; otherwise, it is neither good nor bad. */
static void rolling_pause(Rolling *x, const char *why, bool failed) {
        if (failed && !text_is(&x->next->completed, &x->next->to)) /* else all others have it */
                rolling_end_text(x->next, &x->next->to, ROLLOUT_FAILED);
        rollout_pause(x->next, x->cluster->now_ms, why);
        rolling_note(x, "paused: %s", x->next->why);
        x->step->code = VERDICT_ROLLOUT_PAUSED;
}

/* The text is abandoned: the instances that have it get the last one that was completed. */
static void rolling_revert(Rolling *x, const char *why) {
        RolloutRecord *r = x->next;

        rolling_end_text(r, &r->to, ROLLOUT_REVERTED);
        r->reverted = r->to;
        r->to = r->completed;
        r->to.inputs = r->from.inputs = r->reverted.inputs; /* the former content is not stored */
        r->available = 0;
        r->state = ROLLOUT_REVERTING;
        rolling_reset(x);
        text_format(r->why, sizeof(r->why), "%s", why);
        memcpy(r->reverted_why, r->why, sizeof(r->reverted_why));
        x->step->change = ROLLOUT_REVERT;
        x->changed = true;
        text_format(x->step->reason, sizeof(x->step->reason), "revision %llu is reverted to %llu: %s",
                    (unsigned long long) r->reverted.number, (unsigned long long) r->to.number, why);
        x->step->code = VERDICT_ROLLOUT_REVERTED;
}

/* Return 1 if the rollout has failed and ends here, 0 if it goes on, or -ENOMEM. 'late': its deadline is
 * over, for which a host may be the cause. */
static int rolling_fail(Rolling *x, bool late) {
        UpdateFailureAction action = x->policy.on_failure;
        char why[ROLLOUT_WHY_SIZE];
        VerdictCode code;
        bool failed, content;

        TRY(rolling_store_failures(x));
        failed = !late || !rollout_is_hindered(&x->set, why, sizeof(why));
        if (failed)
                rolling_describe_failure(x, why, sizeof(why));
        code = failed && x->next->n_failed > 0 ? VERDICT_INSTANCE_FAILED : VERDICT_NONE;
        if (x->next->state == ROLLOUT_REVERTING) {
                char text[ROLLOUT_WHY_SIZE + 64];

                snprintf(text, sizeof(text), "revert to revision %llu failed: %s",
                         (unsigned long long) x->next->to.number, why);
                rolling_pause(x, text, failed);
                x->next->code = code;
                return 1;
        }
        if (action == UPDATE_CONTINUES)
                return 0;
        content = rollout_record_is_of_content(x->next);
        if (failed && action == UPDATE_REVERTS && (content || x->next->completed.number == 0))
                text_format(why + strlen(why), sizeof(why) - strlen(why), "%s",
                            content ? "; the former content is not stored" : "; no revision to return to");
        if (failed && action == UPDATE_REVERTS && x->next->completed.number > 0 && !content &&
            !rolling_only_adds(x->next))
                rolling_revert(x, why);
        else
                rolling_pause(x, why, failed);
        x->next->code = code;
        return 1;
}

static uint64_t rolling_span_ms(const Rolling *x) {
        const Unit *unit = x->set.head->unit;

        return update_deadline_ms(&x->policy, &unit->placement.health, &unit->placement.service, &unit->file);
}

static uint64_t rolling_deadline_ms(const Rolling *x) {
        return MAX(x->next->progress_ms, x->conditions->leads_ms) + rolling_span_ms(x);
}

/* The deadline does not run while the brake is on, or for what rolling_awaits_others() has: a write a minute,
 * or more often if it is shorter. */
static void rolling_postpone(Rolling *x) {
        uint64_t now_ms = x->cluster->now_ms, span_ms = rolling_span_ms(x) / 2;

        span_ms = MIN(span_ms, (uint64_t) POSTPONE_MS);
        if (now_ms >= x->next->progress_ms + span_ms) {
                x->next->progress_ms = now_ms;
                x->changed = true;
        }
        rolling_again(x, x->next->progress_ms + span_ms);
}

/* Failed instances beyond the tolerance, or no progress. As rolling_fail(). */
static int rolling_check(Rolling *x) {
        const size_t *n = x->set.n_of;
        bool waits = rolling_steps(x) + rolling_behind(x) + x->set.n_missing > 0;

        if (x->next->state == ROLLOUT_REVERTING ? n[INSTANCE_FAILED] > x->set.n_untouched :
                                                  rolling_failures(x) > x->max_failures)
                return rolling_fail(x, false);
        if (!waits)
                return 0;
        if (x->conditions->braked || rolling_awaits_others(x)) {
                rolling_postpone(x);
                return 0;
        }
        if (x->cluster->now_ms >= rolling_deadline_ms(x))
                return rolling_fail(x, true);
        rolling_again(x, rolling_deadline_ms(x));
        return 0;
}

/* Return whether more instances are available than at any time since the rollout began. One that becomes
 * available again is no progress: it may do so for ever. */
static bool rolling_note_progress(Rolling *x) {
        uint64_t available = rolling_progress(x);

        if (available <= x->next->available)
                return false;
        x->next->progress_ms = x->cluster->now_ms;
        x->next->available = available;
        x->changed = true;
        return true;
}

/* -- The states -- */

/* UpdateOnFailure=continue: failed instances do not hold the others. */
static bool rolling_goes_on(const Rolling *x) {
        return x->policy.on_failure == UPDATE_CONTINUES;
}

static int rolling_canary(Rolling *x) {
        const size_t *n = x->set.n_of;
        size_t n_have = n[INSTANCE_AVAILABLE] + rolling_steps(x) + n[INSTANCE_FAILED],
               n_done = n[INSTANCE_AVAILABLE] + (rolling_goes_on(x) ? n[INSTANCE_FAILED] : 0);
        bool late = rolling_goes_on(x) && x->cluster->now_ms >= rolling_deadline_ms(x);
        int r;

        (void) rolling_note_progress(x);
        r = rolling_check(x);
        if (r != 0)
                return MIN(r, 0);
        if (n_have < x->canary && rolling_behind(x) > 0)
                return rolling_choose_all(x, x->canary - n_have);
        if (((n_done < x->canary && rolling_behind(x) > 0) || rolling_steps(x) + x->set.n_missing > 0) &&
            !late)
                return 0;
        x->next->state = ROLLOUT_HELD;
        x->next->until_ms = x->policy.promote_ms > 0 ? x->cluster->now_ms + x->policy.promote_ms : 0;
        rolling_note(x, "held: %zu of %zu instances have it", n[INSTANCE_AVAILABLE], rolling_count(x));
        return 0;
}

static void rolling_finish(Rolling *x) {
        RolloutRecord *r = x->next;
        size_t behind = x->set.n_of[INSTANCE_UNREACHABLE] - x->set.n_had_text,
               failed = x->set.n_of[INSTANCE_FAILED];
        char rest[64] = "";

        if (behind + failed > 0)
                snprintf(rest, sizeof(rest), ", %zu behind, %zu failed", behind, failed);
        r->state = ROLLOUT_DONE;
        if (failed > 0)
                rolling_end_text(r, &r->to, ROLLOUT_FAILED);
        else if (x->set.n_of[INSTANCE_AVAILABLE] > 0)
                rolling_complete(x);
        if (text_is(&r->completed, &r->reverted))
                r->reverted = (RolloutText) {};
        r->until_ms = 0;
        rolling_note(x, "done%s", rest);
}

static int rolling_roll(Rolling *x) {
        const size_t *n = x->set.n_of;
        bool progress = rolling_note_progress(x);
        int r = rolling_check(x);

        if (r != 0)
                return MIN(r, 0);
        if (rolling_behind(x) + rolling_steps(x) + x->set.n_missing == 0) {
                /* After a revert, the record keeps why the text was abandoned. */
                r = x->next->state == ROLLOUT_REVERTING ? 0 : rolling_store_failures(x);
                rolling_finish(x);
                return r;
        }
        if (progress && x->next->state == ROLLOUT_ROLLING && x->policy.pause_ms > 0 &&
            rolling_steps(x) == 0 && n[INSTANCE_OLD] > 0) {
                x->next->state = ROLLOUT_BETWEEN_BATCHES;
                x->next->until_ms = x->cluster->now_ms + x->policy.pause_ms;
                rolling_again(x, x->next->until_ms);
                x->changed = true;
                return 0;
        }
        return rolling_choose_all(x, SIZE_MAX);
}

static void rolling_continue(Rolling *x) {
        x->next->state = ROLLOUT_ROLLING;
        x->next->progress_ms = x->cluster->now_ms;
        x->next->until_ms = 0;
        x->changed = true;
}

/* Return as rolling_fail(), if too many instances have failed; else 0. */
static int rolling_check_failures(Rolling *x) {
        (void) rolling_note_progress(x);
        return rolling_failures(x) > x->max_failures ? rolling_fail(x, false) : 0;
}

static int rolling_held(Rolling *x) {
        int r;

        r = rolling_check_failures(x);
        if (r != 0)
                return MIN(r, 0);
        if (x->next->until_ms == 0)
                return 0;
        if (x->cluster->now_ms < x->next->until_ms) {
                rolling_again(x, x->next->until_ms);
                return 0;
        }
        /* A canary is not available any more, or the machines of all are down. */
        if (!rolling_goes_on(x) &&
            (rolling_steps(x) > 0 || (x->set.n_of[INSTANCE_AVAILABLE] == 0 && rolling_behind(x) > 0)))
                return 0;
        rolling_continue(x);
        rolling_note(x, "promoted, after Promote=");
        return rolling_roll(x);
}

static int rolling_pausing(Rolling *x) {
        int r;

        r = rolling_check_failures(x);
        if (r != 0)
                return MIN(r, 0);
        if (x->cluster->now_ms < x->next->until_ms) {
                rolling_again(x, x->next->until_ms);
                return 0;
        }
        rolling_continue(x);
        return rolling_roll(x);
}

/* Whether instances have to be updated on other machines first. Those that have failed there (the rollout has
 * ended without them, UpdateOnFailure=continue) are not tried again. */
static bool rolling_has_surges_left(const Rolling *x) {
        for (size_t i = 0; i < x->set.n; i++)
                if ((x->set.instances[i].state == INSTANCE_OLD || rolling_serves(x, &x->set.instances[i])) &&
                    !rollout_failed_before(x->next, &x->set.instances[i]))
                        return true;
        return false;
}

/* The same without MaxSurge=, of instances whose machines the text excludes. 1, 0 or -ENOMEM. */
static int rolling_has_moves_left(Rolling *x) {
        for (size_t i = 0; i < x->set.n && x->max_surge == 0; i++) {
                const RolloutInstance *p = &x->set.instances[i];
                const ClusterMachine *to = NULL;
                int r;

                if ((p->state != INSTANCE_OLD && p->state != INSTANCE_BAD) ||
                    rollout_failed_before(x->next, p))
                        continue;
                r = rolling_place(x, p, &to);
                if (r == -ENOMEM || r == -EBUSY || to)
                        return r == -EBUSY ? 0 : MIN(r, 1);
        }
        return 0;
}

/* Instances whose machines have returned. One that is started again by people may be available at last. A
 * surge instance ends with its rollout: with MaxSurge=, the rollout continues for them. */
static int rolling_done(Rolling *x) {
        RolloutRecord *r = x->next;
        bool first; /* no machine has run the text yet */
        int e;

        if (!text_equal(&r->completed, &r->to) && rolling_behind(x) == 0 &&
            rolling_steps(x) + x->set.n_of[INSTANCE_FAILED] == 0 && x->set.n_of[INSTANCE_AVAILABLE] > 0)
                rolling_complete(x);
        if (!rolling_may_begin(x))
                return 0;
        if (rollout_joining(&x->set, r) > 0) {
                if (rolling_begin(x, false) < 0)
                        return -ENOMEM;
                return r->state == ROLLOUT_CANARY ? rolling_canary(x) : rolling_roll(x);
        }
        if (rolling_choose_followers(x, x->set.n_followers) < 0)
                return -ENOMEM;
        first = !text_equal(&r->completed, &r->to) && x->set.n_of[INSTANCE_AVAILABLE] == 0 &&
                r->n_failed == 0 && x->set.n_of[INSTANCE_OLD] + x->set.n_of[INSTANCE_BAD] > 0;
        e = TRY(rolling_has_moves_left(x));
        if (x->max_surge == 0 && !first && e == 0)
                return rolling_choose_all(x, SIZE_MAX);
        if (first || e > 0 || rolling_has_surges_left(x)) {
                rolling_continue(x);
                if (first && x->canary > 0)
                        r->state = ROLLOUT_CANARY;
                r->available = rolling_progress(x);
                rolling_note(x, "continues, as machines have returned");
                return r->state == ROLLOUT_CANARY ? rolling_canary(x) : rolling_roll(x);
        }
        e = rolling_choose(x, INSTANCE_IDLE, SIZE_MAX);
        return e < 0 ? e : rolling_choose(x, INSTANCE_BAD, SIZE_MAX);
}

/* Return whether an instance that failed with the text of the others has other drop-ins now: that is another
 * text. */
static bool rolling_has_fix(const Rolling *x) {
        for (size_t i = 0; i < x->set.n && rolling_only_adds(x->next); i++)
                if (rollout_joins(&x->set, &x->set.instances[i]) &&
                    !rollout_has_unknown_text(x->set.instances[i].assignment) &&
                    rollout_failed_before(x->next, &x->set.instances[i]))
                        return true;
        return false;
}

static int rolling_act(Rolling *x) {
        int r;

        if (x->next->state != ROLLOUT_DONE)
                rolling_note_size(x);
        switch (x->next->state) {
        case ROLLOUT_CANARY:
                r = rolling_canary(x);
                break;
        case ROLLOUT_HELD:
                r = rolling_held(x);
                break;
        case ROLLOUT_BETWEEN_BATCHES:
                r = rolling_pausing(x);
                break;
        case ROLLOUT_PAUSED:
                if (x->conditions->braked || !rolling_has_fix(x))
                        return 0;
                r = rolling_begin(x, true);
                if (r == 0)
                        r = rolling_roll(x);
                break;
        case ROLLOUT_DONE:
                r = rolling_done(x);
                break;
        default:
                r = rolling_roll(x);
        }
        return r < 0 ? r : rolling_choose_abandoned(x);
}

/* After 'resume', failed instances are updated again: their assignments precede the request. Those whose
 * machines are not up are skipped. */
static void rolling_retry(Rolling *x) {
        for (size_t i = 0; i < x->set.n; i++) {
                RolloutInstance *p = &x->set.instances[i];

                if (p->state != INSTANCE_FAILED || p->assignment->index >= x->next->retry)
                        continue;
                p->state = p->assignment->machine->presence == PRESENCE_UP ? INSTANCE_BAD :
                                                                             INSTANCE_UNREACHABLE;
                x->set.n_of[INSTANCE_FAILED]--;
                x->set.n_of[p->state]++;
                x->set.n_passed += p->state == INSTANCE_UNREACHABLE && rollout_is_absent(&x->set, p);
        }
}

/* The unit is not wanted any more. */
static void rolling_end(Rolling *x) {
        RolloutRecord *r = x->next;

        if (r->state == ROLLOUT_DONE)
                return;
        r->state = ROLLOUT_DONE;
        if (r->completed.number == 0) {
                x->step->change = ROLLOUT_DELETE;
                return;
        }
        rollout_record_clear_failures(r);
        rolling_note(x, "ended, as no instance is wanted");
}

/* Return whether a paused rollout of the wanted text stays paused with another content: a person has paused
 * it, or its text has failed. */
static bool rolling_stays_paused(const Rolling *x) {
        const RolloutRecord *r = x->next;

        return r->state == ROLLOUT_PAUSED && streq(r->to.hash, x->set.head->unit->hash) &&
               (r->code == VERDICT_ROLLOUT_PAUSED_BY || !rollout_record_is_of_content(r));
}

/* A paused rollout goes on with the present content when it is resumed, with its canaries first. */
static void rolling_take_content(Rolling *x) {
        RolloutRecord *r = x->next;
        bool content = rollout_record_is_of_content(r);

        r->to.inputs = rollout_set_content(&x->set);
        if (!content && text_is(&r->from, &r->to))
                r->from.inputs = r->to.inputs;
        if (r->before == ROLLOUT_HELD) {
                r->before = ROLLOUT_CANARY;
                r->until_ms = 0;
        }
        r->available = rolling_progress(x);
        x->changed = true;
}

static int rolling_decide(Rolling *x, bool has_record) {
        const ClusterUnit *head = x->set.head;
        RolloutRecord *r = x->next;
        bool runs, behind,
                current = has_record && streq(r->to.hash, head->unit->hash) &&
                          r->to.inputs == rollout_set_content(&x->set);
        int e;

        if (current)
                rolling_retry(x);
        rolling_shares(x);
        runs = rolling_count(x) + x->set.n_of[INSTANCE_UNREACHABLE] + x->set.n_of[INSTANCE_SKIPPED] >
               x->set.n_missing;
        behind = rolling_behind(x) + x->set.n_of[INSTANCE_UNREACHABLE] > x->set.n_had_text;
        if (!runs && !(current && x->set.n_waiting > 0 && r->state != ROLLOUT_DONE)) {
                if (has_record && !(current && x->set.n_waiting > 0)) /* one that moves starts again */
                        rolling_end(x);
                e = rolling_choose_all(x, SIZE_MAX);
                return e < 0 ? e : rolling_choose_followers(x, x->set.n_followers);
        }
        if (!has_record && !behind)
                return rolling_choose_followers(x, x->set.n_followers);
        if (!current && has_record && rolling_stays_paused(x))
                rolling_take_content(x);
        else if (!current) {
                if (behind || (has_record && r->state != ROLLOUT_DONE)) {
                        if (rolling_begin(x, has_record && r->state != ROLLOUT_DONE) < 0)
                                return -ENOMEM;
                } else if (has_record) { /* all instances have the text: they were assigned it as new ones */
                        rolling_set_wanted(x);
                        x->changed = true;
                }
        }
        return rolling_act(x);
}

int rollout_step(const Cluster *cluster, const ClusterUnit *head, const RolloutConditions *conditions,
                 RolloutStep *ret) {
        _cleanup_rollout_step_ RolloutStep step = { .again_ms = UINT64_MAX };
        Rolling x = { .cluster = cluster, .conditions = conditions, .step = &step, .next = &step.next };
        int r = 0;

        /* Unreadable is not absent. */
        if (cluster_unit_has_unreadable(head, LAYOUT_UNIT) ||
            cluster_unit_has_unreadable(head, LAYOUT_ROLLOUT)) {
                *ret = step;
                return 0;
        }
        if (!head->unit) {
                step.change = head->rollout ? ROLLOUT_DELETE : ROLLOUT_NOTHING;
                *ret = step;
                return 0;
        }
        x.policy = rollout_policy(head);
        if (head->rollout)
                r = json_record_copy(&rollout_record, head->rollout, &step.next);
        if (r == 0)
                r = rollout_set_read(cluster, head, &x.set);
        if (r == 0)
                r = rolling_decide(&x, head->rollout != NULL);
        if (r == 0)
                r = rolling_choose_joiners(&x);
        rollout_set_done(&x.set);
        scheduler_view_free(x.view);
        rolling_done_placement(&x);
        if (r < 0)
                return r;
        step.has_record = x.changed;
        if (step.change == ROLLOUT_NOTHING && (x.changed || step.n_updates + step.n_followers > 0))
                step.change = ROLLOUT_WRITE;
        *ret = step;
        step = (RolloutStep) {};
        return 0;
}
