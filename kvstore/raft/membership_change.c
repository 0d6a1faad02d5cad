/* Membership changes. The engine checks neither the content of a configuration nor the order of disk and
 * network; this file does. */

#include "kvstore/raft/core_internal.h"

enum { CATCH_UP_MS = 2000 }; /* a server has to be close for this time before its promotion */

static RaftServer *find_server(RaftServers *servers, uint64_t id) {
        for (size_t i = 0; i < servers->n; i++)
                if (servers->items[i].id == id)
                        return &servers->items[i];
        return NULL;
}

static int set_address(RaftServer *server, const char *address) {
        char *copy = strdup(address);

        if (!copy)
                return -ENOMEM;
        free(server->address);
        server->address = copy;
        return 0;
}

/* Return whether a majority of the voters without 'leaving' holds the configuration in force. A promotion can
 * be committed without the promoted server. That server then does not vote: it is not a voter by its own
 * configuration. */
static bool majority_is_informed(const RaftCore *c, uint64_t leaving) {
        unsigned voters = 0, informed = 0;

        for (size_t i = 0; i < c->servers.n; i++) {
                const RaftServer *s = &c->servers.items[i];
                raft_index match;

                if (s->role != RAFT_ROLE_VOTER || s->id == leaving)
                        continue;
                voters++;
                informed += raft_match_index(&c->raft, s->id, &match) == 0 &&
                            match >= c->raft.configuration_committed_index;
        }
        return informed > voters / 2;
}

/* Check whether 'change' of the configuration in force is allowed. */
static int check_change(RaftCore *c, uint64_t now_ms, const RaftChange *change, const RaftServer *server,
                        Error *err) {
        bool needs_address = change->kind == RAFT_CHANGE_ADD || change->kind == RAFT_CHANGE_MOVE;
        bool shrinks = server && server->role == RAFT_ROLE_VOTER &&
                       (change->kind == RAFT_CHANGE_DEMOTE || change->kind == RAFT_CHANGE_REMOVE);

        if (change->id == 0)
                return error_set(err, -EINVAL, "a server's ID must not be 0");
        if (needs_address &&
            (!change->address || !*change->address || strlen(change->address) > RAFT_ADDRESS_MAX))
                return error_set(err, -EINVAL, "server %" PRIu64 " needs an address", change->id);

        for (size_t i = 0; needs_address && i < c->servers.n; i++)
                if (c->servers.items[i].id != change->id &&
                    streq(c->servers.items[i].address, change->address))
                        return error_set(err, -EEXIST, "address %s belongs to server %" PRIu64,
                                         change->address, c->servers.items[i].id);

        if (change->kind == RAFT_CHANGE_ADD) {
                if (server)
                        return error_set(err, -EEXIST, "server %" PRIu64 " is a member already", change->id);
                if (c->servers.n >= RAFT_SERVERS_MAX)
                        return error_set(err, -ENOSPC, "the configuration holds %d servers already",
                                         RAFT_SERVERS_MAX);
                return 0;
        }
        if (!server)
                return error_set(err, -ENOENT, "there is no server %" PRIu64, change->id);

        if (shrinks && !c->off.keep_leader && change->id == c->raft.id)
                return error_set(err, -EPERM,
                                 "the leader does not remove or demote itself: transfer leadership first");
        if (shrinks && !c->off.three_voters && !change->force &&
            raft_configuration_voters(&c->raft.configuration) <= 3)
                return error_set(err, -EPERM, "that would leave fewer than three voters");
        if (shrinks && !c->off.informed_majority && !majority_is_informed(c, change->id))
                return error_set(err, -EAGAIN, "too few of the remaining voters have the configuration yet");
        if (change->kind == RAFT_CHANGE_DEMOTE && server->role != RAFT_ROLE_VOTER)
                return error_set(err, -EINVAL, "server %" PRIu64 " is no voter", change->id);
        if (change->kind == RAFT_CHANGE_PROMOTE && server->role == RAFT_ROLE_VOTER)
                return error_set(err, -EINVAL, "server %" PRIu64 " is a voter already", change->id);
        if (change->kind == RAFT_CHANGE_PROMOTE && !c->off.catch_up_first &&
            !raft_core_caught_up(c, now_ms, change->id))
                return error_set(err, -EAGAIN, "server %" PRIu64 " has not caught up yet", change->id);
        return 0;
}

static int make_change(RaftServers *servers, const RaftChange *change) {
        RaftServer *server = find_server(servers, change->id);

        switch (change->kind) {
        case RAFT_CHANGE_ADD:
                server = &servers->items[servers->n++]; /* raft_servers_copy() left room for it */
                *server = (RaftServer) { .id = change->id, .role = RAFT_ROLE_STANDBY };
                return set_address(server, change->address);
        case RAFT_CHANGE_MOVE:
                return set_address(server, change->address);
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

/* Hold back the entry that is about to be submitted, from the disk or from the network. */
static void order_change(RaftCore *c, uint64_t now_ms, const RaftChange *change, bool voter) {
        uint64_t index = raft_last_index(&c->raft) + 1;

        /* Promotion: the promoted server first. If only this host's disk, or another voter's, had the entry
         * when this host fails, that configuration would count a voter without the configuration, which
         * denies its vote. */
        if (change->kind == RAFT_CHANGE_PROMOTE && !c->off.promotion_order) {
                c->held_from = index;
                c->held_for = change->id;
                c->held_since_ms = now_ms;
        }

        /* Demotion, removal: disk first, for the converse reason. */
        if (voter && (change->kind == RAFT_CHANGE_DEMOTE || change->kind == RAFT_CHANGE_REMOVE) &&
            !c->off.demotion_order)
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
        /* An earlier leader may hold another change of the same configuration, which no other server has. The
         * majorities of the two configurations need not intersect. Once a majority holds an entry of this
         * term, the earlier leader can win no election. */
        if (!c->off.own_term_first && !raft_core_leads(c))
                return error_set(err, -EBUSY, "nothing of this leader's own term is committed yet");

        server = find_server(&c->servers, change->id);
        voter = server && server->role == RAFT_ROLE_VOTER;
        TRY(check_change(c, now_ms, change, server, err));

        r = raft_servers_copy(&c->raft.configuration, &servers);
        if (r == 0)
                r = make_change(&servers, change);
        if (r == 0)
                r = raft_configuration_encode_servers(&servers, &bytes, &size);
        if (r < 0)
                return error_set(err, r, "Failed to make the new configuration: %s", strerror(-r));

        order_change(c, now_ms, change, voter);
        return core_submit_change(c, now_ms, bytes, size, ret_index);
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
