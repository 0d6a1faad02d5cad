/* /fleet/v1/reboots: GET lists the planned reboots, POST queues machines, DELETE cancels, and POST of
 * .../resume continues a queue that has stopped. fleetd/features/reboot/reboot.h has the states. */

#include "fleetd/api/fleet_v1.h"
#include "fleetd/engine/drain.h"
#include "fleetd/engine/explain.h"
#include "fleetd/features/reboot/reboot_internal.h"
#include "fleetd/features/reboot/reboot_why.h"
#include "fleetd/problems/problems.h"

enum { SLOTS_MAX = 1000 };

#define REBOOT_SPAN_MAX_MS ((uint64_t) 365 * 86400000)

/* -- GET -- */

/* Write the deadline of the drain of a machine, from now on. */
static void reboots_write_deadline(Text *t, const Cluster *c, const ClusterMachine *m) {
        uint64_t ms = m->maintenance ? m->maintenance->deadline_ms : 0;

        if (m->reboot->state == REBOOT_DRAINING && ms > 0)
                json_add_u64(t, "deadlineMs", ms > c->now_ms ? ms - c->now_ms : 0);
}

static void reboots_write_one(Text *t, RebootQueue *q, const ClusterMachine *m) {
        const RebootRecord *r = m->reboot;
        const Cluster *c = q->cluster;
        const ClusterAssignment *unit;
        Error why = {};
        int error = reboot_explain(q, m, &unit, &why);

        t->error = t->error ?: error;
        json_open(t, NULL, '{');
        json_add_bool(t, "blocked", why.code == DRAINED_UNIT_BLOCKED);
        json_add_string(t, "by", r->by);
        reboots_write_deadline(t, c, m);
        json_add_string(t, "id", m->id);
        json_add_string(t, "kind", reboot_kind_to_string(r->kind));
        json_add_string(t, "name", cluster_machine_name(m));
        json_add_string(t, "presence", presence_to_string(m->presence));
        json_add_string(t, "reason", why.message);
        if (r->until_ms > 0 && r->state != REBOOT_FAILED)
                json_add_u64(t, "returnMs", r->until_ms > c->now_ms ? r->until_ms - c->now_ms : 0);
        json_add_string(t, "state", reboot_state_to_string(r->state));
        json_add_string(t, "unit", unit ? unit->unit : NULL);
        json_add_u64(t, "unitsLeft", r->state == REBOOT_DRAINING ? drain_left(m) : 0);
        json_add_string(t, "zone", r->zone);
        json_close(t, '}');
}

static int reboots_read(const Request *request, RebootQueue *ret) {
        const Cluster *c = request_cluster(request);
        KvState state;

        kv_state(request->api->host->store, &state);
        return reboot_queue_read(c, &state, request_is_braked(request), ret);
}

static unsigned reboots_list_handle(Request *request, Error *err) {
        _cleanup_(reboot_queue_done) RebootQueue q;
        _cleanup_text_ Text t = {};

        t.error = reboots_read(request, &q);
        json_open(&t, NULL, '{');
        json_open(&t, "reboots", '[');
        for (size_t i = 0; i < q.n; i++)
                reboots_write_one(&t, &q, q.machines[i]);
        json_close(&t, ']');
        json_close(&t, '}');
        return request_answer_json(request, 200, &t);
}

/* Write the hosts at which the queue has stopped, or waits. */
static void reboots_write_stuck(Text *t, RebootQueue *q) {
        size_t list = json_open_list(t, "reboots");

        for (size_t i = 0; i < q->n; i++) {
                const ClusterMachine *m = q->machines[i];
                const ClusterAssignment *unused;
                Error why = {};
                int r = reboot_is_stuck(q, i, &unused, &why);

                t->error = t->error ?: MIN(r, 0);
                if (r <= 0)
                        continue;
                json_open(t, NULL, '{');
                json_add_bool(t, "blocked", why.code == DRAINED_UNIT_BLOCKED);
                json_add_string(t, "name", cluster_machine_name(m));
                json_add_string(t, "reason", why.message);
                json_add_string(t, "state", reboot_state_to_string(m->reboot->state));
                json_close(t, '}');
        }
        json_close_list(t, list);
}

/* Write the hosts whose turn it is, also those that are being drained. */
static void reboots_write_turns(Text *t, const RebootQueue *q) {
        size_t list = json_open_list(t, "rebooting");

        for (size_t i = 0; i < q->n; i++) {
                if (!reboot_is_active(q->machines[i]))
                        continue;
                json_open(t, NULL, '{');
                json_add_string(t, "name", cluster_machine_name(q->machines[i]));
                json_add_string(t, "state", reboot_state_to_string(q->machines[i]->reboot->state));
                json_close(t, '}');
        }
        json_close_list(t, list);
}

/* Write "reboots": the machines at which the queue of reboots has stopped, or has waited for a minute.
 * Nothing if there is none. */
static void reboots_write(Text *t, const Request *request) {
        _cleanup_(reboot_queue_done) RebootQueue q;
        size_t n_queued = 0;
        int r;

        r = reboots_read(request, &q);
        t->error = t->error ?: r;
        for (size_t i = 0; i < q.n; i++)
                n_queued += q.machines[i]->reboot->state == REBOOT_QUEUED;
        reboots_write_turns(t, &q);
        reboots_write_stuck(t, &q);
        json_add_u64(t, "rebootsQueued", n_queued);
}

/* -- Changes -- */

/* Send the changes, or answer if there is none. */
static unsigned reboots_send(Request *request, const RebootChange *changes, size_t n) {
        if (n == 0)
                return request_answer(request, 204, NULL, NULL, "", 0);
        return change_sent(request, "the reboots",
                           registry_reboot(request_registry(request), 0, changes, n, request_user(request),
                                           change_on_decided, request));
}

typedef struct RebootsBody {
        uint64_t deadline_ms, return_ms, slots;
        RebootKind kind;
        char zone[SPREAD_KEY_MAX + 1];
        Names machines; /* IDs */
} RebootsBody;

static int read_machines(const JsonValue *member, void *field, Error *err) {
        Names *names = field;

        if (json_value_type(member) != JSON_VALUE_ARRAY || json_value_count(member) == 0 ||
            json_value_count(member) > REBOOTS_MAX)
                return error_set(err, -EBADMSG, "machines: expected 1 to %d IDs", REBOOTS_MAX);
        for (size_t i = 0; i < json_value_count(member); i++) {
                const char *id = json_value_string(json_value_item(member, i));

                if (!id)
                        return error_set(err, -EBADMSG, "machines: expected strings");
                if (names_add(names, id, strlen(id)) < 0)
                        return -ENOMEM;
        }
        return 0;
}

static const JsonWords kind_words = { reboot_kind_names, _REBOOT_KIND_MAX, -EBADMSG };

static const JsonField reboot_body_fields[] = {
        { "deadlineMs", JSON_FIELD_U64, offsetof(RebootsBody, deadline_ms) },
        { "kind", JSON_FIELD_WORD, offsetof(RebootsBody, kind), .words = &kind_words },
        { "machines", JSON_FIELD_OTHER, offsetof(RebootsBody, machines), .read = read_machines },
        { "returnMs", JSON_FIELD_U64, offsetof(RebootsBody, return_ms) },
        { "slots", JSON_FIELD_U64, offsetof(RebootsBody, slots) },
        { "zone", JSON_FIELD_CHARS, offsetof(RebootsBody, zone), .size = SPREAD_KEY_MAX + 1 },
};

static void reboots_body_done(RebootsBody *body) {
        names_done(&body->machines);
}

static int reboots_body_read(const Request *request, RebootsBody *ret, Error *err) {
        TRY(json_read_record(request->http->body, request->http->body_size, JSON_FIELDS(reboot_body_fields),
                             ret, sizeof(*ret), err));
        if (ret->deadline_ms > REBOOT_SPAN_MAX_MS || ret->return_ms > REBOOT_SPAN_MAX_MS)
                return error_set(err, -EINVAL, "deadlineMs, returnMs: expected at most 365 days");
        if (ret->slots > SLOTS_MAX)
                return error_set(err, -EINVAL, "slots: expected at most %d", SLOTS_MAX);
        return 0;
}

/* Return whether the machine may not be queued; then set the reason. */
static bool reboots_refuses(const Request *request, const ClusterMachine *m, const RebootsBody *body,
                            Error *ret) {
        const Cluster *c = request_cluster(request);
        const char *name = cluster_machine_name(m);
        Error why = {};

        if (request_is_below(request, KV_LEVEL_UPDATES, "planned reboots require", ret))
                return true;
        if (!LIST_EMPTY(&m->unreadable))
                error_set(ret, 409, "%s: %s", name, CLUSTER_UNREADABLE);
        else if (m->member.agentless)
                error_set(ret, 409, "%s has no agent (Agent=no), which calls logind", name);
        else if (presence_is_down(m->presence))
                error_set(ret, 409, "%s is %s; repeat the request when it is up", name,
                          m->presence == PRESENCE_LOST ? "lost" : "shut down");
        else if (cluster_machine_is_leaving(m))
                error_set(ret, 409,
                          "%s is leaving the cluster; to keep it, run on it: fleetctl leave --cancel", name);
        else if (m->reboot && m->reboot->state == REBOOT_FAILED) {
                verdict_print(&m->reboot->why, &why);
                error_set(ret, 409,
                          "the queue has stopped at %s: %s; continue it with fleetctl reboot --resume, or "
                          "end it "
                          "with fleetctl reboot --cancel",
                          name, why.message);
        } else if (body->kind == REBOOT_SOFT && !(m->facts && m->facts->soft_reboot))
                error_set(ret, 409,
                          "%s cannot be rebooted with --soft: its systemd is older than version 254; for a "
                          "full reboot: fleetctl reboot %s",
                          name, name);
        else if (body->deadline_ms == 0 && drain_left(m) > 0 && !drain_has_others(c, m))
                error_set(ret, 409,
                          "no other machine can run units: its units would keep %s from the reboot; to stop "
                          "them: fleetctl reboot %s --deadline=5min",
                          name, name);
        else
                return false;
        return true;
}

/* Set the change that gives the drain of a planned reboot a deadline. Return 1, or 0 if nothing changes. */
static int reboots_limit(const Cluster *c, const ClusterMachine *m, uint64_t deadline_ms, RebootChange *ret,
                         RebootRecord *record) {
        bool drains = m->reboot->state == REBOOT_DRAINING;

        if (deadline_ms == 0 || (!drains && m->reboot->state != REBOOT_QUEUED))
                return 0;
        *record = *m->reboot;
        record->deadline_ms = deadline_ms;
        *ret = (RebootChange) { .machine = m,
                                .record = record,
                                .maintenance = drains ? REBOOT_LIMITS : REBOOT_KEEPS,
                                .drain_until_ms = c->now_ms + deadline_ms,
                                .reason = "its reboot stops the units that are left at a deadline" };
        return 1;
}

/* Set the change that queues a machine. Return 1, 0 if it is queued already, or -EINVAL with the reason. */
static int reboots_queue(Request *request, const RebootsBody *body, size_t i, RebootChange *ret,
                         RebootRecord *record, Error *err) {
        const Cluster *c = request_cluster(request);
        const ClusterMachine *m = cluster_machine(c, body->machines.items[i]);
        KvState store;

        if (!m || cluster_machine_is_removed(m))
                return error_set(err, -EINVAL, "machine %s does not exist", body->machines.items[i]);
        if (reboots_refuses(request, m, body, err))
                return -EINVAL;
        if (m->reboot)
                return reboots_limit(c, m, body->deadline_ms, ret, record);
        *record = (RebootRecord) { .kind = body->kind,
                                   .state = REBOOT_QUEUED,
                                   .deadline_ms = body->deadline_ms,
                                   .return_ms = body->return_ms,
                                   .seq = c->index * REBOOTS_MAX + i,
                                   .since_ms = c->now_ms,
                                   .slots = body->slots };
        snprintf(record->by, sizeof(record->by), "%s", request_user(request));
        memcpy(record->zone, body->zone, sizeof(record->zone));
        kv_state(request->api->host->store, &store);
        if (store.lineage != 0)
                hex64_print(store.lineage, record->lineage);
        *ret = (RebootChange) { .machine = m, .record = record, .reason = "queued for a reboot" };
        return 1;
}

/* Return whether a machine has the key, in which case its zones are known. */
static bool reboots_has_zones(const Request *request, const RebootsBody *body) {
        const Cluster *c = request_cluster(request);
        bool has = !body->zone[0];

        for (size_t i = 0; i < body->machines.n && !has; i++) {
                const ClusterMachine *m = cluster_machine(c, body->machines.items[i]);

                has = m && pairs_get(&m->metadata, body->zone);
        }
        return has;
}

static unsigned reboots_post_handle(Request *request, Error *err) {
        _cleanup_(reboots_body_done) RebootsBody body = {};
        _cleanup_free_ RebootChange *changes = NULL;
        _cleanup_free_ RebootRecord *records = NULL;
        size_t n = 0;
        int r;

        r = reboots_body_read(request, &body, err);
        if (r < 0)
                return request_body_refused(r, err);
        changes = NEW0(RebootChange, body.machines.n);
        records = NEW0(RebootRecord, body.machines.n);
        if (!changes || !records)
                return error_set(err, 500, "out of memory");
        for (size_t i = 0; i < body.machines.n; i++) {
                r = reboots_queue(request, &body, i, &changes[n], &records[n], err);
                if (r < 0)
                        return 409;
                n += (size_t) r;
        }
        if (!reboots_has_zones(request, &body))
                return error_set(err, 409, "no machine has metadata %s: set it on each host first",
                                 body.zone);
        return reboots_send(request, changes, n);
}

/* A host that is about to reboot, or down, continues: only its return shows what it does. */
static bool reboots_may_cancel(const ClusterMachine *m) {
        return m->reboot && !cluster_machine_is_rebooting(m);
}

/* End the reboots of all machines for which 'ends' is true. */
static unsigned reboots_end(Request *request, bool (*ends)(const ClusterMachine *m), const char *reason,
                            Error *err) {
        const Cluster *c = request_cluster(request);
        _cleanup_free_ RebootChange *changes = NEW0(RebootChange, REBOOTS_MAX);
        size_t n = 0;

        if (!changes)
                return error_set(err, 500, "out of memory");
        for (const ClusterMachine *m = c->machines; m && n < REBOOTS_MAX; m = m->hh.next)
                if (ends(m))
                        changes[n++] = (RebootChange) { .machine = m,
                                                        .maintenance = REBOOT_RELEASES,
                                                        .reason = reason };
        return reboots_send(request, changes, n);
}

static unsigned reboots_cancel_handle(Request *request, Error *err) {
        return reboots_end(request, reboots_may_cancel, "reboot cancelled", err);
}

static bool reboots_has_failed(const ClusterMachine *m) {
        return m->reboot && m->reboot->state == REBOOT_FAILED;
}

static unsigned reboots_resume_handle(Request *request, Error *err) {
        const Cluster *c = request_cluster(request);

        for (const ClusterMachine *m = c->machines; m; m = m->hh.next)
                if (reboots_has_failed(m) && m->presence != PRESENCE_UP)
                        return error_set(err, 409,
                                         "%s is %s; start it before, or end the queue with fleetctl reboot "
                                         "--cancel",
                                         cluster_machine_name(m), presence_to_string(m->presence));
        return reboots_end(request, reboots_has_failed, "reboot resumed: the queue goes on", err);
}

static const Route reboot_routes[] = {
        { ROUTE_FLEET, "GET", "/fleet/v1/reboots", RIGHT_UNITS_SEE, AT_VIEW, reboots_list_handle },
        { ROUTE_FLEET, "POST", "/fleet/v1/reboots", RIGHT_ADMINISTER, AT_VIEW, reboots_post_handle },
        { ROUTE_FLEET, "DELETE", "/fleet/v1/reboots", RIGHT_ADMINISTER, AT_VIEW, reboots_cancel_handle },
        { ROUTE_FLEET, "POST", "/fleet/v1/reboots/resume", RIGHT_ADMINISTER, AT_VIEW, reboots_resume_handle },
};

/* The hosts at which the queue has stopped, or waits. */
static bool reboots_find_stuck(ProblemSearch *s, const ProblemRow *row) {
        _cleanup_(reboot_queue_done) RebootQueue q;
        int r = reboot_queue_read(s->cluster, &s->state, s->brake.until_ms > 0, &q);

        for (size_t i = 0; r >= 0 && i < q.n; i++) {
                const RebootRecord *record = q.machines[i]->reboot;
                const ClusterAssignment *unit = NULL;
                Error why = {};

                r = reboot_is_stuck(&q, i, &unit, &why);
                if (r <= 0)
                        continue;
                s->subject = cluster_machine_label(q.machines[i], s->place);
                if (record->state == REBOOT_FAILED) {
                        s->next = "reboot --resume";
                        (void) problems_add(s, row,
                                            "the queue of reboots has stopped: %s; to end it instead: "
                                            "fleetctl reboot --cancel",
                                            why.message);
                } else if (unit) {
                        s->next = why.code == DRAINED_UNIT_BLOCKED ? "" : "reboot --deadline=5min ";
                        (void) problems_add(s, row, "the queue of reboots waits for its drain: %s",
                                            why.message);
                } else {
                        s->next = "reboot --status";
                        (void) problems_add(s, row, "the queue of reboots waits: %s", why.message);
                }
        }
        s->list.error = s->list.error ?: MIN(r, 0);
        return false;
}

static const ProblemRow reboot_problems[] = {
        { "reboot", SEVERITY_WARNING, RIGHT_UNITS_SEE, ABOUT_CLUSTER, reboots_find_stuck },
        {},
};

static const Controller reboot_controller = { "reboots", reboot_control };

const Component reboot_component = { "reboot",
                                     rebooting_open,
                                     rebooting_close,
                                     rebooting_state_changed,
                                     .systemd_ready = rebooting_systemd_ready,
                                     .routes = reboot_routes,
                                     .n_routes = ELEMENTS(reboot_routes),
                                     .write_cluster = reboots_write,
                                     .controller = &reboot_controller,
                                     .problems = reboot_problems };
