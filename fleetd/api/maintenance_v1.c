/* /fleet/v1/machines/ID/maintenance: PUT cordons or drains a machine, DELETE ends that, GET reports the state
 * and the units that are still to leave. fleetd/engine/drain.h has all steps. */

#include "fleetd/api/fleet_v1.h"
#include "fleetd/engine/drain.h"
#include "fleetd/engine/explain.h"
#include "units/json_record.h"

enum { UNITS_MAX = 1000 }; /* units in an answer */

#define DEADLINE_MAX_MS ((uint64_t) 365 * 86400000)

/* Return the machine of the path; NULL: there is none, for status 404. */
static const ClusterMachine *maintenance_machine(const Request *request, Error *err) {
        size_t size = strcspn(request->rest, "/");
        char id[MACHINE_ID_SIZE] = "";
        const ClusterMachine *m;

        if (size < sizeof(id))
                memcpy(id, request->rest, size);
        m = cluster_machine(request_cluster(request), id);
        if (m && !cluster_machine_is_removed(m))
                return m;
        error_set(err, 404, "machine does not exist");
        return NULL;
}

/* -- GET -- */

/* 'held': drain_held(). */
static void maintenance_write_unit(Text *t, const SchedulerView *view, const char *held,
                                   const ClusterAssignment *a) {
        const ClusterMachine *to;
        DrainedUnit state;
        Error why;

        state = engine_explain_drain(view, a->of, a->machine, &to, &why);
        if (held && state == DRAINED_UNIT_QUEUED && cluster_machine_is_draining(a->machine)) {
                error_set(&why, -EAGAIN, "%s", held);
                state = DRAINED_UNIT_WAITS;
        }
        json_open(t, NULL, '{');
        json_add_bool(t, "blocked", state == DRAINED_UNIT_WAITS && why.code == DRAINED_UNIT_BLOCKED);
        if (why.code == DRAINED_UNIT_BOUND || why.code == DRAINED_UNIT_STAYS)
                json_add_string(
                        t, "code",
                        verdict_rows[why.code == DRAINED_UNIT_BOUND ? VERDICT_BOUND : VERDICT_DATA_THERE]
                                .name);
        json_add_string(t, "machine", to ? cluster_machine_name(to) : NULL);
        json_add_string(t, "name", a->unit);
        json_add_string(t, "reason", why.message);
        json_add_string(t, "state", drained_unit_to_string(state));
        json_close(t, '}');
}

static int compare_units(const void *a, const void *b) {
        const ClusterAssignment *const *p = a, *const *q = b;

        return strcmp((*p)->unit, (*q)->unit);
}

/* Write a unit beside which the drain ends. */
static void maintenance_write_staying(Text *t, const SchedulerView *view, const ClusterAssignment *a) {
        char text[DATA_TEXT_SIZE];
        Verdict why;

        verdict_set(&why, VERDICT_DATA_THERE, "%s",
                    cluster_data_text(scheduler_view_cluster(view), cluster_data_holder(a->of, a->machine),
                                      text));
        json_open(t, NULL, '{');
        json_add_string(t, "code", verdict_name(&why));
        json_add_string(t, "name", a->unit);
        verdict_add_message(t, "reason", &why);
        json_close(t, '}');
}

/* Write the ordinary units that are on the machine, by name, up to the limit of work; then those that stay
 * there with their data. */
static void maintenance_write_units(Text *t, const SchedulerView *view, const char *held,
                                    const ClusterMachine *m) {
        _cleanup_free_ const ClusterAssignment **units = NEW0(const ClusterAssignment *,
                                                              HASH_COUNT(m->assignments) + 1);
        size_t n = 0, n_staying = 0, n_left = 0, list;

        if (!units)
                t->error = -ENOMEM;
        for (const ClusterAssignment *a = m->assignments; units && a; a = a->hh.next)
                if (drain_awaits(a) || drain_stays(a))
                        units[n++] = a;
        if (units)
                qsort(units, n, sizeof(*units), compare_units);
        list = json_open_list(t, "stays");
        for (size_t i = 0; i < n; i++)
                if (!drain_awaits(units[i]) && n_staying++ < UNITS_MAX)
                        maintenance_write_staying(t, view, units[i]);
        json_close_list(t, list);
        json_open(t, "units", '[');
        for (size_t i = 0; i < n; i++)
                if (drain_awaits(units[i]) && n_left++ < UNITS_MAX &&
                    scheduler_view_work(view) <= EXPLAIN_WORK_MAX)
                        maintenance_write_unit(t, view, held, units[i]);
        json_close(t, ']');
        json_add_u64(t, "unitsLeft", n_left);
}

unsigned maintenance_get_handle(Request *request, Error *err) {
        const Cluster *c = request_cluster(request);
        const ClusterMachine *m = maintenance_machine(request, err);
        const MaintenanceRecord *now;
        SchedulerView *view = NULL;
        _cleanup_text_ Text t = {};

        if (!m)
                return 404;
        if (scheduler_view_new(c, c->now_ms, &view) < 0)
                return error_set(err, 500, "out of memory");
        now = m->maintenance;
        json_open(&t, NULL, '{');
        if (now) {
                json_add_string(&t, "by", now->by);
                if (now->deadline_ms > 0)
                        json_add_u64(&t, "deadlineMs",
                                     now->deadline_ms > c->now_ms ? now->deadline_ms - c->now_ms : 0);
                json_add_bool(&t, "force", now->force);
                json_add_string(&t, "for", now->purpose);
        }
        json_add_string(&t, "id", m->id);
        json_add_string(&t, "mode", now ? maintenance_mode_to_string(now->mode) : "none");
        json_add_string(&t, "name", cluster_machine_name(m));
        json_add_string(&t, "presence", presence_to_string(m->presence));
        if (now) {
                json_add_string(&t, "reason", now->why);
                json_add_u64(&t, "since", now->since_ms);
        }
        maintenance_write_units(&t, view, drain_held(c, request_is_braked(request)), m);
        json_close(&t, '}');
        scheduler_view_free(view);
        return request_answer_json(request, 200, &t);
}

/* Write how many units of a machine wait, with the first of them by name and its reason. */
static void maintenance_write_waiting(Text *t, const SchedulerView *view, const ClusterMachine *m) {
        const ClusterAssignment *first;
        Error why = {};
        size_t n;

        first = engine_first_waiting(view, m, &n, &why);
        if (!first)
                return;
        json_add_string(t, "unit", first->unit);
        if (why.code == DRAINED_UNIT_BLOCKED)
                json_add_bool(t, "unitBlocked", true);
        json_add_u64(t, "waiting", n);
        json_add_string(t, "why", why.message);
}

static bool maintenance_is_listed(const MaintenanceRecord *m) {
        return m && !m->purpose[0];
}

void maintenance_write(Text *t, const Cluster *c) {
        _cleanup_free_ ClusterMachine **machines = NULL;
        SchedulerView *view = NULL; /* it costs a pass over all units: made for the first drain */
        size_t list, n = 0;

        machines = cluster_machines_sorted(c, &n);
        if (!machines)
                t->error = -ENOMEM;
        list = json_open_list(t, "maintenance");
        for (size_t i = 0; machines && i < n; i++) {
                const MaintenanceRecord *m = machines[i]->maintenance;

                if (!maintenance_is_listed(m))
                        continue;
                if (m->mode == MAINTENANCE_DRAINING && !view && scheduler_view_new(c, c->now_ms, &view) < 0) {
                        t->error = -ENOMEM;
                        break;
                }
                json_open(t, NULL, '{');
                if (m->deadline_ms > 0 && m->mode == MAINTENANCE_DRAINING)
                        json_add_u64(t, "deadlineMs",
                                     m->deadline_ms > c->now_ms ? m->deadline_ms - c->now_ms : 0);
                json_add_string(t, "mode", maintenance_mode_to_string(m->mode));
                json_add_string(t, "name", cluster_machine_name(machines[i]));
                json_add_string(t, "reason", m->why);
                if (m->mode == MAINTENANCE_DRAINING)
                        maintenance_write_waiting(t, view, machines[i]);
                json_close(t, '}');
        }
        json_close_list(t, list);
        scheduler_view_free(view);
}

/* -- PUT -- */

typedef struct MaintenanceBody {
        uint64_t deadline_ms; /* from now on; 0: not given */
        bool force;
        char mode[16];
        char *reason; /* owned */
} MaintenanceBody;

static const JsonField maintenance_body_fields[] = {
        { "deadlineMs", JSON_FIELD_U64, offsetof(MaintenanceBody, deadline_ms) },
        { "force", JSON_FIELD_BOOL, offsetof(MaintenanceBody, force) },
        { "mode", JSON_FIELD_CHARS, offsetof(MaintenanceBody, mode), true, .size = 16 },
        { "reason", JSON_FIELD_OWNED_OR_NULL, offsetof(MaintenanceBody, reason) },
};

static void maintenance_body_done(MaintenanceBody *body) {
        json_free_fields(JSON_FIELDS(maintenance_body_fields), body);
}

static int maintenance_body_check(const MaintenanceBody *body, MaintenanceMode *ret, Error *err) {
        *ret = maintenance_mode_from_string(body->mode);
        if (*ret != MAINTENANCE_CORDONED && *ret != MAINTENANCE_DRAINING)
                return error_set(err, -EINVAL, "mode: expected cordoned or draining, not %s", body->mode);
        if (*ret == MAINTENANCE_CORDONED && (body->deadline_ms > 0 || body->force))
                return error_set(err, -EINVAL, "deadlineMs and force are for the mode draining");
        if (body->deadline_ms > DEADLINE_MAX_MS)
                return error_set(err, -EINVAL, "deadlineMs: expected at most 365 days");
        if (body->reason && (strlen(body->reason) >= RECORDED_WHY_SIZE || strchr(body->reason, '\n')))
                return error_set(err, -EINVAL, "reason: expected one line of at most %d bytes",
                                 RECORDED_WHY_SIZE - 1);
        return 0;
}

/* Return whether the maintenance of the machine may not change; then set the reason. */
static bool maintenance_is_refused(const Request *request, const ClusterMachine *m, Error *ret) {
        const char *name = cluster_machine_name(m);

        if (request_is_below(request, KV_LEVEL_MAINTENANCE, "cordon and drain require", ret))
                return true;
        if (!LIST_EMPTY(&m->unreadable))
                error_set(ret, 409, "%s: %s", name, CLUSTER_UNREADABLE);
        else if (m->maintenance && streq(m->maintenance->purpose, CLUSTER_FOR_LEAVE))
                error_set(ret, 409,
                          "%s is leaving the cluster; to keep it, run on it: fleetctl leave --cancel", name);
        else
                return false;
        return true;
}

static bool drain_is_refused(const Cluster *c, const ClusterMachine *m, uint64_t deadline_ms, Error *ret) {
        const char *name = cluster_machine_name(m);

        if (presence_is_down(m->presence))
                error_set(ret, 409,
                          "%s %s: its units move without a drain; to keep other units away from it when it "
                          "returns: fleetctl cordon %s",
                          name, m->presence == PRESENCE_LOST ? "is lost" : "is shut down", name);
        else if (deadline_ms == 0 && drain_left(m) > 0 && !drain_has_others(c, m))
                error_set(ret, 409,
                          "no other machine can run units: its units would stay; to stop them: fleetctl "
                          "drain %s --deadline=5min",
                          name);
        else
                return false;
        return true;
}

/* Return whether the host reboots or shuts down, and the record is given back afterwards. */
static bool maintenance_is_given_back(const MaintenanceRecord *now) {
        return now && (streq(now->purpose, CLUSTER_FOR_REBOOT) || streq(now->purpose, CLUSTER_FOR_SHUTDOWN));
}

/* Set the record that follows: another drain takes over neither deadline nor force of the one before. Return
 * false if nothing changes. */
static bool maintenance_next(const Request *request, const ClusterMachine *m, const MaintenanceBody *body,
                             MaintenanceMode mode, MaintenanceRecord *ret) {
        const Cluster *c = request_cluster(request);
        const MaintenanceRecord *now = m->maintenance;
        bool begins = !now || (mode == MAINTENANCE_DRAINING && now->mode != MAINTENANCE_DRAINING);

        *ret = now ? *now : (MaintenanceRecord) {};
        if (maintenance_is_given_back(now)) {
                if (!now->before[0] || mode == MAINTENANCE_DRAINING)
                        snprintf(ret->before, sizeof(ret->before), "%s", maintenance_mode_to_string(mode));
        } else {
                if (now && now->mode == MAINTENANCE_DRAINED && drain_left(m) == 0)
                        return false;
                memset(ret->purpose, 0, sizeof(ret->purpose)); /* it is an operator's now */
                memset(ret->before, 0, sizeof(ret->before));
        }
        if (begins) {
                ret->since_ms = loop_wall_ms(request->api->loop);
                ret->deadline_ms = 0;
                ret->force = false;
        }
        if (!now || (mode == MAINTENANCE_DRAINING && (!ret->purpose[0] || drain_left(m) > 0)))
                ret->mode = mode;
        if (body->deadline_ms > 0)
                ret->deadline_ms = c->now_ms + body->deadline_ms;
        ret->force |= body->force;
        if (body->reason)
                snprintf(ret->why, sizeof(ret->why), "%s", body->reason);
        if (now && memcmp(ret, now, sizeof(*ret)) == 0)
                return false;
        snprintf(ret->by, sizeof(ret->by), "%s", request_user(request));
        return true;
}

static unsigned maintenance_put(Request *request, const ClusterMachine *m, const MaintenanceBody *body,
                                MaintenanceMode mode, Error *err) {
        const Cluster *c = request_cluster(request);
        _cleanup_text_ Text reason = {};
        MaintenanceRecord next;

        if (!maintenance_next(request, m, body, mode, &next))
                return request_answer(request, 204, NULL, NULL, "", 0);
        if (maintenance_is_refused(request, m, err) ||
            (mode == MAINTENANCE_DRAINING && drain_is_refused(c, m, next.deadline_ms, err)))
                return 409;
        if (next.purpose[0])
                text_printf(&reason, "%s after its %s", next.before, next.purpose);
        else
                text_append(&reason, maintenance_mode_to_string(next.mode));
        if (next.mode == MAINTENANCE_DRAINING && !next.purpose[0])
                text_append(&reason, ": its units move away");
        if (body->deadline_ms > 0)
                text_printf(&reason, "; deadline after %llu s",
                            (unsigned long long) body->deadline_ms / 1000);
        if (body->force)
                text_append(&reason, "; also units with Move=no");
        if (next.why[0])
                text_printf(&reason, ": %s", next.why);
        return change_sent(request, "the maintenance of the machine",
                           reason.error < 0 ? reason.error :
                                              registry_maintain(request_registry(request), 0, m, &next,
                                                                reason.chars, change_on_decided, request));
}

unsigned maintenance_put_handle(Request *request, Error *err) {
        _cleanup_(maintenance_body_done) MaintenanceBody body = {};
        const ClusterMachine *m = maintenance_machine(request, err);
        MaintenanceMode mode;
        int r;

        if (!m)
                return 404;
        r = json_read_record(request->http->body, request->http->body_size,
                             JSON_FIELDS(maintenance_body_fields), &body, sizeof(body), err);
        if (r >= 0)
                r = maintenance_body_check(&body, &mode, err);
        if (r < 0)
                return request_body_refused(r, err);
        return maintenance_put(request, m, &body, mode, err);
}

/* -- DELETE -- */

unsigned maintenance_delete_handle(Request *request, Error *err) {
        const ClusterMachine *m = maintenance_machine(request, err);

        if (!m)
                return 404;
        if (!m->maintenance && m->maintenance_index == 0)
                return request_answer(request, 204, NULL, NULL, "", 0);
        if (maintenance_is_refused(request, m, err))
                return 409;
        return change_sent(request, "the maintenance of the machine",
                           registry_end_maintenance(request_registry(request), m, request_user(request),
                                                    "uncordoned", change_on_decided, request));
}
