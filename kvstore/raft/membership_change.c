/* Membership and handing over: the engine checks neither the content of a configuration nor the order of disk
 * and network; both are here. */
#include <assert.h>
#include <errno.h>

#include "kvstore/raft/core_internal.h"

static RaftServer *find_server(RaftServers *servers, uint64_t id) {
        for (size_t i = 0; i < servers->n; i++)
                if (servers->items[i].id == id)
                        return &servers->items[i];
        return NULL;
}

static int add_server(RaftServers *servers, const RaftChange *change) {
        RaftServer *items;

        items = realloc(servers->items, (servers->n + 1) * sizeof(*items));
        if (!items)
                return -ENOMEM;
        servers->items = items;
        items[servers->n] = (RaftServer) { .id = change->id,
                                           .address = strdup(change->address),
                                           .role = RAFT_ROLE_STANDBY };
        if (!items[servers->n].address)
                return -ENOMEM;
        servers->n++;
        return 0;
}

static int move_server(RaftServer *server, const RaftChange *change) {
        char *address = strdup(change->address);

        if (!address)
                return -ENOMEM;
        free(server->address);
        server->address = address;
        return 0;
}

/* Whether a majority of the voters without 'leaving' holds the configuration in force. A promotion can be
 * committed without the promoted server, which then does not vote, as it does not know that it may. */
static bool majority_knows(const RaftCore *c, uint64_t leaving) {
        unsigned voters = 0, know = 0;

        for (size_t i = 0; i < c->servers.n; i++) {
                const RaftServer *s = &c->servers.items[i];
                raft_index match;

                if (s->role != RAFT_ROLE_VOTER || s->id == leaving)
                        continue;
                voters++;
                know += raft_match_index(&c->raft, s->id, &match) == 0 &&
                        match >= c->raft.configuration_committed_index;
        }
        return know > voters / 2;
}

/* Whether 'change' may be made of the configuration in force; the sentence says why not. */
static int check_change(RaftCore *c, uint64_t now_ms, const RaftChange *change, const RaftServer *server,
                        Error *err) {
        bool needs_address = change->kind == RAFT_CHANGE_ADD || change->kind == RAFT_CHANGE_MOVE;
        bool shrinks = server && server->role == RAFT_ROLE_VOTER &&
                       (change->kind == RAFT_CHANGE_DEMOTE || change->kind == RAFT_CHANGE_REMOVE);

        if (change->id == 0)
                return error_set(err, -EINVAL, "a server's id must not be 0");
        if (needs_address &&
            (!change->address || !*change->address || strlen(change->address) > RAFT_ADDRESS_MAX))
                return error_set(err, -EINVAL, "server %llu needs an address",
                                 (unsigned long long) change->id);

        for (size_t i = 0; needs_address && i < c->servers.n; i++)
                if (c->servers.items[i].id != change->id &&
                    streq(c->servers.items[i].address, change->address))
                        return error_set(err, -EEXIST, "address %s belongs to server %llu", change->address,
                                         (unsigned long long) c->servers.items[i].id);

        if (change->kind == RAFT_CHANGE_ADD) {
                if (server)
                        return error_set(err, -EEXIST, "server %llu is a member already",
                                         (unsigned long long) change->id);
                if (c->servers.n >= RAFT_SERVERS_MAX)
                        return error_set(err, -ENOSPC, "the configuration holds %d servers already",
                                         RAFT_SERVERS_MAX);
                return 0;
        }
        if (!server)
                return error_set(err, -ENOENT, "there is no server %llu", (unsigned long long) change->id);

        if (shrinks && c->rules.keep_leader && change->id == c->raft.id)
                return error_set(err, -EPERM,
                                 "the leader does not remove or demote itself: hand leadership over first");
        if (shrinks && c->rules.one_leader_first && !change->force &&
            raft_configuration_voters(&c->raft.configuration) <= 3)
                return error_set(err, -EPERM, "that would leave fewer than three voters");
        if (shrinks && c->rules.majority_knows && !majority_knows(c, change->id))
                return error_set(err, -EAGAIN, "too few of the remaining voters have the configuration yet");
        if (change->kind == RAFT_CHANGE_DEMOTE && server->role != RAFT_ROLE_VOTER)
                return error_set(err, -EINVAL, "server %llu is no voter", (unsigned long long) change->id);
        if (change->kind == RAFT_CHANGE_PROMOTE && server->role == RAFT_ROLE_VOTER)
                return error_set(err, -EINVAL, "server %llu is a voter already",
                                 (unsigned long long) change->id);
        if (change->kind == RAFT_CHANGE_PROMOTE && c->rules.catch_up_first &&
            !raft_core_caught_up(c, now_ms, change->id))
                return error_set(err, -EAGAIN, "server %llu has not caught up yet",
                                 (unsigned long long) change->id);
        return 0;
}

static int make_change(RaftServers *servers, const RaftChange *change) {
        RaftServer *server = find_server(servers, change->id);

        switch (change->kind) {
        case RAFT_CHANGE_ADD:
                return add_server(servers, change);
        case RAFT_CHANGE_MOVE:
                return move_server(server, change);
        case RAFT_CHANGE_PROMOTE:
                server->role = RAFT_ROLE_VOTER;
                return 0;
        case RAFT_CHANGE_DEMOTE:
                server->role = RAFT_ROLE_STANDBY;
                return 0;
        case RAFT_CHANGE_REMOVE:
                free(server->address);
                memmove(server, server + 1,
                        (size_t) (servers->items + servers->n - (server + 1)) * sizeof(*server));
                servers->n--;
                return 0;
        }
        return -EINVAL;
}

/* The order of disk and network (below) holds back entries from the one about to be submitted on. */
static void order_change(RaftCore *c, uint64_t now_ms, const RaftChange *change, bool voter) {
        uint64_t index = raft_last_index(&c->raft) + 1;

        /* Promotion: the promoted server first. Were the entry on our disk alone and we restarted, or on
         * another voter's and we died, that configuration would count a voter that does not yet know it is
         * one, and denies its vote. */
        if (change->kind == RAFT_CHANGE_PROMOTE && c->rules.promotion_order) {
                c->held_from = index;
                c->held_for = change->id;
                c->held_since_ms = now_ms;
        }

        /* Demotion, removal: disk first, for the same reason the other way round. */
        if (voter && (change->kind == RAFT_CHANGE_DEMOTE || change->kind == RAFT_CHANGE_REMOVE) &&
            c->rules.demotion_order)
                c->unsent_from = index;
}

int raft_core_change(RaftCore *c, uint64_t now_ms, const RaftChange *change, uint64_t *ret_index,
                     Error *err) {
        _cleanup_(raft_servers_done) RaftServers servers = {};
        _cleanup_free_ void *bytes = NULL;
        const RaftServer *server;
        size_t size;
        bool voter;
        int r;

        assert(!c->busy);
        if (c->dead < 0)
                return c->dead;
        if (c->raft.state != RAFT_LEADER || raft_transferee(&c->raft) != 0)
                return error_set(err, -EREMOTE, "only the leader changes the configuration");
        if (raft_core_change_pending(c))
                return error_set(err, -EBUSY, "another change is not committed yet");
        /* An earlier leader may hold a change of the same configuration that nobody else knows: his majority
         * and ours need not meet. With an entry of our own term on a majority his can win no election any
         * more. */
        if (c->rules.own_term_first && !raft_core_leads(c))
                return error_set(err, -EBUSY, "nothing of this leader's own term is committed yet");

        server = find_server(&c->servers, change->id);
        voter = server && server->role == RAFT_ROLE_VOTER;
        r = check_change(c, now_ms, change, server, err);
        if (r < 0)
                return r;

        r = raft_servers_copy(&c->raft.configuration, &servers);
        if (r == 0)
                r = make_change(&servers, change);
        if (r == 0)
                r = raft_configuration_encode_servers(&servers, &bytes, &size);
        if (r < 0)
                return error_set(err, r, "cannot make the new configuration: %s", strerror(-r));

        order_change(c, now_ms, change, voter);
        return core_submit_change(c, now_ms, bytes, size, ret_index);
}

int raft_core_transfer(RaftCore *c, uint64_t now_ms, uint64_t id) {
        if (c->dead < 0)
                return c->dead;
        if (c->raft.state != RAFT_LEADER)
                return -EREMOTE;
        if (raft_transferee(&c->raft) != 0 || c->held_from > 0)
                return -EBUSY;

        return core_transfer(c, now_ms, id);
}

uint64_t raft_core_transferee(const RaftCore *c) {
        return raft_transferee(&c->raft);
}

const RaftServers *raft_core_servers(const RaftCore *c) {
        return &c->servers;
}

RaftServerRole raft_core_role(const RaftCore *c) {
        for (size_t i = 0; i < c->servers.n; i++)
                if (c->servers.items[i].id == c->raft.id)
                        return c->servers.items[i].role;
        return RAFT_ROLE_NONE;
}

bool raft_core_change_pending(const RaftCore *c) {
        return c->raft.configuration_uncommitted_index > 0;
}

uint64_t raft_core_committed_configuration_index(const RaftCore *c) {
        return c->raft.configuration_committed_index;
}

int raft_core_match_index(const RaftCore *c, uint64_t id, uint64_t *ret) {
        raft_index match;
        int r;

        r = raft_match_index(&c->raft, id, &match);
        if (r == RAFT_BADID)
                return -ENOENT;
        if (r != 0)
                return raft_errno(r);

        *ret = match;
        return 0;
}

bool raft_core_caught_up(const RaftCore *c, uint64_t now_ms, uint64_t id) {
        for (size_t i = 0; i < c->n_peers; i++)
                if (c->peers[i].id == id)
                        return c->peers[i].close_since_ms > 0 &&
                               now_ms - c->peers[i].close_since_ms >= CATCH_UP_MS;
        return false;
}
