/* The requests of people to rollouts, and the pause that replaces a revert. */

#include "fleetd/features/rollout/rollout.h"

const char *const rollout_verb_names[_ROLLOUT_VERB_MAX] = {
        [ROLLOUT_PAUSE] = "pause",
        [ROLLOUT_RESUME] = "resume",
        [ROLLOUT_PROMOTE] = "promote",
};

/* The command that a rollout in this state waits for. */
static const char *rollout_next_command(RolloutState state) {
        switch (state) {
        case ROLLOUT_HELD:
                return "promote ";
        case ROLLOUT_PAUSED:
                return "resume ";
        default:
                return "";
        }
}

static int rollout_reject(const ClusterUnit *head, RolloutVerb verb, Error *err) {
        static const char *const needs[_ROLLOUT_VERB_MAX] = {
                [ROLLOUT_PAUSE] = "under way",
                [ROLLOUT_RESUME] = "paused",
                [ROLLOUT_PROMOTE] = "held",
        };
        RolloutState state = head->rollout ? head->rollout->state : ROLLOUT_DONE;

        return error_set(err, -EINVAL, "no rollout of %s is %s; it is %s: fleetctl rollout %s%s", head->name,
                         needs[verb], rollout_state_to_string(state), rollout_next_command(state),
                         head->name);
}

void rollout_pause(RolloutRecord *r, uint64_t now_ms, const char *why) {
        if (r->until_ms > 0)
                r->until_ms = r->until_ms > now_ms ? r->until_ms - now_ms : 1;
        r->before = r->state;
        r->state = ROLLOUT_PAUSED;
        r->code = VERDICT_NONE;
        text_format(r->why, sizeof(r->why), "%s", why);
}

int rollout_ask(const ClusterUnit *head, RolloutVerb verb, const RolloutRequest *request, RolloutRecord *ret,
                Error *err) {
        _cleanup_rollout_ RolloutRecord next = {};

        if (!head->rollout || head->rollout->state == ROLLOUT_DONE)
                return rollout_reject(head, verb, err);
        if (verb == ROLLOUT_PAUSE && head->rollout->state == ROLLOUT_PAUSED)
                return error_set(
                        err, -EALREADY,
                        "the rollout of %s is paused already: %s; to go on: fleetctl rollout resume %s",
                        head->name, head->rollout->why, head->name);
        if ((verb == ROLLOUT_RESUME && head->rollout->state != ROLLOUT_PAUSED) ||
            (verb == ROLLOUT_PROMOTE && head->rollout->state != ROLLOUT_HELD))
                return rollout_reject(head, verb, err);
        TRY(json_record_copy(&rollout_record, head->rollout, &next));
        if (verb == ROLLOUT_PAUSE) {
                char why[ROLLOUT_WHY_SIZE];

                snprintf(why, sizeof(why), "by %s", request->by && *request->by ? request->by : "a user");
                rollout_pause(&next, request->now_ms, why);
                next.code = VERDICT_ROLLOUT_PAUSED_BY;
        } else {
                next.state = verb == ROLLOUT_RESUME ? next.before : ROLLOUT_ROLLING;
                rollout_record_clear_failures(&next);
                if (next.state == ROLLOUT_REVERTING)
                        memcpy(next.why, next.reverted_why, sizeof(next.why));
                next.progress_ms = request->now_ms;
                next.until_ms = verb == ROLLOUT_RESUME && next.state == ROLLOUT_HELD && next.until_ms > 0 ?
                                        request->now_ms + next.until_ms :
                                        0;
                next.retry = verb == ROLLOUT_RESUME ? request->index : 0;
        }
        *ret = next;
        next = (RolloutRecord) {};
        return 0;
}

void rollout_step_pause_instead(RolloutStep *step, const char *cause) {
        RolloutRecord *r = &step->next;
        char why[ROLLOUT_WHY_SIZE], before[ROLLOUT_WHY_SIZE - 64];

        text_format(before, sizeof(before), "%s", r->why);
        text_format(why, sizeof(why), "%s; %s", before, cause);
        memcpy(r->why, why, sizeof(r->why));
        r->to = r->reverted;
        (void) rollout_record_end(r, r->to.hash, ROLLOUT_FAILED);
        r->reverted = r->completed = (RolloutText) {};
        r->before = ROLLOUT_ROLLING;
        r->state = ROLLOUT_PAUSED;
        step->change = ROLLOUT_WRITE;
        step->code = VERDICT_SAID;
        snprintf(step->reason, sizeof(step->reason), "revision %llu: paused",
                 (unsigned long long) r->to.number);
}

void rollout_step_done(RolloutStep *step) {
        rollout_record_done(&step->next);
        free(step->updates);
        free(step->followers);
        *step = (RolloutStep) {};
}
