/* The row of the component, and the endpoints of this host. */
#include "fleetd/features/services/services_internal.h"

#include "fleetd/agent/agent.h"
#include "fleetd/engine/controller.h"
#include "fleetd/agent/records.h"
#include "fleetd/features/services/endpoints.h"

enum { WITHDRAW_WAIT_MS = 1000 }; /* at most, for the acknowledgement of a withdrawal */

/* -- What is listed -- */

/* 'record': owned, taken; NULL: it is not listed. */
static void services_list(Services *s, OwnEndpoint *own, EndpointRecord *record) {
        if (own->listed == (record != NULL) && !own->former &&
            (!record || json_record_equal(&endpoint_record, &own->record, record))) {
                if (record)
                        endpoint_record_done(record);
                return;
        }
        services_files_due(s, own->record.services);
        endpoint_record_done(&own->record);
        s->n_listed -= own->listed;
        if (own->listed && !record && s->n_listed == ENDPOINTS_MAX - 1)
                services_wake_all(s); /* there is room for another one */
        if (own->listed && !record)
                /* The file has its line until the next pass. */
                own->stop_ms = MAX(loop_now_ms(s->host->io.loop), s->next_ms) + own->withdraw_ms;
        own->listed = record != NULL;
        own->former = false;
        if (!record)
                return;
        s->n_listed++;
        own->record = TAKE_STRUCT(*record);
        services_files_due(s, own->record.services);
}

/* Decide whether the unit is an endpoint, as long as this machine is not lost. */
static void services_decide(Services *s, OwnEndpoint *own, const DutyUnit *unit, const ServicesSelf *self) {
        EndpointFacts facts = { .text = unit->record ? unit->record->unit : NULL,
                                .level = s->level || !s->level_known, /* such a text was submitted */
                                .runs = unit->runs && !s->host->shuts_down,
                                .passing = unit->passing,
                                .address = self->address,
                                .n_others = s->n_listed - own->listed };
        EndpointRecord record = {};
        bool listed = own->listed && !own->former;

        if (listed && (!unit->passing || !streq(own->invocation, unit->invocation))) {
                own->crashed = !own->available;
                own->available = false;
        }
        own->crashed &= !unit->available;
        own->available = (own->available && listed) || unit->available;
        facts.crashed = own->crashed;
        if (unit->runs)
                own->stage = WITHDRAW_NONE;
        if (facts.text)
                own->withdraw_ms = service_withdraw_ms(&facts.text->placement.service);
        if (endpoint_why_not(&facts) != VERDICT_NONE ||
            endpoint_describe(facts.text, &unit->record->ports, self->address, self->name, self->zone,
                              &record) < 0) {
                services_list(s, own, NULL);
                return;
        }
        snprintf(own->invocation, sizeof(own->invocation), "%s", unit->invocation);
        services_list(s, own, &record);
}

static void services_gone(void *self, const char *unit) {
        Services *s = self;
        OwnEndpoint *own = named_find(s->own, unit);

        if (!own)
                return;
        services_list(s, own, NULL);
        named_remove(&s->own, unit);
}

static void services_publish(void *self, const DutyUnit *unit, StateChange *change) {
        Services *s = self;
        const ClusterEndpoint *key = cluster_endpoint(registry_cluster(s->host->registry),
                                                      s->host->settings->machine_id, unit->name);
        bool has = unit->record && unit->record->unit->placement.service.names.n > 0, listed;
        OwnEndpoint *own = has ? named_get(&s->own, unit->name, sizeof(*own)) :
                                 named_find(s->own, unit->name);
        ServicesSelf host;

        if (own ? own->former && unit->undecided : has || !key)
                return; /* it stays as it is; there is no memory; or it has nothing to do with services */
        host = services_self(s);
        if (own)
                services_decide(s, own, unit, &host);
        if (own && (own->stage == WITHDRAW_DUE || own->stage == WITHDRAW_SENT) && unit->passing)
                return;                    /* the withdrawal has its own transaction */
        if (!change || (has && !s->level)) /* until that is known, its key stays as it is */
                return;
        listed = own && own->listed;
        if (!listed && key)
                change->endpoint_write = ENDPOINT_WITHDRAWN;
        else if (listed && host.up &&
                 !(key && json_record_equal(&endpoint_record, &key->record, &own->record)) &&
                 json_record_copy(&endpoint_record, &own->record, &change->endpoint) == 0)
                change->endpoint_write = ENDPOINT_SET;
        if (!has)
                services_gone(s, unit->name);
}

/* -- Withdrawal before an assigned stop -- */

static void services_on_withdrawn(void *userdata, KvStatus status, const char *message, uint64_t index) {
        Services *s = userdata;
        uint64_t now_ms = loop_now_ms(s->host->io.loop);

        s->withdrawing = false;
        for (Named *n = s->own; n; n = n->hh.next) {
                OwnEndpoint *own = (OwnEndpoint *) n;

                if (own->stage == WITHDRAW_DUE)
                        loop_defer(s->host->io.loop, &s->withdraw);
                if (own->stage != WITHDRAW_SENT)
                        continue;
                own->stage = WITHDRAW_ENDED;
                if (status == KV_OK)
                        own->stop_ms = MIN(own->stop_ms, now_ms + own->withdraw_ms);
                agent_wake_unit(s->host->agent, n->name);
        }
}

/* Withdraw all that is due by one transaction. If it fails, the state of the stopped unit withdraws it. */
static void services_on_withdraw(void *userdata) {
        Services *s = userdata;
        _cleanup_free_ const char **units = NEW0(const char *, HASH_COUNT(s->own) + 1);
        size_t n_units = 0;

        if (s->withdrawing || !units)
                return;
        for (Named *n = s->own; n; n = n->hh.next) {
                OwnEndpoint *own = (OwnEndpoint *) n;

                if (own->stage == WITHDRAW_DUE) {
                        own->stage = WITHDRAW_SENT;
                        units[n_units++] = n->name;
                }
        }
        s->withdrawing = n_units > 0 &&
                         registry_withdraw(s->host->registry, units, n_units, services_on_withdrawn, s) >= 0;
}

static int services_stopping(void *self, const char *unit, bool at_once) {
        Services *s = self;
        Loop *loop = s->host->io.loop;
        const ClusterEndpoint *key = cluster_endpoint(registry_cluster(s->host->registry),
                                                      s->host->settings->machine_id, unit);
        OwnEndpoint *own = named_find(s->own, unit);

        if (!own && key) { /* it is not decided about yet */
                own = named_get(&s->own, unit, sizeof(*own));
                if (own)
                        own->withdraw_ms = WITHDRAW_MS;
        }
        if (!own)
                return 0;
        /* A second time if its registration was under way when the first one began. */
        if (own->stage == WITHDRAW_NONE ? own->listed || key :
                                          own->stage == WITHDRAW_ENDED && key && !own->again) {
                own->again = own->stage == WITHDRAW_ENDED;
                own->stage = WITHDRAW_DUE;
                services_list(s, own, NULL);
                own->stop_ms = loop_now_ms(loop) + WITHDRAW_WAIT_MS + own->withdraw_ms;
                loop_defer(loop, &s->withdraw);
        } else if (own->stage == WITHDRAW_NONE)
                own->stage = WITHDRAW_ENDED; /* before the stop was planned: the rest of the time is left */
        if (at_once || own->stop_ms <= loop_now_ms(loop))
                return 0;
        (void) timer_start_by(&s->stops, loop, own->stop_ms, 0);
        return -EAGAIN;
}

/* The agent asks again for each of them. */
static void services_on_stops(void *userdata) {
        Services *s = userdata;

        for (const Named *n = s->own; n; n = n->hh.next)
                if (((const OwnEndpoint *) n)->stage != WITHDRAW_NONE)
                        agent_wake_unit(s->host->agent, n->name);
}

/* -- The component -- */

static void services_on_change(void *userdata, const RegistryChange *change) {
        Services *s = userdata;
        bool own = change->machine && streq(change->machine, s->host->settings->machine_id);
        const ClusterEndpoint *endpoint;

        if (change->kind == CHANGED_ALL)
                services_all_files_due(s);
        if (change->kind == CHANGED_ALL ||
            (own && (change->kind == CHANGED_MACHINE || change->kind == CHANGED_PRESENCE)))
                services_wake_all(s);
        if (change->kind != CHANGED_ENDPOINT)
                return;
        endpoint = cluster_endpoint(registry_cluster(s->host->registry), change->machine, change->unit);
        if (own) {
                OwnEndpoint *e = endpoint ? NULL : named_find(s->own, change->unit);

                if (e) /* others know it from now on */
                        e->stop_ms = loop_now_ms(s->host->io.loop) + e->withdraw_ms;
                return;
        }
        if (endpoint)
                services_files_due(s, endpoint->record.services);
        if (change->former_services)
                services_files_due(s, change->former_services);
}

static void services_state_changed(void *self) {
        Services *s = self;

        if (!s->sees_others)
                services_all_files_due(s);
}

static void *services_close(void *self) {
        Services *s = self;

        registry_cancel(s->host->registry, s);
        registry_unobserve(s->host->registry, &s->observer);
        deferred_cancel(&s->withdraw);
        timer_stop(&s->stops);
        timer_stop(&s->pass);
        for (Named *own = s->own; own; own = own->hh.next)
                endpoint_record_done(&((OwnEndpoint *) own)->record);
        named_clear(&s->own);
        named_clear(&s->written);
        named_clear(&s->due);
        free(s);
        return NULL;
}

static int services_open(ComponentHost *host, const Settings *settings, void **ret, Error *err) {
        Services *s = NEW0(Services, 1);

        if (!s)
                return -ENOMEM;
        *s = (Services) { .host = host,
                          .observer = { .on_change = services_on_change, .userdata = s },
                          .withdraw = DEFERRED(services_on_withdraw, s),
                          .stops = TIMER(services_on_stops, s),
                          .pass = TIMER(services_on_pass, s) };
        registry_observe(host->registry, &s->observer);
        *ret = s;
        TRY(services_read_files(s));
        services_all_files_due(s);
        services_wake_all(s); /* units that only a former daemon knew are read, too */
        return 0;
}

static int services_reload(ComponentHost *host, void *self, const Settings *s) {
        services_wake_all(self);
        return 0;
}

static int services_control(Control *control) {
        Services *s = control->self;
        uint64_t now_ms = loop_now_ms(s->host->io.loop);
        int r = registry_cluster(control->registry)->adopting ?
                        0 :
                        registry_end_endpoints(control->registry, control->term, &s->look, now_ms,
                                               control->done, control->userdata);

        if (s->look.due_ms > now_ms)
                control->again_ms = s->look.due_ms - now_ms;
        return r;
}

static const Controller services_controller = { "services", services_control };

static const Duty services_duty = { .stage = services_stage,
                                    .stopping = services_stopping,
                                    .publish = services_publish,
                                    .gone = services_gone };

const Component services_component = { "services",
                                       services_open,
                                       services_close,
                                       services_state_changed,
                                       services_reload,
                                       .duty = &services_duty,
                                       .controller = &services_controller,
                                       .routes = services_routes,
                                       .n_routes = SERVICES_ROUTES,
                                       .problems = services_problems };
