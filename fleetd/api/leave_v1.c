/* /fleet/v1/cluster/leave: this host is to leave the cluster. POST begins, DELETE cancels, GET reports the
 * step; fleetd/sessions/leaving.h has all steps. */

#include "fleetd/api/fleet_v1.h"
#include "fleetd/api/forward.h"
#include "fleetd/engine/explain.h"
#include "fleetd/sessions/leaving.h"
#include "fleetd/registry/unit_order.h"
#include "units/json.h"

static const ClusterMachine *leave_self(const Request *request) {
        return cluster_machine(request_cluster(request), request_machine(request));
}

/* Set which units the unit directory of this host has. */
static bool leave_owns_units(const Request *request, const Cluster *c, const ClusterMachine *self,
                             Error *ret) {
        return leaving_owns_units(c, self, request->api->host->directory, ret);
}

/* -- GET -- */

void leave_write_waiting(Text *t, const SchedulerView *view, const ClusterMachine *self) {
        _cleanup_names_ Names names = {};

        if (engine_blocked_units(view, self, &names) < 0)
                t->error = -ENOMEM;
        json_open(t, "waiting", '[');
        for (size_t i = 0; i < names.n; i++)
                json_add_string_always(t, NULL, names.items[i]);
        json_close(t, ']');
}

/* Set why the ordinary unit that is the first by name is still here, and return its name; NULL: none is.
 * *ret_kind: see engine_explain_unit().
 * *ret_view: of the units that are here, to be freed; or NULL. */
static const char *leave_unit(Request *request, const Cluster *c, const ClusterMachine *self, size_t *ret_n,
                              SchedulerView **ret_view, const char **ret_kind, Error *ret_why) {
        const char *name = leaving_unit(self, ret_n);
        const ClusterUnit *u = name ? cluster_unit(c, name) : NULL;

        if (u && scheduler_view_new(c, c->now_ms, ret_view) >= 0)
                *ret_kind = request_explain(request, *ret_view, u, ret_why);
        return name;
}

unsigned leave_get_handle(Request *request, Error *err) {
        const Cluster *c = request_cluster(request);
        const ClusterMachine *self = leave_self(request), *other = NULL;
        LeavingStep step = LEAVING_NOT;
        _cleanup_text_ Text t = {};
        SchedulerView *view = NULL;
        const char *unit = NULL, *kind = NULL;
        size_t n_units = 0;
        char id[HEX64_SIZE];
        KvState state;
        Error why = {};

        kv_state(request->api->host->store, &state);
        if (!registry_ready(request->api->host->registry) && state.cluster_id != 0)
                return error_set(err, 503, "fleetd is reading the state of the cluster");
        if (self)
                step = leaving_step(c, &state, self, &other);
        /* An attached host sees itself only: a replica has the reason why no other host takes a unit. */
        if (step == LEAVING_UNITS && state.attached && forward_has_replica(request->api)) {
                forward_request(request);
                return 0;
        }
        json_open(&t, NULL, '{');
        json_add_string(&t, "clusterId", hex64_print(state.cluster_id, id));
        json_add_string(&t, "machine", request_machine(request));
        json_add_string(&t, "name", request_host(request));
        if (other)
                json_add_string(&t, "other", cluster_machine_name(other));
        if (step == LEAVING_UNITS)
                unit = leave_unit(request, c, self, &n_units, &view, &kind, &why);
        else if (self && (step == LEAVING_OWNER || step == LEAVING_NOT))
                (void) leave_owns_units(request, c, self, &why);
        json_add_string(&t, "reason", why.message);
        json_add_string(&t, "reasonKind", kind);
        json_add_string(&t, "step", leaving_step_to_string(step));
        json_add_string(&t, "unit", unit);
        if (unit)
                json_add_u64(&t, "units", n_units);
        if (view)
                leave_write_waiting(&t, view, self);
        scheduler_view_free(view);
        json_close(&t, '}');
        return request_answer_json(request, 200, &t);
}

/* -- POST -- */

#define LEAVE_ALONE                                                                                \
        ", or give up its units and keys: systemctl stop fleetd; fleetd --reset; systemctl start " \
        "fleetd"

/* Return whether another host can continue the cluster. */
static bool leave_has_others(const Cluster *c, const ClusterMachine *self) {
        for (const ClusterMachine *m = c->machines; m; m = m->hh.next)
                if (m != self && m->member.raft_id != 0 && m->presence == PRESENCE_UP &&
                    !cluster_machine_is_leaving(m))
                        return true;
        return false;
}

/* Return whether no other host is a member, also one that is lost. */
static bool leave_is_alone(const Cluster *c, const ClusterMachine *self) {
        const ClusterMachine *m = LIST_FIRST(&c->members);

        return !m || (m == self && !LIST_NEXT(m, of_members));
}

static bool leave_is_braked(const Request *request, const Cluster *c, Error *ret) {
        EngineBrake brake = {};

        if (engine_brake_state(c, request_brake_ms(request), &brake) < 0)
                error_set(ret, 409, "out of memory: try again later");
        else if (brake.until_ms > 0)
                error_set(ret, 409,
                          "%zu of %zu machines were lost within a minute, and nothing moves before %llu s "
                          "from now (BrakeSec=): try again then",
                          brake.n_lost, brake.n_total,
                          (unsigned long long) (brake.until_ms - c->now_ms) / 1000 + 1);
        else
                return false;
        return true;
}

static bool leave_is_refused(const Request *request, const Cluster *c, const ClusterMachine *self,
                             Error *ret) {
        const char *name = request->api->settings->name;
        KvState state;

        kv_state(request->api->host->store, &state);
        if (state.removed || (!state.ready && state.cluster_id == 0 && state.problem[0]))
                error_set(ret, 409, "%s", state.problem);
        else if (!state.ready || state.stopped)
                error_set(ret, 409, "this host follows no leader, and cannot leave: fleetctl status");
        else if (state.level < KV_LEVEL_IDENTITY)
                error_set(ret, 409,
                          "leave requires feature level %d, and the level is %u: fleetctl cluster level %d",
                          KV_LEVEL_IDENTITY, state.level, KV_LEVEL_IDENTITY);
        else if (c->adopting)
                error_set(ret, 409,
                          "the cluster waits for its hosts to report their units; fleetctl cluster");
        else if (!self)
                error_set(ret, 409,
                          "%s is not in the list of machines yet: try again when fleetctl list-machines has "
                          "it",
                          name);
        else if (!LIST_EMPTY(&self->unreadable))
                error_set(ret, 409, "%s: %s", name, CLUSTER_UNREADABLE);
        /* An attached host has no vote, and sees itself only: the leader decides about the brake. */
        else if (!state.attached && !leave_has_others(c, self))
                error_set(ret, 409,
                          "%s is the last voter: no other host is up that stays in the cluster; let another "
                          "one join first (fleetctl token)%s",
                          name, leave_is_alone(c, self) ? LEAVE_ALONE : "");
        else if (!state.attached && leave_is_braked(request, c, ret))
                return true;
        else
                return leave_owns_units(request, c, self, ret);
        return true;
}

unsigned leave_post_handle(Request *request, Error *err) {
        const Cluster *c = request_cluster(request);
        const ClusterMachine *self = leave_self(request);
        MaintenanceRecord leave = { .purpose = CLUSTER_FOR_LEAVE,
                                    .mode = MAINTENANCE_DRAINING,
                                    .since_ms = loop_wall_ms(request->api->loop) };

        if (self && cluster_machine_is_leaving(self))
                return request_answer(request, 204, NULL, NULL, "", 0);
        if (leave_is_refused(request, c, self, err))
                return 409;
        snprintf(leave.by, sizeof(leave.by), "%s", request_user(request));
        return change_sent(request, "the maintenance of the machine",
                           registry_maintain(request_registry(request), 0, self, &leave,
                                             "begun: its units move away", change_on_done, request));
}

/* -- DELETE -- */

unsigned leave_delete_handle(Request *request, Error *err) {
        const ClusterMachine *self = leave_self(request);

        if (self && cluster_machine_is_leaving(self))
                return change_sent(request, "the maintenance of the machine",
                                   registry_end_maintenance(request_registry(request), self,
                                                            request_user(request), "cancelled",
                                                            change_on_done, request));
        return error_set(err, 404, "this host is not leaving its cluster");
}
