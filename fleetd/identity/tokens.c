#include "fleetd/identity/tokens.h"

#include <arpa/inet.h>

#include "fleetd/identity/voters_limit.h"
#include "fleetd/registry/rights.h"

/* -- Networks -- */

static bool ip_parse(const char *text, int *ret_family, uint8_t ret[static 16]) {
        static const int families[] = { AF_INET, AF_INET6 };

        for (size_t i = 0; i < ELEMENTS(families); i++)
                if (inet_pton(families[i], text, ret) == 1) {
                        *ret_family = families[i];
                        return true;
                }
        return false;
}

int ip_network_parse(const char *text, IpNetwork *ret, Error *err) {
        const char *slash = strchr(text, '/');
        IpNetwork network = {};
        char address[NETWORK_SIZE];
        uint64_t bits = 0;
        unsigned most;

        if (strlen(text) >= NETWORK_SIZE)
                return error_set(err, -EINVAL, "not a network: expected for example 10.0.0.0/8");
        snprintf(address, sizeof(address), "%.*s", (int) (slash ? slash - text : (int) strlen(text)), text);
        if (!ip_parse(address, &network.family, network.bytes))
                return error_set(err, -EINVAL, "'%s' is not a network: expected for example 10.0.0.0/8",
                                 text);
        most = network.family == AF_INET ? 32 : 128;
        if (slash && (parse_u64(slash + 1, &bits) < 0 || bits > most))
                return error_set(err, -EINVAL, "'%s' is not a network: expected at most %u bits", text, most);
        network.bits = slash ? (unsigned) bits : most;
        *ret = network;
        return 0;
}

bool ip_network_has(const IpNetwork *network, const char *address) {
        static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
        uint8_t bytes[16] = {};
        char host[ADDRESS_SIZE];
        unsigned rest = network->bits % 8;
        uint16_t port;
        int family;

        if (parse_address(address, host, sizeof(host), &port) < 0 || !ip_parse(host, &family, bytes))
                return false;
        if (family == AF_INET6 && network->family == AF_INET && memcmp(bytes, mapped, sizeof(mapped)) == 0) {
                memmove(bytes, bytes + sizeof(mapped), 4);
                family = AF_INET;
        }
        if (family != network->family || memcmp(bytes, network->bytes, network->bits / 8) != 0)
                return false;
        return rest == 0 ||
               ((bytes[network->bits / 8] ^ network->bytes[network->bits / 8]) >> (8 - rest)) == 0;
}

/* -- New tokens -- */

/* Return the machine of an ID, the begin of one, or a name. */
static int token_find_machine(const Cluster *c, const char *text, const ClusterMachine **ret, Error *err) {
        const ClusterMachine *found = cluster_machine(c, text);
        size_t n = found ? 1 : 0, size = strlen(text);

        for (const ClusterMachine *m = found ? NULL : c->machines; m; m = m->hh.next)
                if (streq(cluster_machine_name(m), text) ||
                    (size >= MACHINE_ID_SHORT && strncmp(m->id, text, size) == 0)) {
                        found = m;
                        n++;
                }
        if (n == 0)
                return error_set(err, -ENOENT, "no machine '%.64s': fleetctl list-machines --all prints them",
                                 text);
        if (n > 1)
                return error_set(
                        err, -ENOTUNIQ,
                        "%zu machines have the name '%.64s': use the ID, which fleetctl list-machines "
                        "--full prints",
                        n, text);
        *ret = found;
        return 0;
}

static int token_check_metadata(const Pairs *metadata, Error *err) {
        if (metadata->n > METADATA_KEYS_MAX)
                return error_set(err, -EINVAL, "metadata: expected at most %d pairs", METADATA_KEYS_MAX);
        for (size_t i = 0; i < metadata->n; i++)
                TRY(machine_metadata_check(metadata->items[i].key, metadata->items[i].value, err));
        return 0;
}

static int token_check_write(const TokenRequest *request, bool restricted, Error *err) {
        if (!request->write || !*request->write)
                return 0;
        if (!restricted)
                return error_set(err, -EINVAL,
                                 "write: an ordinary host may write all keys of users; prefixes are of a "
                                 "restricted one (--restricted)");
        return prefixes_check(request->write, err);
}

static int token_check_numbers(const TokenRequest *request, bool restricted, Error *err) {
        if (request->uses > TOKEN_USES_MAX)
                return error_set(err, -EINVAL, "%llu uses: expected 1 to %d",
                                 (unsigned long long) request->uses, TOKEN_USES_MAX);
        if (request->ttl_ms > 0 && (request->ttl_ms < TOKEN_TTL_MIN_MS || request->ttl_ms > TOKEN_TTL_MAX_MS))
                return error_set(err, -EINVAL, "a life of %llu s: expected 1 minute to 7 days",
                                 (unsigned long long) request->ttl_ms / 1000);
        if (restricted && request->level < KV_LEVEL_ATTACHED)
                return error_set(err, -EINVAL,
                                 "a restricted host holds no replica, which needs feature level %d; the "
                                 "cluster has %u: fleetctl cluster level %d",
                                 KV_LEVEL_ATTACHED, request->level, KV_LEVEL_ATTACHED);
        return 0;
}

/* A host that holds a replica has all that is stored. */
static int token_check_restricted(bool restricted, const ClusterMachine *m, Error *err) {
        if (!restricted || !m || m->member.raft_id == 0 || m->removed)
                return 0;
        return error_set(err, -EPERM,
                         "%s holds a replica, which a restricted host does not: remove it first "
                         "(fleetctl remove %.8s), or use a token without --restricted (--restricted=false)",
                         cluster_machine_name(m), m->id);
}

int token_plan(const Cluster *c, const TokenRequest *request, uint64_t now_ms, TokenRecord *ret, Error *err) {
        static const Pairs no_metadata = {};
        const Pairs *metadata = request->metadata ?: &no_metadata;
        TokenRecord token = { .total = request->uses ?: 1,
                              .expires_ms = now_ms + (request->ttl_ms ?: TOKEN_TTL_DEFAULT_MS) };
        const char *write = request->write ?: "";
        const ClusterMachine *machine = NULL;
        bool restricted = request->restricted;
        IpNetwork network;
        int r = 0;

        if (request->replace && *request->replace)
                r = token_find_machine(c, request->replace, &machine, err);
        if (r < 0)
                return r;
        if (!request->restricted && !request->ordinary) {
                bool same = machine && machine->host && machine->host->restricted;

                restricted = same || cluster_settings(c)->restricted;
                if (same && !*write)
                        write = machine->host->write;
        }
        token.restricted = restricted;
        r = token_check_numbers(request, restricted, err);
        if (r >= 0)
                r = token_check_write(request, restricted, err);
        if (r < 0)
                return r;
        if (HASH_COUNT(c->tokens) >= TOKENS_MAX)
                return error_set(err, -ENOSPC, "the cluster has %d tokens; revoke some: fleetctl token ls",
                                 TOKENS_MAX);
        if (machine) {
                if (token.total > 1)
                        return error_set(err, -EINVAL, "a token that replaces a machine has one use");
                r = TRY(token_check_restricted(restricted, machine, err));
                memcpy(token.replace, machine->id, sizeof(token.replace));
        }
        if (request->from && *request->from) {
                r = TRY(ip_network_parse(request->from, &network, err));
                snprintf(token.from, sizeof(token.from), "%s", request->from);
        }
        TRY(token_check_metadata(metadata, err));
        if (pairs_copy(metadata, &token.metadata) < 0)
                return error_set(err, -ENOMEM, "out of memory");
        token.uses = token.total;
        snprintf(token.by, sizeof(token.by), "%s", request->by ?: "");
        snprintf(token.write, sizeof(token.write), "%s", write);
        *ret = token;
        return 0;
}

/* -- Joining hosts -- */

#define NEXT_TOKEN "create another one on a host of the cluster: fleetctl token"

/* The messages fit into an event, with the address of the host in front. A longer name is not in them. */
enum { NAME_MAX_IN_EVENT = 24, NEXT_SIZE = 192 };

/* Return whether the cluster has a host with this ID. Also a member of the time of the key file, which has no
 * certificate yet. */
static bool join_is_known(const ClusterMachine *m) {
        return m && (m->host || (m->member.raft_id != 0 && !m->removed));
}

/* Return the next step of a host that the token does not admit. 'm' is the machine with its ID; NULL: none.
 */
static const char *join_next(const ClusterMachine *m, char buffer[static NEXT_SIZE]) {
        const char *name = m ? cluster_machine_name(m) : "";
        bool is_long = strlen(name) > NAME_MAX_IN_EVENT;

        if (!join_is_known(m))
                return NEXT_TOKEN;
        snprintf(buffer, NEXT_SIZE,
                 "the cluster has this machine ID with another key (%.*s); if installed again, on "
                 "another host: fleetctl token --replace=%.8s; if a copy: fleetctl help add",
                 is_long ? 8 : NAME_MAX_IN_EVENT, is_long ? m->id : name, m->id);
        return buffer;
}

/* The first host that joined with the token. */
static const char *token_first_user(const Cluster *c, const char *token) {
        for (const ClusterMachine *m = c->machines; m; m = m->hh.next)
                if (m->host && streq(m->host->token, token))
                        return cluster_machine_name(m);
        return "a host that was removed";
}

static int token_check_validity(const Cluster *c, const ClusterToken *t, const char *next, uint64_t now_ms,
                                Error *err) {
        if (t->record.revoked)
                return error_set(err, -EACCES, "token %s was revoked; %s", t->name, next);
        if (now_ms >= t->record.expires_ms)
                return error_set(err, -EACCES, "token %s has expired; %s", t->name, next);
        if (t->record.uses == 0 && t->record.total == 1)
                return error_set(err, -EACCES, "token %s was used by %s; %s", t->name,
                                 token_first_user(c, t->name), next);
        if (t->record.uses == 0)
                return error_set(err, -EACCES, "all uses of token %s are spent (%llu); %s", t->name,
                                 (unsigned long long) t->record.total, next);
        return 0;
}

/* Whether the token is for this host. */
static int token_check_host(const Cluster *c, const ClusterToken *t, const JoiningHost *host,
                            const char *next, Error *err) {
        IpNetwork network;

        if (*t->record.replace && !streq(t->record.replace, host->machine_id))
                return error_set(err, -EACCES, "token %s is for machine %.8s (%s), and this host is %.8s; %s",
                                 t->name, t->record.replace, cluster_name_of(c, t->record.replace),
                                 host->machine_id, next);
        if (*t->record.from && (ip_network_parse(t->record.from, &network, NULL) < 0 ||
                                !ip_network_has(&network, host->address)))
                return error_set(err, -EACCES,
                                 "token %s is for hosts of %s, and this host connects from %s; %s", t->name,
                                 t->record.from, *host->address ? host->address : "an unknown address", next);
        if (host->exposed && t->record.total > 1)
                return error_set(err, -EACCES,
                                 "token %s has several uses, and other users of this host can see the "
                                 "arguments of a command; pass it on standard input: fleetctl join -",
                                 t->name);
        return 0;
}

/* Whether the cluster has room for the host, and no host with its ID and another key. */
static int join_check_cluster(const Cluster *c, const JoiningHost *host, const ClusterToken *t,
                              unsigned level, size_t replicas, Error *err) {
        const ClusterMachine *m = cluster_machine(c, host->machine_id);
        char next[NEXT_SIZE];
        size_t n = 0;

        if (cluster_machine_has_unreadable(m ?: &(ClusterMachine) {}, LAYOUT_HOST))
                return error_set(err, -EACCES,
                                 "the record of this host in the cluster cannot be read; upgrade "
                                 "the hosts of the cluster");
        if (join_is_known(m) && !streq(t->record.replace, host->machine_id))
                return error_set(err, -EEXIST, "%s", join_next(m, next));
        for (const ClusterMachine *other = c->machines; other; other = other->hh.next)
                n += other != m && !other->removed && (other->host || other->member.raft_id != 0);
        if (n >= replicas && level < KV_LEVEL_ATTACHED)
                return voters_refuse_host(n, replicas, -EACCES, err);
        return 0;
}

int join_decide(const Cluster *c, const JoiningHost *host, unsigned level, size_t replicas, uint64_t now_ms,
                JoinDecision *ret, Error *err) {
        const ClusterMachine *m = cluster_machine(c, host->machine_id);
        const ClusterToken *t = cluster_token(c, host->token);
        JoinDecision decision = { .token = t };
        char buffer[NEXT_SIZE];
        const char *next = join_next(m, buffer);

        if (host->level < level)
                return error_set(
                        err, -EACCES,
                        "this host supports feature level %u, and the cluster has %u: upgrade fleetd on "
                        "this host",
                        host->level, level);
        if (m && m->host && !m->removed && pins_have(&m->host->pins, host->pin)) {
                *ret = (JoinDecision) { .host = *m->host };
                return 0;
        }
        if (cluster_is_denied(c, host->pin))
                return error_set(err, -EACCES,
                                 "the key of this host is compromised: remove the folder "
                                 "/var/lib/fleet/identity of this host, and join again with another key");
        if (!t)
                return error_set(
                        err, -EACCES,
                        "the cluster has no token %s: it expired more than a day ago, or is of another "
                        "cluster; " NEXT_TOKEN
                        ", for a host that was a member: fleetctl token --replace=HOST",
                        host->token);
        if (!streq(t->record.hash, host->secret_hash))
                return error_set(err, -EKEYREJECTED, "wrong secret for token %s; copy the token again",
                                 t->name);
        TRY(token_check_validity(c, t, next, now_ms, err));
        TRY(token_check_host(c, t, host, next, err));
        TRY(join_check_cluster(c, host, t, level, replicas, err));
        TRY(token_check_restricted(t->record.restricted, m, err));
        decision.host = (HostRecord) { .joined_ms = now_ms,
                                       .pins = { .n = 1 },
                                       .restricted = t->record.restricted };
        snprintf(decision.host.pins.items[0], DIGEST_SIZE, "%s", host->pin);
        memcpy(decision.host.token, t->name, sizeof(decision.host.token));
        memcpy(decision.host.write, t->record.write, sizeof(decision.host.write));
        *ret = decision;
        return 0;
}

static bool pins_equal(const Pins *a, const Pins *b) {
        for (size_t i = 0; i < a->n && a->n == b->n; i++)
                if (!streq(a->items[i], b->items[i]))
                        return false;
        return a->n == b->n;
}

int renewal_decide(const RenewingHost *host, Pins *pins, Error *err) {
        bool known = pins_have(pins, host->pin), by_newest = streq(host->used_pin, pins->items[0]);
        bool proves = known && pins->n > 1 && streq(host->used_pin, host->pin);
        Pins decided = { .n = proves && by_newest ? 1 : 2 };

        if (known && !proves)
                return 0;
        if (!pins_have(pins, host->used_pin))
                return error_set(
                        err, -EKEYREJECTED,
                        "the cluster has this machine ID with another key: if this host was installed "
                        "again, run on another host: fleetctl token --replace=%.8s",
                        host->machine_id);
        if (!pins_equal(pins, host->before) || !(proves || by_newest))
                return error_set(err, -EBUSY, "the keys of this host have changed; it repeats the request");
        snprintf(decided.items[0], DIGEST_SIZE, "%s", host->pin);
        if (decided.n > 1) /* 'pin' is the former key, or one that is added to the newest */
                snprintf(decided.items[1], DIGEST_SIZE, "%s", pins->items[0]);
        *pins = decided;
        return 0;
}
