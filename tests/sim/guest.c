#include "tests/sim/guest.h"

#include "fleetd/identity/identity.h"
#include "fleetd/identity/revocation.h"

/* -- What the daemons send -- */

Recorded recorded[PEER_FRAME_TYPES];
uint64_t sent_bytes;
const SimMachine *sent_by;
static bool records;

static void record(PeerFrame type, const void *payload, size_t size) {
        Recorded *r = &recorded[type];

        if (!records || type < PEER_RAFT || r->payload || size == 0 || size >= 65536)
                return;
        r->payload = malloc(size);
        memcpy(r->payload, payload, size);
        r->size = size;
}

int __wrap_peer_reply(PeerSession *s, PeerFrame type, const void *payload, size_t size);
int __wrap_peer_reply(PeerSession *s, PeerFrame type, const void *payload, size_t size) {
        record(type, payload, size);
        if (sent_by && world_running_loop(world) == sent_by->loop)
                sent_bytes += size;
        return __real_peer_reply(s, type, payload, size);
}

/* -- The host -- */

void sim_guest_host_new(SimGuestHost *ret) {
        const TokenRequest restricted = { .uses = 1, .restricted = true, .write = "/app", .by = "root" };
        SimMachine *attached;
        Error err = {};
        MadeToken made;
        Token token;

        records = true;
        found(GUEST + 1, GUEST_MEMBERS);
        attached = machine(GUEST_ATTACHED);
        made = make_token_of(machine(0), &restricted);
        join_with(attached, &made);
        UNTIL("a-host-is-attached", state_of(attached).attached && state_of(attached).ready);
        UNTIL("an-attached-host-has-facts", seen(machine(0), attached)->facts);
        request_unit(machine(0), "a.service", attached);
        UNTIL("a-unit-runs-on-an-attached-host", sim_systemd_runs(attached->systemd, "a.service"));
        (void) write_key(attached, "/app/a", "1");
        expect_key(attached, "/app/a", "1");
        made = make_token(machine(0), NULL);
        *ret = (SimGuestHost) { .m = machine(GUEST) };
        UNTIL("a-host-is-ready", is_ready(ret->m));
        (void) command(ret->m, false, made.text);
        UNTIL_EACH(TOKENS_PATIENCE_MS, 1, "its-certificate-is-stored",
                   exists(ret->m, "identity.new/entering"));
        machine_crash_daemon(ret->m);
        UNTIL("a-daemon-ends", !ret->m->loop);
        ret->m->is_played = true;
        records = false;

        if (tls_credentials_new(NULL, NULL, NULL, &ret->none, &err) < 0 ||
            identity_begin(ret->m->folder, ret->m->settings.cluster_file, &err) < 0 ||
            identity_read_credentials(ret->m->folder, &ret->own, &err) < 0 ||
            token_read(made.text, &token, &err) < 0)
                world_failed(world, "a-host-has-an-identity", "%s", err.message);
        memcpy(ret->root.bytes, token.root, sizeof(ret->root.bytes));
}

static void on_admitted(void *userdata, KvStatus status, const char *message, uint64_t index) {
        *(bool *) userdata = true;
}

void sim_guest_host_admit(const SimGuestHost *host) {
        uint64_t raft_id = 0;
        bool admitted = false;

        UNTIL("there-is-a-leader", leader_with(machine(0)));
        if (registry_admit(daemon_host(leader_with(machine(0))->daemon)->registry, host->m->machine_id,
                           GUEST_ADDRESS, &raft_id, on_admitted, &admitted) < 0)
                abort();
        UNTIL("the-host-gets-a-raft-id", admitted && seen(machine(0), host->m)->member.raft_id != 0);
}

void sim_guest_host_done(SimGuestHost *host) {
        for (unsigned i = 0; i < PEER_FRAME_TYPES; i++) {
                free(recorded[i].payload);
                recorded[i] = (Recorded) {};
        }
        tls_credentials_free(host->none);
        tls_credentials_free(host->own);
        sent_by = NULL;
        cluster = cluster_free(cluster);
}

/* -- Its sessions -- */

/* As the first replica knows the others. */
static void guest_known(void *userdata, const char *machine_id, PeerKnown *ret) {
        Daemon *d = machine(0)->daemon;

        revocation_known(daemon_host(d)->store, daemon_host(d)->registry, NULL, false, machine_id, ret);
}

void sim_guest_open(SimGuest *g, SimMachine *m, SimMachine *to, const TlsCredentials *credentials,
                    const TlsPin *root, uint64_t raft_id) {
        KvState state = state_of(machine(0));
        PeersOptions options = { .self = { .nonce = 7, .start_number = 1000, .raft_id = raft_id },
                                 .credentials = credentials,
                                 .known = guest_known,
                                 .token_root = root,
                                 .token_cluster_id = state.cluster_id };
        PeerAddress known = {};

        *g = (SimGuest) { .to = to, .loop = world_loop_new(world, "guest") };
        memcpy(options.self.machine_id, m->machine_id, sizeof(options.self.machine_id));
        snprintf(options.self.name, sizeof(options.self.name), "guest");
        snprintf(options.self.address, sizeof(options.self.address), "%s:2380", m->address);
        if (!root) {
                options.self.cluster_id = state.cluster_id;
                options.self.lineage = state.lineage;
        }
        snprintf(known.address, sizeof(known.address), "%s", to->settings.listen_peer);
        if (peers_new(&g->peers, world_loop(g->loop), sim_host_network(m->host, g->loop), &options) < 0 ||
            peers_set_known(g->peers, &known, 1) < 0)
                abort();
}

static void on_closed(void *userdata) {
        ((SimGuest *) userdata)->closed = true;
}

void sim_guest_close(SimGuest *g, SimMachine *m) {
        peers_close(g->peers, "", on_closed, g);
        UNTIL("sessions-end", g->closed);
        sim_host_reset(m->host, true);
        world_loop_free(g->loop);
}

PeerSession *sim_guest_session(SimGuest *g) {
        UNTIL("a-host-has-a-session", peers_dialed(g->peers, g->to->machine_id));
        return peers_dialed(g->peers, g->to->machine_id);
}
