/* The rows of the components that use each other both ways: each calls the next ones by callbacks, which are
 * here. */

#include "base/log.h"
#include "fleetd/daemon_internal.h"
#include "fleetd/host/host.h"
#include "fleetd/identity/identity.h"

/* -- Engine -- */

static int daemon_open_engine(ComponentHost *host, const Settings *s, void **ret, Error *err) {
        int r = s->engine ? engine_new(&host->engine, host, s->brake_ms) : 0;

        *ret = host->engine;
        return r;
}

static int daemon_reload_engine(ComponentHost *host, void *self, const Settings *s) {
        engine_set_brake(self, s->brake_ms);
        return 0;
}

const Component engine_component = { "engine", daemon_open_engine, engine_free, engine_state_changed,
                                     daemon_reload_engine };

/* -- Directory -- */

static int daemon_open_directory(ComponentHost *host, const Settings *s, void **ret, Error *err) {
        int r = s->unit_directory[0] ? directory_new(&host->directory, host, err) : 0;

        *ret = host->directory;
        return r;
}

const Component directory_component = { "directory", daemon_open_directory, directory_free };

/* -- Membership -- */

/* The next sessions have the certificate. A first one opens the listener. */
void daemon_on_identity(ComponentHost *host) {
        _cleanup_(tls_credentials_freep) TlsCredentials *credentials = NULL;
        Error err = {};
        int r = identity_read_credentials(host->settings->state_directory, &credentials, &err);

        if (r < 0)
                log_error(((LogFields) { .error = r }), "Failed to use the new certificate of this host: %s",
                          error_text(&err, r));
        else
                peers_set_credentials(host->peers, credentials, host->io.key);
        if (r >= 0 && host->io.unidentified)
                daemon_restart_later(host);
}

static int daemon_open_membership(ComponentHost *host, const Settings *s, void **ret, Error *err) {
        int r = membership_new(&host->membership, host);

        *ret = host->membership;
        return r;
}

const Component membership_component = { "membership", daemon_open_membership, membership_free,
                                         membership_state_changed };

/* -- Facts -- */

/* Of a host whose capacity is not known, sizes count for none of its units. */
static Resources daemon_capacity(const ComponentHost *host, const Settings *s) {
        Resources physical = {}, left;
        int r = host->io.measure ? host->io.measure(&physical) : 0;

        if (r < 0)
                log_warning(NO_FIELDS, "Cannot read the memory and CPU of this host: %s", strerror(-r));
        left = capacity_without(physical, &s->reserve);
        if (left.memory_mib > 0 && left.cpu_percent > 0)
                return left;
        if (resources_are_set(physical))
                log_warning(
                        NO_FIELDS,
                        "Reserve= leaves nothing of %u MiB and %u%% CPU of this host: its capacity counts "
                        "as unknown; reduce Reserve= in fleetd.conf, then systemctl reload fleetd",
                        physical.memory_mib, physical.cpu_percent);
        return (Resources) {};
}

static int daemon_set_facts(ComponentHost *host, void *self, const Settings *s) {
        Systemd *systemd = host->io.systemd;
        char address[ADDRESS_SIZE] = "";
        uint16_t port;
        Machine facts = { .name = s->name,
                          .address = address,
                          .metadata = s->metadata,
                          .version = (char *) PACKAGE_VERSION,
                          .quadlet = systemd->ops->has_quadlet && systemd->ops->has_quadlet(systemd),
                          .users = s->listen_tls[0],
                          .level = host->io.level_max,
                          .boot_id = host->io.boot_id,
                          .soft_reboot = host->io.logind && host_has_soft_reboot(),
                          .soft_reboots = systemd_soft_reboots(systemd),
                          .booting = systemd->ops->is_booting != NULL, /* until it is known */
                          .takes_finished = true,
                          .capacity = daemon_capacity(host, s),
                          .peer = s->listen_peer[0] ? s->listen_peer : NULL,
                          .client = s->advertise_client[0] ? s->advertise_client : NULL };

        if (!s->listen_peer[0] || parse_address(s->listen_peer, address, sizeof(address), &port) < 0)
                (void) facts_primary_address(address, sizeof(address));
        (void) ip_address_canonical(address, address);
        snprintf(facts.id, sizeof(facts.id), "%s", s->machine_id);
        return self ? facts_set(self, &facts) :
                      facts_new(&host->facts, host->io.loop, host->registry, &facts);
}

static int daemon_open_facts(ComponentHost *host, const Settings *s, void **ret, Error *err) {
        int r = host->io.systemd ? daemon_set_facts(host, NULL, s) : 0;

        *ret = host->facts;
        if (r >= 0 && host->facts && host->io.logind)
                facts_watch_reboot(host->facts, host_needs_reboot);
        return r;
}

const Component facts_component = { "facts",          daemon_open_facts,  facts_free, facts_state_changed,
                                    daemon_set_facts, facts_systemd_ready };

/* -- Agent -- */

int daemon_on_checks(const ComponentHost *host, const char *problem) {
        return facts_set_checks(host->facts, problem);
}

int daemon_ask_set(const ComponentHost *host, const char *unit) {
        return membership_ask_set(host->membership, unit);
}

/* Without an agent, nothing would stop the units of this host: they would run twice after a drain of it. */
static int daemon_check_units(const Settings *s, Error *err) {
        _cleanup_free_ char *directory = NULL;
        AssignmentRecords records = {};
        int r = TRY(settings_agent_path(s, &directory));

        r = records_open(&records, directory, err);
        if (r >= 0 && records.table)
                r = error_set(err, -EBUSY,
                              "Agent=no: this host has units of the cluster, such as %s. First, with "
                              "Agent=yes: fleetctl drain this host, then stop fleetd, and set Agent=no",
                              records.table->name);
        records_close(&records);
        return MIN(r, 0);
}

static int daemon_open_agent(ComponentHost *host, const Settings *s, void **ret, Error *err) {
        int r;

        if (!host->io.systemd)
                return s->agent ? 0 : daemon_check_units(s, err);
        r = agent_new(&host->agent, host, err);
        *ret = host->agent;
        return r;
}

const Component agent_component = { "agent", daemon_open_agent, agent_free, agent_state_changed,
                                    .crash = agent_crash };

/* -- Api -- */

bool daemon_is_foreign(const ComponentHost *host, const char *unit) {
        return host->agent && agent_has_conflict(host->agent, unit);
}

static void daemon_log_access(const Settings *s) {
        if (settings_client_access(s) == CLIENT_CLOSED && s->listen_client[0])
                log_notice(NO_FIELDS,
                           "ListenClient=%s is closed, because LocalRights= grants rights to keys: with "
                           "ClientAccess=, it is open to all local users",
                           s->listen_client);
}

static int daemon_open_api(ComponentHost *host, const Settings *s, void **ret, Error *err) {
        bool closed = settings_client_access(s) > CLIENT_READ_ONLY;
        const char *addresses[] = { [API_SOCKET] = s->listen_socket,
                                    [API_LOOPBACK] = closed ? "" : s->listen_client,
                                    [API_TLS] = s->listen_tls };
        int r = 0;

        daemon_log_access(s);
        r = TRY(api_check_routes(host->components, err));
        if (s->listen_socket[0] || s->listen_client[0] || s->listen_tls[0])
                r = api_new(&host->api, host);
        *ret = host->api;
        for (ApiListener kind = 0; r >= 0 && kind < ELEMENTS(addresses); kind++)
                if (addresses[kind][0])
                        r = api_listen(host->api, kind, addresses[kind], err);
        return r;
}

static int daemon_reload_api(ComponentHost *host, void *self, const Settings *s) {
        daemon_log_access(s);
        return api_reload(host, self, s);
}

const Component api_component = { "api", daemon_open_api, api_free, api_state_changed, daemon_reload_api };

#define COMPONENT_ENTRY(name) &name##_component,
const Component *const daemon_components[] = { COMPONENTS(COMPONENT_ENTRY) NULL };
