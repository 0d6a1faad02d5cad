/* GET /fleet/v1/rebalance: moves that would balance the cluster. It changes nothing. */

#include "base/parse.h"
#include "fleetd/api/fleet_v1.h"
#include "fleetd/features/rebalance/rebalance.h"
#include "fleetd/host/component.h"

static int rebalance_on_step(void *self, Text *t, Error *err) {
        RebalanceMove move;
        int r = rebalance_step(self, &move, err);

        if (r < 0 || !move.unit)
                return r;
        json_open(t, NULL, '{');
        json_add_string(t, "from", cluster_machine_name(move.from));
        json_add_string(t, "fromID", move.from->id);
        verdict_add_message(t, "reason", &move.reason);
        json_add_string(t, "to", cluster_machine_name(move.to));
        json_add_string(t, "toID", move.to->id);
        json_add_string(t, "unit", move.unit->name);
        json_close(t, '}');
        return r;
}

static const PlanType rebalance_type = { "moves", rebalance_renew, rebalance_on_step, rebalance_free };

static int rebalance_read_parameters(const Request *request, Names *patterns, uint64_t *max, Error *err) {
        size_t n = 0;

        for (size_t i = 0; i < request->parameters.n; i++) {
                const HttpParameter *p = &request->parameters.items[i];

                if (streq(p->name, "unit")) {
                        TRY(parameter_check_pattern(p, &n, err));
                        TRY(names_add(patterns, p->value, strlen(p->value)));
                } else if (!streq(p->name, "moves"))
                        return error_set(err, -EINVAL, "%.100s: unknown parameter; expected moves, unit",
                                         p->name);
                else if (parse_u64(p->value, max) < 0 || *max < 1 || *max > REBALANCE_MOVES_MAX)
                        return error_set(err, -EINVAL, "moves=%.100s: expected a number from 1 to %d",
                                         p->value, REBALANCE_MOVES_MAX);
        }
        return 0;
}

static unsigned rebalance_handle(Request *request, Error *err) {
        _cleanup_names_ Names patterns = {};
        uint64_t max = REBALANCE_MOVES_MAX;
        Rebalance *rebalance = NULL;
        KvState state;
        int r;

        kv_state(request->api->host->store, &state);
        if (request_is_below(request, KV_LEVEL_SCHEDULING, "rebalance requires", err))
                return 409;
        if (state.leader_id == 0)
                return error_set(err, 409, "no leader, and nothing is moved; fleetctl status");
        if (rebalance_is_refused(request_cluster(request), request_is_braked(request), err))
                return 409;
        r = rebalance_read_parameters(request, &patterns, &max, err);
        if (r >= 0)
                r = rebalance_new(&patterns, max, &rebalance);
        return r < 0 ? request_refused(r, err) : plan_of(request, &rebalance_type, rebalance);
}

static const Route rebalance_routes[] = {
        { ROUTE_FLEET, "GET", "/fleet/v1/rebalance", RIGHT_UNITS_SEE, AT_VIEW, rebalance_handle },
};

const Component rebalance_component = { "rebalance", .routes = rebalance_routes,
                                        .n_routes = ELEMENTS(rebalance_routes) };
