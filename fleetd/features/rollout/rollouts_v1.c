/* /fleet/v1/rollouts: GET reports the rollouts that are under way, GET of one unit that of its set, and PUT
 * pauses, resumes or promotes it. rollout.h has all steps. */

#include "fleetd/engine/plan.h"
#include "fleetd/features/rollout/rollout.h"
#include "fleetd/features/rollout/rollouts.h"
#include "fleetd/registry/unit_order.h"
#include "units/json_record.h"

enum {
        INSTANCES_MAX = 1000,    /* in an answer about one set ... */
        ROLLOUTS_MAX = 1000,     /* ... and rollouts in the list, which has no instances */
        REVERTED_MS = 86400000,  /* the answer about the cluster has what was reverted since then */
        SUMMARIES_MAX = 100,     /* rollouts in the answer about the cluster */
        ROLLOUT_HELD_MS = 60000, /* a rollout that is held for longer is a problem */
};

/* -- GET -- */

/* Return a cluster time as wall-clock time. */
static uint64_t rollout_wall_ms(const Request *request, uint64_t ms) {
        uint64_t wall_ms = loop_wall_ms(request->api->loop), now_ms = request_cluster(request)->now_ms;

        return wall_ms - MIN(now_ms > ms ? now_ms - ms : 0, wall_ms);
}

/* Return whether the wanted text is the one to which the rollout has returned after a failure. */
static bool rollout_was_reverted(const ClusterUnit *head) {
        const Revisions *all = &head->unit->revisions;

        return head->rollout->reverted.number > 0 && all->wanted.how == REVISION_REVERTED &&
               all->n_former > 0 && all->former[all->n_former - 1].number == head->rollout->reverted.number;
}

static void rollout_write_instance(Text *t, const Cluster *c, const RolloutSet *set, const RolloutInstance *p,
                                   bool braked) {
        const ClusterAssignment *a = p->assignment;
        Error why = {};

        rollout_explain(c, set, p, braked, &why);
        json_open(t, NULL, '{');
        if (p->state == INSTANCE_UPDATING || p->state == INSTANCE_SURGING)
                json_add_u64(t, "ageMs", c->now_ms - MIN(a->known_ms, c->now_ms));
        json_add_string(t, "machine", cluster_machine_name(a->machine));
        json_add_string(t, "machineID", a->machine->id);
        json_add_string(t, "name", p->unit->name);
        json_add_u64(t, "revision", a->revision);
        json_add_string(t, "state", rollout_instance_word(p));
        json_add_string(t, "why", why.message);
        json_close(t, '}');
}

static void rollout_write_instances(Text *t, const Request *request, const RolloutSet *set) {
        const Cluster *c = request_cluster(request);
        bool braked = request_is_braked(request);

        json_open(t, "instances", '[');
        for (size_t i = 0; i < MIN(set->n, (size_t) INSTANCES_MAX); i++)
                rollout_write_instance(t, c, set, &set->instances[i], braked);
        json_close(t, ']');
}

/* Write as "apart" the instances of a template that are to run and have texts of their own, by name. Below
 * KV_LEVEL_UPDATES, all have. */
static void rollout_write_apart(Text *t, const Request *request, const ClusterUnit *head) {
        const Cluster *c = request_cluster(request);
        UnitPosition at = {};
        size_t n, left = INSTANCES_MAX;

        if (request_level(request) < KV_LEVEL_UPDATES || !unit_name_is_template(head->name))
                return;
        json_open(t, "apart", '[');
        for (n = unit_order_instances(&c->by_name, head->name, &at); n > 0 && left > 0; n--) {
                const ClusterUnit *u = unit_order_next(&c->by_name, &at);

                if (!u || u == head || !u->unit || u->target <= TARGET_INACTIVE ||
                    (u->unit->from && streq(u->unit->from, head->name)))
                        continue;
                json_add_string(t, NULL, u->name);
                left--;
        }
        json_close(t, ']');
}

/* Write as "joiners" those of "apart" that have the text, and follow from the next step of the engine on. */
static void rollout_write_joiners(Text *t, const Request *request, const RolloutSet *set) {

        if (request_level(request) < KV_LEVEL_UPDATES || set->n_joiners == 0)
                return;
        json_open(t, "joiners", '[');
        for (size_t i = 0; i < MIN(set->n_joiners, (size_t) INSTANCES_MAX); i++)
                if (set->joiners[i]->target > TARGET_INACTIVE && !set->joiners[i]->unit->from)
                        json_add_string(t, NULL, set->joiners[i]->name);
        json_close(t, ']');
}

/* Write "template", that of an instance which does not follow it, and "templateNext", the command that lets
 * it follow. Nothing for other units. */
static void rollout_write_left_template(Text *t, const Request *request, const ClusterUnit *u) {
        const ClusterUnit *template = u->unit && !u->unit->from ?
                                              cluster_template(request_cluster(request), u->name) :
                                              NULL;
        _cleanup_text_ Text next = {};
        size_t own;

        if (!template || request_level(request) < KV_LEVEL_UPDATES ||
            unit_has_text_of(u->unit, template->unit, &own))
                return;
        text_printf(&next, "start --replace %s", u->name);
        json_add_string(t, "template", template->name);
        if (!u->unit->owner) /* else its file has the text */
                json_add_string(t, "templateNext", next.chars);
        t->error = t->error ?: next.error;
}

/* Return the time since a cluster time of the record, in ms; 0: it has none. */
static uint64_t rollout_age(const Cluster *c, uint64_t ms) {
        return ms == 0 || ms > c->now_ms ? 0 : c->now_ms - ms;
}

static bool rollout_unit_is_pending(const Cluster *c, const ClusterUnit *u) {
        const InputPolicy *inputs = u->unit ? &u->unit->placement.inputs : NULL;

        return u->inputs && inputs && input_policy_restarts(inputs) &&
               u->inputs->secrets != cluster_secrets_sum(c, &inputs->secrets);
}

/* Return whether a secret has changed for which the leader has not decided the contents of all units of the
 * set yet. That of a key shows in the next content only. */
static bool rollout_is_pending(const Cluster *c, const ClusterUnit *head) {
        bool pending = rollout_unit_is_pending(c, head);
        UnitPosition at = {};
        size_t n = unit_name_is_template(head->name) ? unit_order_instances(&c->by_name, head->name, &at) : 0;

        for (; n > 0 && !pending; n--) {
                const ClusterUnit *u = unit_order_next(&c->by_name, &at);

                pending = u && rollout_head(c, u) == head && rollout_unit_is_pending(c, u);
        }
        return pending;
}

/* Write "content", its number, of a rollout of another content. */
static void rollout_write_content(Text *t, const RolloutRecord *o) {
        if (rollout_record_is_of_content(o))
                json_add_u64(t, "content", o->to.inputs);
}

/* Write the rollout of a set; its state is "none" if there has been none. 0 or -ENOMEM. */
static int rollout_write(Text *t, const Request *request, const ClusterUnit *head, bool instances) {
        const Cluster *c = request_cluster(request);
        static const RolloutRecord none = { .state = ROLLOUT_DONE };
        const RolloutRecord *o = head->rollout ?: &none;
        bool reverted = head->rollout && rollout_was_reverted(head);
        RolloutSet set = {};
        const size_t *n = set.n_of;
        size_t n_joining;

        TRY(rollout_set_read(c, head, &set));
        rollout_set_sort(&set);
        n_joining = rollout_joining(&set, o);
        json_open(t, NULL, '{');
        json_add_u64(t, "ageMs", rollout_age(c, o->since_ms));
        if (instances)
                rollout_write_apart(t, request, head);
        json_add_u64(t, "available", n[INSTANCE_AVAILABLE] - set.n_finished);
        if (o->state == ROLLOUT_PAUSED)
                json_add_string(t, "before", rollout_state_to_string(o->before));
        json_add_u64(t, "behind", n[INSTANCE_OLD] + n[INSTANCE_BAD] + n[INSTANCE_IDLE]);
        json_add_string(t, "by", o->by);
        json_add_u64(t, "completed", o->completed.number);
        rollout_write_content(t, o);
        json_add_u64(t, "failed", n[INSTANCE_FAILED]);
        json_add_u64(t, "finished", set.n_finished);
        json_add_u64(t, "from", o->from.number);
        json_add_string(t, "hash", o->to.hash);
        if (instances)
                rollout_write_instances(t, request, &set);
        if (instances)
                rollout_write_joiners(t, request, &set);
        if (n_joining > 0)
                json_add_u64(t, "joining", n_joining);
        json_add_u64(t, "loaded", n[INSTANCE_LOADED]);
        json_add_string(t, "name", head->name);
        if (o->until_ms > c->now_ms)
                json_add_u64(t, "nextMs", o->until_ms - c->now_ms);
        json_add_u64(t, "of", set.n - n[INSTANCE_ENDED] - n[INSTANCE_SKIPPED]);
        if (rollout_is_pending(c, head))
                json_add_bool(t, "pending", true);
        json_add_u64(t, "progressMs", rollout_age(c, o->progress_ms));
        if (reverted) {
                json_add_u64(t, "reverted", o->reverted.number);
                json_add_string(t, "revertedHash", o->reverted.hash);
        }
        json_add_u64(t, "revision", head->rollout ? o->to.number : revisions_wanted(&head->unit->revisions));
        if (head->rollout)
                json_add_u64(t, "since", rollout_wall_ms(request, o->since_ms));
        json_add_string(t, "state", head->rollout ? rollout_state_to_string(o->state) : "none");
        rollout_write_left_template(t, request, head);
        json_add_u64(t, "unreachable", n[INSTANCE_UNREACHABLE] - set.n_had_text);
        json_add_u64(t, "updating", n[INSTANCE_UPDATING] + n[INSTANCE_SURGING]);
        if (set.n_waiting > set.n_moving)
                json_add_u64(t, "waiting", set.n_waiting - set.n_moving);
        json_add_string(t, "wanted", head->unit->hash);
        if (head->rollout && o->to.inputs != rollout_set_content(&set))
                json_add_u64(t, "wantedContent", rollout_set_content(&set));
        if (instances)
                plan_write_warnings(t, head,
                                    set.n + set.n_missing - n[INSTANCE_IDLE] - n[INSTANCE_LOADED] -
                                            n[INSTANCE_ENDED]);
        if (rollout_record_is_of_content(o) && set.content && set.content->number == o->to.inputs)
                json_add_string(t, "what", set.content->what);
        json_add_string(t, "why", o->why);
        json_close(t, '}');
        rollout_set_done(&set);
        return t->error;
}

/* Return whether the set returned to a former text within the last day, and has got no other text since. */
static bool rollout_is_recently_reverted(const Cluster *c, const ClusterUnit *head) {
        return rollout_was_reverted(head) && rollout_age(c, head->rollout->progress_ms) < REVERTED_MS;
}

static int rollouts_compare(const void *a, const void *b) {
        return strcmp((*(const ClusterUnit *const *) a)->name, (*(const ClusterUnit *const *) b)->name);
}

/* Set *ret to the sets of the list, CLUSTER_ROLLING or CLUSTER_REVERTED, by their names, and return their
 * number. */
static size_t rollouts_find(const Cluster *c, ClusterList list, const ClusterUnit ***ret, Text *t) {
        const ClusterUnit *u;
        size_t n = 0, capacity = 0;

        LIST_FOREACH(u, &c->lists[list], lists[list]) {
                if (!u->unit || !u->rollout ||
                    (list == CLUSTER_REVERTED && !rollout_is_recently_reverted(c, u)))
                        continue;
                if (GROW(*ret, capacity, n + 1) < 0) {
                        t->error = -ENOMEM;
                        break;
                }
                (*ret)[n++] = u;
        }
        if (n > 1)
                qsort(*ret, n, sizeof(**ret), rollouts_compare);
        return n;
}

/* Write as "failure" the instance whose failure has paused the rollout; nothing if there is none. */
static void rollout_write_failure(Text *t, const RolloutRecord *r) {
        const RolloutFailure *f = r->n_failed > 0 ? &r->failed[0] : NULL;

        if (!f || !rollout_is_paused_by(r, f->unit, f->machine))
                return;
        json_open(t, "failure", '{');
        json_add_string(t, "machineID", f->machine);
        json_add_string(t, "name", f->unit);
        json_add_string(t, "why", f->why);
        json_close(t, '}');
}

static void rollouts_write_reverted(Text *t, const Cluster *c) {
        _cleanup_free_ const ClusterUnit **heads = NULL;
        size_t list, n = rollouts_find(c, CLUSTER_REVERTED, &heads, t);

        list = json_open_list(t, "reverted");
        for (size_t i = 0; i < MIN(n, (size_t) SUMMARIES_MAX); i++) {
                const RolloutRecord *r = heads[i]->rollout;

                json_open(t, NULL, '{');
                json_add_u64(t, "ageMs", rollout_age(c, r->progress_ms));
                json_add_string(t, "name", heads[i]->name);
                json_add_u64(t, "revision", r->reverted.number);
                json_add_string(t, "why", rollout_record_reverted_why(r));
                json_close(t, '}');
        }
        json_close_list(t, list);
}

/* "rollouts", those that have not ended, and "reverted", each up to a limit. */
void rollouts_write(Text *t, const Request *request) {
        const Cluster *c = request_cluster(request);
        _cleanup_free_ const ClusterUnit **heads = NULL;
        size_t list, n = rollouts_find(c, CLUSTER_ROLLING, &heads, t);

        rollouts_write_reverted(t, c);
        list = json_open_list(t, "rollouts");
        for (size_t i = 0; i < MIN(n, (size_t) SUMMARIES_MAX); i++) {
                const RolloutRecord *r = heads[i]->rollout;

                json_open(t, NULL, '{');
                rollout_write_content(t, r);
                rollout_write_failure(t, r);
                json_add_string(t, "name", heads[i]->name);
                json_add_u64(t, "progressMs", rollout_age(c, r->progress_ms));
                json_add_u64(t, "revision", r->to.number);
                json_add_string(t, "state", rollout_state_to_string(r->state));
                json_add_string(t, "why", r->why);
                json_close(t, '}');
        }
        json_close_list(t, list);
}

/* Return whether the rollout is paused because this instance has failed: its reason has the failure. */
static bool rollout_is_paused_for(const RolloutRecord *r, const RolloutInstance *p) {
        return p->state == INSTANCE_FAILED && p->assignment &&
               rollout_is_paused_by(r, p->unit->name, p->assignment->machine->id);
}

/* Return how many instances are assigned the text of the rollout, and the content of their units. */
static size_t rollout_count_with_text(const RolloutSet *set) {
        size_t n = 0;

        for (size_t i = 0; i < set->n; i++) {
                const ClusterAssignment *a = set->instances[i].assignment;

                n += streq(rollout_hash_of(set->head, a), set->head->rollout->to.hash) &&
                     a->inputs >= rollout_content(a->of);
        }
        return n;
}

/* Write "rollout", what the rollout of the unit's set does, and "rolloutNext", the command that it waits for.
 * Nothing if none is under way. */
static void rollout_write_reason(Text *t, const Request *request, const ClusterUnit *u) {
        const Cluster *c = request_cluster(request);
        const ClusterUnit *head = u->unit ? rollout_head(c, u) : u;
        const RolloutRecord *o = head->rollout;
        _cleanup_text_ Text line = {}, next = {};
        char label[ROLLOUT_LABEL_SIZE];
        RolloutSet set = {};
        Error why = {};

        if (!o || o->state == ROLLOUT_DONE || !head->unit)
                return;
        if (rollout_set_read(c, head, &set) < 0) {
                t->error = -ENOMEM;
                return;
        }
        rollout_record_label(o, label);
        text_printf(&line, "%s: %s: %s, %zu of %zu available", head->name, label,
                    rollout_state_to_string(o->state), set.n_of[INSTANCE_AVAILABLE] - set.n_finished,
                    set.n - set.n_of[INSTANCE_ENDED] - set.n_of[INSTANCE_SKIPPED]);
        if (o->state == ROLLOUT_PAUSED)
                text_printf(&line, ", %zu with its %s: %s", rollout_count_with_text(&set),
                            rollout_record_is_of_content(o) ? "content" : "text", o->why);
        for (size_t i = 0; i < set.n; i++) {
                if (set.instances[i].unit != u || u->unit->placement.global)
                        continue;
                rollout_explain(c, &set, &set.instances[i], request_is_braked(request), &why);
                if (why.message[0] && !rollout_is_paused_for(o, &set.instances[i]))
                        text_printf(&line, "; %s: %s", u->name, why.message);
        }
        if (o->state == ROLLOUT_PAUSED || o->state == ROLLOUT_HELD)
                text_printf(&next, "rollout %s %s", o->state == ROLLOUT_PAUSED ? "resume" : "promote",
                            head->name);
        json_add_string(t, "rollout", line.chars);
        json_add_string(t, "rolloutNext", next.chars);
        t->error = t->error ?: line.error ?: next.error;
        rollout_set_done(&set);
}

static unsigned rollouts_list_handle(Request *request, Error *err) {
        const Cluster *c = request_cluster(request);
        _cleanup_free_ const ClusterUnit **heads = NULL;
        _cleanup_text_ Text t = {};
        size_t n = rollouts_find(c, CLUSTER_ROLLING, &heads, &t);

        json_open(&t, NULL, '{');
        json_open(&t, "rollouts", '[');
        for (size_t i = 0; i < MIN(n, (size_t) ROLLOUTS_MAX) && t.error == 0; i++)
                if (rollout_write(&t, request, heads[i], false) < 0)
                        t.error = -ENOMEM;
        json_close(&t, ']');
        json_close(&t, '}');
        return request_answer_json(request, 200, &t);
}

/* Return the head of the set of the path's unit; NULL: there is none, for status 404. */
static const ClusterUnit *rollout_of(const Request *request, Error *err) {
        const Cluster *c = request_cluster(request);
        const ClusterUnit *u = cluster_unit(c, request->rest);

        if (u)
                return rollout_head(c, u);
        error_set(err, 404, "unit does not exist");
        return NULL;
}

static unsigned rollouts_get_handle(Request *request, Error *err) {
        const ClusterUnit *head = rollout_of(request, err);
        _cleanup_text_ Text t = {};

        if (!head)
                return 404;
        if (rollout_write(&t, request, head, true) < 0)
                t.error = -ENOMEM;
        return request_answer_json(request, 200, &t);
}

/* -- PUT -- */

typedef struct RolloutBody {
        char request[16];
} RolloutBody;

static const JsonField rollout_body_fields[] = {
        { "request", JSON_FIELD_CHARS, offsetof(RolloutBody, request), true, .size = 16 },
};

/* The assignments of this view precede the request: those of failed instances are repeated after it. */
static unsigned rollout_put(Request *request, const ClusterUnit *head, RolloutVerb verb, Error *err) {
        static const char *const done[_ROLLOUT_VERB_MAX] = {
                [ROLLOUT_PAUSE] = "paused",
                [ROLLOUT_RESUME] = "resumed",
                [ROLLOUT_PROMOTE] = "promoted",
        };
        const Cluster *c = request_cluster(request);
        _cleanup_rollout_ RolloutRecord next = {};
        _cleanup_text_ Text reason = {};
        const char *user = request_user(request);
        char label[ROLLOUT_LABEL_SIZE];
        int r;

        r = rollout_ask(head, verb,
                        &(RolloutRequest) { .now_ms = c->now_ms, .index = c->index + 1, .by = user }, &next,
                        err);
        if (r < 0)
                return request_refused(r, err) == 500 ? 500 : 409;
        rollout_record_label(&next, label);
        text_printf(&reason, "%s: %s", label, done[verb]);
        return change_sent(request, "the rollout",
                           reason.error < 0 ? reason.error :
                                              registry_roll(request_registry(request), 0,
                                                            &(RolloutWrite) { .head = head,
                                                                              .record = &next,
                                                                              .reason = reason.chars,
                                                                              .user = user },
                                                            change_on_decided, request));
}

static unsigned rollouts_put_handle(Request *request, Error *err) {
        const ClusterUnit *head = rollout_of(request, err);
        RolloutBody body = {};
        RolloutVerb verb = _ROLLOUT_VERB_INVALID;
        int r;

        if (!head)
                return 404;
        r = json_read_record(request->http->body, request->http->body_size, JSON_FIELDS(rollout_body_fields),
                             &body, sizeof(body), err);
        if (r >= 0)
                verb = rollout_verb_from_string(body.request);
        if (r >= 0 && verb < 0)
                r = error_set(err, -EINVAL, "request: expected pause, resume or promote, not %s",
                              body.request);
        if (r < 0)
                return request_body_refused(r, err);
        return rollout_put(request, head, verb, err);
}

void rollout_write_why(Text *t, const Request *request, const ClusterUnit *u) {
        rollout_write_reason(t, request, u);
        rollout_write_left_template(t, request, u);
}

/* Those that wait for a user. */
static bool rollouts_find_waiting(ProblemSearch *s, const ProblemRow *row) {
        const RolloutRecord *r = s->unit->rollout;
        uint64_t age_ms = r ? s->cluster->now_ms - MIN(r->progress_ms, s->cluster->now_ms) : 0;
        char label[ROLLOUT_LABEL_SIZE];

        if (!r || !s->unit->unit)
                return false;
        rollout_record_label(r, label);
        if (r->state == ROLLOUT_PAUSED) {
                text_printf(&s->what, "the rollout of %s is paused: %s", label, r->why);
                for (size_t i = 0; i < s->n_machines; i++) {
                        const ClusterProblem *p = cluster_problem(s->cluster, s->machines[i]->id, s->subject);

                        if (p && p->problem.kind == PROBLEM_PAUSED)
                                return problems_add(s, row, "; its file is on %s",
                                                    cluster_machine_label(s->machines[i], s->place));
                }
                return problems_add(s, row, "%s", "");
        }
        if (r->state != ROLLOUT_HELD || r->progress_ms == 0 || age_ms < ROLLOUT_HELD_MS)
                return false;
        text_printf(&s->what, "the rollout of %s is held for ", label);
        append_span(&s->what, age_ms);
        s->next = "rollout promote ";
        if (rollout_record_is_of_content(r)) /* there is none to which it could return */
                return problems_add(s, row, "%s", "");
        return problems_add(s, row, "; to return: fleetctl revert %s", s->subject);
}

const ProblemRow rollout_problems[] = {
        { "rollout", SEVERITY_WARNING, RIGHT_UNITS_SEE, ABOUT_ROLLOUT, rollouts_find_waiting, "rollout " },
        {},
};

const Route rollout_routes[] = {
        { ROUTE_FLEET, "GET", "/fleet/v1/rollouts", RIGHT_UNITS_SEE, AT_VIEW, rollouts_list_handle },
        { ROUTE_FLEET, "GET", "/fleet/v1/rollouts/*", RIGHT_UNITS_SEE, AT_VIEW, rollouts_get_handle },
        { ROUTE_FLEET, "PUT", "/fleet/v1/rollouts/*", RIGHT_UNITS_CHANGE, AT_VIEW, rollouts_put_handle },
};
