#include "fleetd/registry/endpoints.h"

#include "base/log.h"
#include "fleetd/registry/kinds.h"
#include "fleetd/registry/proposal_rights.h"
#include "fleetd/registry/registry.h"
#include "fleetd/registry/transaction.h"

enum {
        LOOK_MS = 10000,    /* between two rounds, of steps each */
        LOOK_STEP_MS = 100, /* with about */
        LOOK_ENDPOINTS = 700,
        UNFIT_MS = 60000, /* an honest host changes its endpoints within 35 s: 700, at their pace */
};

/* -- Pace -- */

uint64_t endpoints_wait_ms(const Cluster *c, const char *machine_id, uint64_t n) {
        ClusterMachine *m = cluster_machine(c, machine_id);

        assert(n > 0 && n <= ENDPOINTS_BURST);
        return m ? pace_wait_ms(&m->registered, ENDPOINTS_PER_SECOND, ENDPOINTS_BURST - (n - 1), c->now_ms) :
                   0;
}

void endpoints_take(const Cluster *c, const char *machine_id, uint64_t n) {
        ClusterMachine *m = cluster_machine(c, machine_id);

        if (m)
                pace_take(&m->registered, n);
}

/* -- One endpoint -- */

static bool ports_are_those_of(const ServicePolicy *text, const EndpointRecord *x) {
        for (size_t i = 0; i < x->n_ports && i < text->n_ports; i++) {
                const ServicePort *port = &x->ports[i], *named = &text->ports[i];

                if (!streq(port->name, named->name) || port->protocol != named->protocol ||
                    (named->number > 0 ? port->number != named->number : port->number < ENDPOINT_AUTO_MIN))
                        return false;
        }
        return x->n_ports == text->n_ports;
}

/* Return the first service that the text does not name at this place, or NULL; "": it names one more. */
static const char *services_other(const ServicePolicy *text, const EndpointRecord *x) {
        size_t n = 0;

        for (; n < x->n_services; n++)
                if (n >= text->names.n || !streq(text->names.items[n], x->services[n]))
                        return x->services[n];
        return n < text->names.n ? "" : NULL;
}

/* Return whether the address counts for the machine: it is that of no other one. A lost machine may have been
 * installed again, and a restricted one takes no address from others by its statement, also none that they
 * have as ServiceAddress=. */
static bool address_counts(const Cluster *c, const ClusterMachine *m, const char *address) {
        const ClusterClaim *claim = TABLE_FIND(c->claims[CLAIM_ADDRESS], address);
        const ClusterService *at = TABLE_FIND(c->addresses, address);

        if (cluster_machine_is_restricted(m)) /* 'at' is sorted by machine */
                return claim && claim->first == m &&
                       (!at || (streq(at->endpoints[0]->machine, m->id) &&
                                streq(at->endpoints[at->n_endpoints - 1]->machine, m->id)));
        for (const ClusterMachine *o = claim ? LIST_FIRST(&claim->machines) : NULL; o;
             o = LIST_NEXT(o, of_claim[CLAIM_ADDRESS]))
                if (o != m && !presence_is_down(o->presence) && !cluster_machine_is_restricted(o))
                        return false;
        return true;
}

const char *endpoint_host_name(const ClusterMachine *m) {
        return cluster_machine_is_restricted(m) ? m->short_id : cluster_machine_name(m);
}

/* Return why the machine may not have the endpoint, or NULL. 'text': of its assignment; NULL: not compared.
 */
static const char *endpoint_unfit_reason(const Cluster *c, const ClusterMachine *m, const char *unit,
                                         const ServicePolicy *text, const EndpointRecord *x,
                                         const char **other) {
        const ClusterAssignment *a = cluster_assignment_on(m, unit);
        const char *zone = pairs_get(&m->metadata, "zone");

        if (!a || a->kind != ASSIGNMENT_RUN)
                return "the unit is not assigned to run there";
        if (text && (*other = services_other(text, x)))
                return "its text names other services";
        if (text && !ports_are_those_of(text, x))
                return "its text names other ports";
        if (!streq(x->name, endpoint_host_name(m)))
                return "this is not the name of the machine";
        if (!streq(x->zone ?: "", zone ?: ""))
                return "this is not the zone of the machine";
        return address_counts(c, m, x->address) ? NULL : "this is not an address of that machine alone";
}

int endpoint_check(const Cluster *c, const ClusterMachine *m, const char *unit, const Unit *text,
                   const EndpointRecord *x, Error *err) {
        static const ServicePolicy none;
        const char *other = NULL, *why = endpoint_unfit_reason(
                                          c, m, unit, text ? &text->placement.service : &none, x, &other);

        if (!why)
                return 0;
        return error_set(err, -EACCES, "%.64s may not register %s for the service %s: %s",
                         cluster_machine_name(m), unit, other && *other ? other : x->services[0], why);
}

/* -- The end of endpoints that do not fit any more -- */

/* Note since when an endpoint does not fit, and delete it after UNFIT_MS. Former texts are not read. */
static void endpoint_look(Transaction *t, const Cluster *c, const ClusterMachine *m, ClusterEndpoint *x,
                          EndpointLook *look, uint64_t now_ms) {
        const ClusterAssignment *a = cluster_assignment_on(m, x->unit);
        const Unit *text = a && !cluster_assignment_has_former_text(a) ? a->of->unit : NULL;
        const Transaction before = *t;
        const char *other, *why = "the machine is lost";

        if (m->presence == PRESENCE_AWAY)
                why = NULL;
        else if (!presence_is_down(m->presence))
                why = endpoint_unfit_reason(c, m, x->unit, text ? &text->placement.service : NULL, &x->record,
                                            &other);
        if (!why) {
                x->unfit_ms = 0;
                return;
        }
        look->unfit = true;
        if (x->unfit_ms == 0 || x->unfit_ms < look->begun_ms) /* or in a former term */
                x->unfit_ms = now_ms;
        if (now_ms - x->unfit_ms < UNFIT_MS)
                return;
        transaction_check_index(t, x->index, LAYOUT_ENDPOINT, x->unit, x->machine);
        transaction_delete(t, LAYOUT_ENDPOINT, x->unit, x->machine);
        if (transaction_fits(t, &before))
                log_notice(((LogFields) { .unit = x->unit, .machine = x->machine }),
                           "deleting an endpoint of %s on %s: %s", x->unit, cluster_machine_name(m), why);
}

int registry_end_endpoints(Registry *r, uint64_t term, EndpointLook *look, uint64_t now_ms, RegistryDone done,
                           void *userdata) {
        const Cluster *c = registry_cluster(r);
        const ClusterService *server;
        _cleanup_transaction_ Transaction t = {};
        size_t n = 0;

        if (look->term != term)
                *look = (EndpointLook) { .term = term, .begun_ms = now_ms, .unfit = true };
        if (now_ms < look->due_ms)
                return 0;
        if (!*look->machine) {
                if (look->index == c->index && !look->unfit)
                        return 0;
                look->index = c->index;
                look->unfit = false;
        }
        server = TABLE_FIND(c->servers, look->machine);
        for (server = server ? server->hh.next : c->servers; server && n < LOOK_ENDPOINTS;
             server = server->hh.next) {
                const ClusterMachine *m = cluster_machine(c, server->name);

                snprintf(look->machine, sizeof(look->machine), "%s", server->name);
                n += 1 + server->n_endpoints;
                for (size_t i = 0; m && m->member.raft_id == 0 && i < server->n_endpoints; i++)
                        endpoint_look(&t, c, m, server->endpoints[i], look, now_ms);
        }
        registry_count(r, n, 0);
        look->due_ms = now_ms + (server ? LOOK_STEP_MS : LOOK_MS);
        if (!server)
                look->machine[0] = 0;
        if (t.n_writes == 0 && t.error == 0)
                return 0;
        TRY(transaction_send(r, &t, term, done, userdata));
        return 1;
}

/* -- Proposals -- */

static int endpoint_check_write(Registry *r, const ClusterMachine *m, const LayoutKey *k, KvBytes value,
                                Error *err) {
        const ClusterAssignment *a = cluster_assignment_on(m, k->unit);
        _cleanup_(endpoint_record_done) EndpointRecord x = {};
        _cleanup_unit_ Unit *former = NULL;
        _cleanup_text_ Text t = {};

        TRY(stored_endpoint_read(value.data, value.size, &x, err));
        json_record_write(&t, &endpoint_record, &x);
        if (value.size > t.size + ENDPOINT_SPARE_MAX)
                return error_set(err, t.error < 0 ? t.error : -EDQUOT,
                                 "%.64s registers %s with more bytes than it needs", cluster_machine_name(m),
                                 k->unit);
        if (a)
                TRY(registry_read_former_text(r, a, &former));
        return endpoint_check(registry_cluster(r), m, k->unit, former ?: a ? a->of->unit : NULL, &x, err);
}

/* Return the next endpoint that the command sets, or NULL; *at is the place in the command. */
static const KvCommand *endpoint_next(const KvCommand *cmd, size_t *at, LayoutKey *ret) {
        while (*at < cmd->n_writes) {
                const KvCommand *write = &cmd->writes[(*at)++];

                if (write->op != KV_DELETE && layout_parse(write->key, ret) && ret->kind == LAYOUT_ENDPOINT)
                        return write;
        }
        return NULL;
}

/* Return whether the command has no effect once the machine is not up any more: the cluster view may not have
 * that change yet. */
static bool endpoints_require_up(const ClusterMachine *m, const KvCommand *cmd) {
        char key[LAYOUT_KEY_MAX];
        KvBytes presence = kv_string(layout_key(key, LAYOUT_PRESENCE, NULL, m->id));

        for (size_t i = 0; i < cmd->n_checks && m->presence == PRESENCE_UP; i++)
                if (cmd->checks[i].kind == KV_CHECK_MODIFIED && cmd->checks[i].index == m->presence_index &&
                    kv_bytes_equal(cmd->checks[i].key, presence))
                        return true;
        return false;
}

/* What costs nothing comes first: only endpoints within the pace, accepted or not, have their texts read. */
static int endpoints_check(Registry *r, const char *machine_id, const KvCommand *cmd, Error *err) {
        const Cluster *c = registry_cluster(r);
        const ClusterMachine *m = cluster_machine(c, machine_id);
        const KvCommand one = { .writes = (KvCommand *) cmd, .n_writes = 1 }, *write;
        uint64_t n_set = 0, n_new = 0;
        LayoutKey k = {};

        if (m && m->member.raft_id != 0)
                return 0;
        if (cmd->op != KV_TXN)
                cmd = &one;
        for (size_t at = 0; (write = endpoint_next(cmd, &at, &k)); n_set++)
                n_new += !cluster_endpoint(c, machine_id, k.unit);
        if (n_set == 0)
                return 0;
        if (!m)
                return error_set(err, -EACCES, "an unknown host registers endpoints");
        if (!endpoints_require_up(m, cmd))
                return error_set(err, -EBUSY, "%.64s is not up", cluster_machine_name(m));
        if (n_set > ENDPOINTS_BURST || endpoints_wait_ms(c, machine_id, n_set) > 0)
                return error_set(err, -EBUSY, "%.64s registers more than %d endpoints a second",
                                 cluster_machine_name(m), ENDPOINTS_PER_SECOND);
        endpoints_take(c, machine_id, n_set);
        if (cluster_server(c, machine_id)->n_endpoints + n_new > ENDPOINTS_MAX)
                return error_set(err, -EDQUOT, "%.64s registers more than %d endpoints",
                                 cluster_machine_name(m), ENDPOINTS_MAX);
        for (size_t at = 0; (write = endpoint_next(cmd, &at, &k));)
                TRY(endpoint_check_write(r, m, &k, write->value, err));
        return 0;
}

int registry_check_proposal(Registry *r, const char *relay, const char *machine_id, KvBytes principal,
                            const KvCommand *cmd, Error *err) {
        TRY(proposal_check(registry_cluster(r), relay, machine_id, principal, cmd, err));
        TRY(endpoints_check(r, machine_id, cmd, err));
        return (int) proposal_reports(machine_id, cmd);
}
