/* Log lines about hosts that dial this one and are rejected. Neither a host of the cluster nor a stranger can
 * fill the journal. */
#include "peers/peers_internal.h"

#include "base/log.h"

bool peers_has_tls(const Peers *peers) {
        return peers->session_context.tls.key || peers->session_context.tls.credentials;
}

static uint64_t warning_hash(const char *source, unsigned cause) {
        return XXH3_64bits_withSeed(source, strlen(source), cause + 1);
}

static bool peers_has_warned(const Peers *peers, uint64_t hash) {
        for (size_t i = 0; i < PEERS_WARNINGS_KEPT; i++)
                if (peers->warnings[i] == hash)
                        return true;
        return false;
}

void peers_clear_warnings(Peers *peers, const char *machine_id) {
        for (unsigned cause = 0; cause < _WARNING_MAX; cause++) {
                uint64_t hash = warning_hash(machine_id, cause);

                for (size_t i = 0; i < PEERS_WARNINGS_KEPT; i++)
                        if (peers->warnings[i] == hash)
                                peers->warnings[i] = 0;
        }
}

bool peers_log_stranger(Peers *peers, const char *address, char ret_omitted[static PEERS_OMITTED_SIZE]) {
        unsigned n;

        ret_omitted[0] = 0;
        if (!strangers_log(&peers->strangers, strangers_key(address), loop_now_ms(peers->loop), &n))
                return false;
        if (n > 0)
                snprintf(ret_omitted, PEERS_OMITTED_SIZE, "; %u more message%s about unknown hosts omitted",
                         n, plural(n));
        return true;
}

/* Return whether to warn about a machine, or, without TLS, about an address: once for each cause. */
static bool source_is_logged(Peers *peers, const PeerSession *s, const char *machine_id, unsigned cause) {
        char source[ADDRESS_SIZE];
        uint64_t hash;
        char *colon;

        snprintf(source, sizeof(source), "%s", machine_id ?: s->address);
        colon = strrchr(source, ':');
        if (colon)
                *colon = 0; /* each connection of a host has another port */
        hash = warning_hash(source, cause);
        if (peers_has_warned(peers, hash))
                return false;
        peers->warnings[peers->next_warning++ % PEERS_WARNINGS_KEPT] = hash;
        return true;
}

void peers_warn(Peers *peers, const PeerSession *s, unsigned cause, const char *message) {
        const char *machine_id = session_machine(s);
        bool stranger = peers_has_tls(peers) && !machine_id;
        char name[PEER_NAME_SIZE + 4] = "", omitted[PEERS_OMITTED_SIZE] = "";

        if (stranger ? !peers_log_stranger(peers, s->address, omitted) :
                       !source_is_logged(peers, s, machine_id, cause))
                return;
        if (s->has_handshake)
                snprintf(name, sizeof(name), " (%s)", handshake_name(&s->handshake));
        log_warning(((LogFields) { .machine = machine_id, .message_id = PEERS_MESSAGE_REJECTED }),
                    "rejected a session from %s%s: %s%s", s->address, name, message, omitted);
}
