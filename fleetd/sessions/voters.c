#include "fleetd/sessions/voters.h"

const VotersSpans voters_spans = {
        .up_ms = 5 * 60000,
        .silent_ms = 10 * 60000,
        .led_ms = 5 * 60000,
        .spread_ms = 10 * 60000,
        .many_ms = 10 * 60000,
        .few_ms = 60 * 60000,
};

static const char *const action_names[_VOTERS_ACTION_MAX] = {
        [VOTERS_NOTHING] = "nothing", [VOTERS_ADD] = "add",       [VOTERS_PROMOTE] = "promote",
        [VOTERS_DEMOTE] = "demote",   [VOTERS_REMOVE] = "remove", [VOTERS_VACATE] = "vacate",
        [VOTERS_RETIRE] = "retire",   [VOTERS_ASSIGN] = "assign",
};

const char *voters_action_name(VotersAction action) {
        return action >= 0 && action < _VOTERS_ACTION_MAX ? action_names[action] : NULL;
}

typedef struct Configuration {
        const VotersInput *in;
        const KvMember *members;
        size_t n, n_voters, n_standbys, n_voters_reachable;
        size_t n_kept;    /* voters with an owner that does not leave */
        unsigned setting; /* the number of voters, if there are hosts enough */
        unsigned wanted;
        bool complete; /* the cluster view has the keys of all members */
} Configuration;

_printf_(4, 5) static void voters_decide(VotersChange *ret, VotersAction action, const KvMember *m,
                                         const char *format, ...) {
        va_list ap;

        ret->action = action;
        ret->raft_id = m->raft_id;
        snprintf(ret->address, sizeof(ret->address), "%s", m->address);
        va_start(ap, format);
        text_format_list(ret->reason, sizeof(ret->reason), format, ap);
        va_end(ap);
}

/* -- Members and their machines -- */

static const ClusterMachine *voters_owner(const Configuration *c, uint64_t raft_id) {
        const ClusterMachine *m = cluster_machine_of_member(c->in->cluster, raft_id);

        return m && (cluster_machine_successor(m) || cluster_machine_is_removed(m)) ? NULL : m;
}

static const KvMember *voters_member(const Configuration *c, uint64_t raft_id) {
        for (size_t i = 0; i < c->n; i++)
                if (c->members[i].raft_id == raft_id)
                        return &c->members[i];
        return NULL;
}

static size_t voters_majority(size_t n) {
        return n / 2 + 1;
}

static uint64_t voters_since(const Cluster *cluster, const ClusterMachine *m) {
        return cluster->now_ms > m->since_ms ? cluster->now_ms - m->since_ms : 0;
}

/* While the key of the leader's machine is missing, or a member key is unreadable, the cluster view is
 * incomplete: no member counts as abandoned or surplus. */
static bool voters_view_is_complete(const Configuration *c) {
        if (!voters_owner(c, c->in->leader_id))
                return false;
        if (c->in->cluster->counts[MACHINES_UNREADABLE] == 0)
                return true;
        for (const ClusterMachine *m = c->in->cluster->machines; m; m = m->hh.next)
                if (cluster_machine_has_unreadable(m, LAYOUT_MEMBER))
                        return false;
        return true;
}

/* By metadata that people set: voter=no. */
static bool voters_is_excluded(const ClusterMachine *m) {
        return same_string(pairs_get(&m->metadata, "voter"), "no");
}

/* A host that leaves the cluster gives up its vote when it has no units any more. */
static bool voters_may_vote(const ClusterMachine *m) {
        return !voters_is_excluded(m) && !cluster_machine_is_drained(m) &&
               m->verdict.of != VERDICT_OF_REPLICA;
}

/* A standby that can become a voter now. */
static bool voters_is_ready(const Configuration *c, const KvMember *m) {
        const ClusterMachine *owner = voters_owner(c, m->raft_id);

        return m->role == KV_MEMBER_STANDBY && m->reachable && m->match + VOTERS_BEHIND_MAX >= c->in->last &&
               owner && voters_may_vote(owner);
}

/* A voter that has been silent for so long that another host takes its place. */
static bool voters_is_silent(const Configuration *c, const KvMember *m) {
        const ClusterMachine *owner = voters_owner(c, m->raft_id);

        return m->role == KV_MEMBER_VOTER && !m->reachable && m->raft_id != c->in->leader_id && owner &&
               owner->presence != PRESENCE_UP &&
               voters_since(c->in->cluster, owner) >= c->in->spans->silent_ms;
}

/* A voter with an owner that does not leave. */
static bool voters_is_kept(const Configuration *c, const KvMember *m) {
        const ClusterMachine *owner = voters_owner(c, m->raft_id);

        return owner && !cluster_machine_is_drained(owner);
}

/* -- How many vote -- */

/* Return the wanted number if there are hosts enough. */
static unsigned voters_setting(const Configuration *c) {
        const Cluster *cluster = c->in->cluster;
        size_t n_long = 0, n_recent = 0; /* up for long; up within the last 'few_ms' */

        if (c->in->voters > 0)
                return c->in->voters;
        for (const ClusterMachine *m = cluster->machines;
             m && (n_long < VOTERS_MANY || n_recent < VOTERS_FEW); m = m->hh.next) {
                uint64_t since_ms = voters_since(cluster, m);

                if (cluster_machine_is_removed(m))
                        continue;
                n_long += m->presence == PRESENCE_UP && since_ms >= c->in->spans->many_ms;
                n_recent += m->presence == PRESENCE_UP || since_ms < c->in->spans->few_ms;
        }
        if (c->n_voters > 3)
                return n_recent < VOTERS_FEW ? 3 : 5;
        return n_long >= VOTERS_MANY ? 5 : 3;
}

static unsigned voters_wanted(const Configuration *c) {
        unsigned wanted = c->setting;
        const ClusterMachine *m;
        size_t n_hosts = 0;

        LIST_FOREACH(m, &c->in->cluster->members, of_members) {
                const KvMember *member = m->member.raft_id ? voters_member(c, m->member.raft_id) : NULL;

                if (m->member.raft_id == 0 || cluster_machine_is_drained(m) ||
                    voters_owner(c, m->member.raft_id) != m)
                        continue;
                /* A problem of its replica ends: the number of voters does not follow it. */
                n_hosts += !voters_is_excluded(m) || (member && member->role == KV_MEMBER_VOTER);
        }
        while (wanted > n_hosts && wanted > 1)
                wanted -= 2;
        return wanted;
}

/* -- Members without a key, and keys without a member -- */

/* Return a member that no machine owns, a voter or a standby. */
static const KvMember *voters_abandoned(const Configuration *c, bool voters) {
        for (size_t i = 0; i < c->n && c->complete; i++) {
                const KvMember *m = &c->members[i];

                if ((m->role == KV_MEMBER_VOTER) == voters && m->raft_id != c->in->leader_id &&
                    !voters_owner(c, m->raft_id))
                        return m;
        }
        return NULL;
}

/* Return whether a majority of the voters without this one is reachable. */
static bool voters_can_spare(const Configuration *c, const KvMember *m) {
        return c->n_voters_reachable - m->reachable >= voters_majority(c->n_voters - 1);
}

static bool voters_remove_abandoned(const Configuration *c, VotersChange *ret) {
        const KvMember *m = voters_abandoned(c, false);

        if (m) {
                voters_decide(ret, VOTERS_REMOVE, m, "no host has its Raft id %llu any more",
                              (unsigned long long) m->raft_id);
                return true;
        }

        m = voters_abandoned(c, true);
        if (!m || c->n_voters <= c->wanted || !voters_can_spare(c, m))
                return false;
        ret->force = c->n_voters <= 3;
        voters_decide(ret, VOTERS_REMOVE, m, "no host has its Raft id %llu any more, and enough others vote",
                      (unsigned long long) m->raft_id);
        return true;
}

/* No two members may have one address. */
static const KvMember *voters_member_at(const Configuration *c, const char *address) {
        for (size_t i = 0; i < c->n; i++)
                if (streq(c->members[i].address, address))
                        return &c->members[i];
        return NULL;
}

static bool voters_add_standby(const Configuration *c, VotersChange *ret) {
        const ClusterMachine *first = NULL, *owner, *m;
        const KvMember *occupant;

        if (c->n_standbys >= VOTERS_STANDBYS_MAX || c->n >= KV_MEMBERS_MAX)
                return false;

        LIST_FOREACH(m, &c->in->cluster->members, of_members) {
                if (m->member.raft_id == 0 || !m->member.peer[0] || m->presence != PRESENCE_UP ||
                    cluster_machine_is_leaving(m) || voters_member(c, m->member.raft_id))
                        continue;
                occupant = voters_member_at(c, m->member.peer);
                owner = occupant ? voters_owner(c, occupant->raft_id) : NULL;
                /* The address in the configuration is outdated after the occupant has moved. */
                if (owner && (!owner->member.peer[0] || streq(owner->member.peer, m->member.peer)))
                        continue;
                if (!first || strcmp(m->id, first->id) < 0)
                        first = m;
        }
        if (!first)
                return false;

        /* The host has lost its state, and too few members vote to remove its former one now. */
        occupant = voters_member_at(c, first->member.peer);
        if (occupant) {
                voters_decide(ret, VOTERS_VACATE, occupant, "%s is at its address now",
                              cluster_machine_name(first));
                return true;
        }

        KvMember fresh = { .raft_id = first->member.raft_id };

        memcpy(fresh.address, first->member.peer, sizeof(fresh.address));
        voters_decide(ret, VOTERS_ADD, &fresh, "%s is to hold a replica", cluster_machine_name(first));
        return true;
}

/* -- Spread -- */

static const char *voters_value_of(const Cluster *cluster, uint64_t raft_id, const char *spread) {
        const ClusterMachine *m = cluster_machine_of_member(cluster, raft_id);

        return m ? pairs_get(&m->metadata, spread) ?: "" : "";
}

static const char *voters_value(const Configuration *c, const KvMember *m) {
        return c->in->spread && *c->in->spread ? voters_value_of(c->in->cluster, m->raft_id, c->in->spread) :
                                                 "";
}

/* Return how many voters other than 'without' share the value of 'm'. 'm' does not count. */
static size_t voters_sharing(const Configuration *c, const KvMember *m, const KvMember *without) {
        const char *value = voters_value(c, m);
        size_t n = 0;

        for (size_t i = 0; i < c->n && c->in->spread && *c->in->spread; i++)
                n += c->members[i].role == KV_MEMBER_VOTER && &c->members[i] != m &&
                     &c->members[i] != without && streq(voters_value(c, &c->members[i]), value);
        return n;
}

const char *voters_critical_value(const KvMember *members, size_t n_members, const Cluster *cluster,
                                  const char *spread) {
        VotersInput in = { .members = members, .n_members = n_members, .cluster = cluster, .spread = spread };
        Configuration c = { .in = &in, .members = members, .n = n_members };
        size_t n_voters = 0;

        for (size_t i = 0; i < n_members; i++)
                n_voters += members[i].role == KV_MEMBER_VOTER;
        for (size_t i = 0; i < n_members && n_voters > 1 && spread && *spread; i++)
                if (members[i].role == KV_MEMBER_VOTER &&
                    n_voters - 1 - voters_sharing(&c, &members[i], NULL) < voters_majority(n_voters))
                        return voters_value(&c, &members[i]);
        return NULL;
}

/* -- Promotion -- */

/* Whether 'm' is a better voter than 'other' in place of 'without'. */
static bool voters_is_better(const Configuration *c, const KvMember *m, const KvMember *other,
                             const KvMember *without) {
        const ClusterMachine *a = voters_owner(c, m->raft_id), *b = voters_owner(c, other->raft_id);
        size_t n_a = voters_sharing(c, m, without), n_b = voters_sharing(c, other, without);

        if (n_a != n_b)
                return n_a < n_b;
        if (a->since_ms != b->since_ms)
                return a->since_ms < b->since_ms;
        return strcmp(a->id, b->id) < 0;
}

/* Return the best standby that can become a voter, and how many can. 'tried': only hosts that have been up
 * for 'up_ms'. */
static const KvMember *voters_candidate(const Configuration *c, bool tried, const KvMember *without,
                                        size_t *ret_n) {
        const KvMember *best = NULL;

        *ret_n = 0;
        for (size_t i = 0; i < c->n; i++) {
                const KvMember *m = &c->members[i];
                const ClusterMachine *owner = voters_owner(c, m->raft_id);

                if (!voters_is_ready(c, m) ||
                    (tried && (owner->presence != PRESENCE_UP ||
                               voters_since(c->in->cluster, owner) < c->in->spans->up_ms)))
                        continue;
                ++*ret_n;
                if (!best || voters_is_better(c, m, best, without))
                        best = m;
        }
        return best;
}

static bool voters_one_version(const Configuration *c) {
        const ClusterMachine *m;
        uint64_t level = 0;

        LIST_FOREACH(m, &c->in->cluster->members, of_members) {
                if (m->member.raft_id == 0 || m->presence != PRESENCE_UP)
                        continue;
                if (level != 0 && m->member.level != level)
                        return false;
                level = m->member.level;
        }
        return true;
}

/* Return the voter that another host is to replace because it has been silent for long. */
static const KvMember *voters_to_replace(const Configuration *c) {
        const KvMember *silent = NULL;

        for (size_t i = 0; i < c->n; i++)
                if (voters_is_silent(c, &c->members[i]))
                        silent = &c->members[i];
        if (!silent || c->in->paused || c->in->led_ms < c->in->spans->led_ms ||
            c->n_voters_reachable + 1 != c->n_voters || !voters_one_version(c))
                return NULL;
        return silent;
}

/* Return the voter in whose place 'candidate' gives a better spread; NULL: none. */
static const KvMember *voters_to_spread(const Configuration *c, const KvMember *candidate) {
        const KvMember *crowded = NULL;

        if (c->in->paused || c->in->spread_ms < c->in->spans->spread_ms ||
            c->in->led_ms < c->in->spans->led_ms || c->n_voters_reachable != c->n_voters)
                return NULL;
        for (size_t i = 0; i < c->n; i++) {
                const KvMember *m = &c->members[i];

                if (m->role == KV_MEMBER_VOTER && m->raft_id != c->in->leader_id &&
                    (!crowded || voters_sharing(c, m, NULL) > voters_sharing(c, crowded, NULL)))
                        crowded = m;
        }
        return crowded && voters_sharing(c, candidate, crowded) < voters_sharing(c, crowded, NULL) ? crowded :
                                                                                                     NULL;
}

static bool voters_promote(const Configuration *c, VotersChange *ret) {
        const KvMember *best, *silent = voters_to_replace(c), *crowded;
        /* From one voter to five by way of three: there are no more than two standbys. */
        unsigned wanted = c->n_kept < 3 ? MIN(c->wanted, 3u) : c->wanted;
        size_t ready = 0, needed = wanted > c->n_kept ? wanted - c->n_kept : 0;

        if (c->n_voters_reachable + 1 < voters_majority(c->n_voters + 1) || c->n_voters > c->wanted)
                return false;

        /* Two voters could lose neither, and four no more than three: all the missing ones at once. In place
         * of a voter without a key, the host may be the same one, installed again. */
        if (needed > 0) {
                best = voters_candidate(c, c->n_voters >= 3 && c->n_kept == c->n_voters, NULL, &ready);
                if (ready < needed)
                        return false;
                if (c->n_kept < c->n_voters)
                        voters_decide(ret, VOTERS_PROMOTE, best, "it is to replace a voter");
                else
                        voters_decide(ret, VOTERS_PROMOTE, best,
                                      "it is caught up, and %zu of %u votes are taken", c->n_voters,
                                      c->wanted);
                return true;
        }

        best = voters_candidate(c, true, silent, &ready);
        if (best && silent) {
                voters_decide(
                        ret, VOTERS_PROMOTE, best, "it is to replace %s, which has been silent for %llu min",
                        cluster_machine_name(voters_owner(c, silent->raft_id)),
                        (unsigned long long) voters_since(c->in->cluster, voters_owner(c, silent->raft_id)) /
                                60000);
                return true;
        }
        crowded = best ? voters_to_spread(c, best) : NULL;
        if (!crowded)
                return false;
        voters_decide(ret, VOTERS_PROMOTE, best, "it spreads the voters over %s: %s instead of %s",
                      c->in->spread, voters_value(c, best), voters_value(c, crowded));
        ret->spreads = true;
        return true;
}

/* -- Fewer voters -- */

/* Whether 'm' is a worse voter than 'other'. */
static bool voters_is_worse(const Configuration *c, const KvMember *m, const KvMember *other) {
        const ClusterMachine *a = voters_owner(c, m->raft_id), *b = voters_owner(c, other->raft_id);

        if (cluster_machine_is_drained(a) != cluster_machine_is_drained(b))
                return cluster_machine_is_drained(a);
        if (voters_is_silent(c, m) != voters_is_silent(c, other))
                return voters_is_silent(c, m);
        if (m->reachable != other->reachable)
                return !m->reachable;
        if (voters_may_vote(a) != voters_may_vote(b))
                return !voters_may_vote(a);
        return voters_is_better(c, other, m, NULL);
}

static bool voters_demote(const Configuration *c, VotersChange *ret) {
        const KvMember *worst = NULL;
        const ClusterMachine *owner;

        if (!c->complete || c->n_voters <= c->wanted || c->n_voters_reachable < voters_majority(c->n_voters))
                return false;
        for (size_t i = 0; i < c->n; i++) {
                const KvMember *m = &c->members[i];

                /* The vote of a leader that leaves ends after a transfer: no other host gives up its own for
                 * that. */
                if (c->n_kept <= c->wanted && voters_is_kept(c, m))
                        continue;
                if (m->role == KV_MEMBER_VOTER && m->raft_id != c->in->leader_id &&
                    voters_owner(c, m->raft_id) && (!worst || voters_is_worse(c, m, worst)))
                        worst = m;
        }
        if (!worst || !voters_can_spare(c, worst))
                return false;

        owner = voters_owner(c, worst->raft_id);
        ret->force = c->n_voters <= 3;
        if (voters_is_silent(c, worst)) {
                memcpy(ret->machine_id, owner->id, sizeof(ret->machine_id));
                voters_decide(ret, VOTERS_RETIRE, worst,
                              "%s has been replaced: it has been silent for %llu min",
                              cluster_machine_name(owner),
                              (unsigned long long) voters_since(c->in->cluster, owner) / 60000);
        } else if (cluster_machine_is_drained(owner))
                voters_decide(ret, VOTERS_DEMOTE, worst, "%s is leaving the cluster",
                              cluster_machine_name(owner));
        else if (c->n == 2)
                voters_decide(ret, VOTERS_DEMOTE, worst, "of two hosts one votes");
        else
                voters_decide(ret, VOTERS_DEMOTE, worst, "%zu hosts vote, and %u are wanted", c->n_voters,
                              c->wanted);
        return true;
}

/* -- Hosts without a replica -- */

static bool voters_is_replica(const Configuration *c, const ClusterMachine *m) {
        return m->member.raft_id != 0 && voters_owner(c, m->member.raft_id) == m &&
               !cluster_machine_is_leaving(m);
}

/* A host without a replica that may get one. */
static bool voters_may_hold(const Configuration *c, const ClusterMachine *m) {
        const Cluster *cluster = c->in->cluster;

        return m->member.raft_id == 0 && m->presence == PRESENCE_UP && !cluster_machine_is_removed(m) &&
               !m->maintenance && LIST_EMPTY(&m->unreadable) && (m->host || !cluster->ca_roots) &&
               !(m->host && m->host->restricted) && (!m->facts || m->facts->level >= c->in->level) &&
               m->verdict.of != VERDICT_OF_REPLICA &&
               (!c->in->is_attached || c->in->is_attached(c->in->userdata, m->id));
}

static const char *voters_value_at(const Configuration *c, const ClusterMachine *m) {
        return c->in->spread && *c->in->spread ? pairs_get(&m->metadata, c->in->spread) ?: "" : "";
}

/* Return how many replicas have that value of the spread key. Each of many hosts is compared by it: this
 * reads the hosts with a member key only. */
static size_t voters_replicas_with(const Configuration *c, const char *value) {
        const ClusterMachine *m;
        size_t n = 0;

        LIST_FOREACH(m, &c->in->cluster->members, of_members)
                n += voters_is_replica(c, m) && streq(voters_value_at(c, m), value);
        return n;
}

static bool voters_is_better_host(const Configuration *c, const ClusterMachine *a, const ClusterMachine *b) {
        size_t n_a = voters_replicas_with(c, voters_value_at(c, a)),
               n_b = voters_replicas_with(c, voters_value_at(c, b));

        if (n_a != n_b)
                return n_a < n_b;
        if (voters_is_excluded(a) != voters_is_excluded(b))
                return voters_is_excluded(b);
        if (a->since_ms != b->since_ms)
                return a->since_ms < b->since_ms;
        return strcmp(a->id, b->id) < 0;
}

/* The best host for a replica; NULL: none. */
static const ClusterMachine *voters_next_host(const Configuration *c) {
        const ClusterMachine *best = NULL;

        for (const ClusterMachine *m = c->in->cluster->machines; c->in->attaches && m; m = m->hh.next)
                if (voters_may_hold(c, m) && (!best || voters_is_better_host(c, m, best)))
                        best = m;
        return best;
}

/* Return how many hosts hold a replica, or are to hold one; in *ret_standbys those that do not vote. A host
 * that was lost before it got one, as may be after a restore, does not count. */
static size_t voters_replicas(const Configuration *c, size_t *ret_standbys) {
        const ClusterMachine *m;
        size_t n = 0;

        *ret_standbys = 0;
        LIST_FOREACH(m, &c->in->cluster->members, of_members) {
                const KvMember *member = m->member.raft_id ? voters_member(c, m->member.raft_id) : NULL;

                if (!voters_is_replica(c, m) || (!member && presence_is_down(m->presence)))
                        continue;
                n++;
                *ret_standbys += !member || member->role != KV_MEMBER_VOTER;
        }
        return n;
}

static bool voters_assign(const Configuration *c, VotersChange *ret) {
        const ClusterMachine *host;
        size_t n_standbys;

        if (!c->complete || voters_replicas(c, &n_standbys) >= voters_hosts_max(c->setting) ||
            n_standbys >= VOTERS_STANDBYS_MAX)
                return false;
        host = voters_next_host(c);
        if (!host)
                return false;
        memcpy(ret->machine_id, host->id, sizeof(ret->machine_id));
        voters_decide(ret, VOTERS_ASSIGN, &(KvMember) {}, "%s is to hold a replica",
                      cluster_machine_name(host));
        return true;
}

/* Return the standby to give up first, or the key without a member; NULL: there is none. */
static const ClusterMachine *voters_worst_standby(const Configuration *c) {
        const ClusterMachine *worst = NULL, *m;

        LIST_FOREACH(m, &c->in->cluster->members, of_members) {
                const KvMember *member = m->member.raft_id ? voters_member(c, m->member.raft_id) : NULL;

                if (!voters_is_replica(c, m) || (member && member->role == KV_MEMBER_VOTER))
                        continue;
                if (!worst || (m->presence != PRESENCE_UP) > (worst->presence != PRESENCE_UP) ||
                    ((m->presence != PRESENCE_UP) == (worst->presence != PRESENCE_UP) &&
                     voters_is_better_host(c, worst, m)))
                        worst = m;
        }
        return worst;
}

static void voters_retire(VotersChange *ret, const ClusterMachine *m) {
        memcpy(ret->machine_id, m->id, sizeof(ret->machine_id));
        voters_decide(ret, VOTERS_RETIRE, &(KvMember) { .raft_id = m->member.raft_id }, "%s",
                      cluster_machine_name(m));
}

static const ClusterMachine *voters_gone_standby(const Configuration *c) {
        const ClusterMachine *m;

        LIST_FOREACH(m, &c->in->cluster->members, of_members) {
                const KvMember *member = m->member.raft_id ? voters_member(c, m->member.raft_id) : NULL;

                if (voters_is_replica(c, m) && !(member && member->role == KV_MEMBER_VOTER) &&
                    m->presence != PRESENCE_UP && voters_since(c->in->cluster, m) >= c->in->spans->silent_ms)
                        return m;
        }
        return NULL;
}

/* Return the standby that shares its value of the spread key with another replica; NULL: none, or it is not
 * time to look for one. */
static const ClusterMachine *voters_crowded_standby(const Configuration *c) {
        bool spreads = c->in->spread && *c->in->spread && c->in->spread_ms >= c->in->spans->spread_ms;
        const ClusterMachine *standby = spreads ? voters_worst_standby(c) : NULL;

        return standby && voters_replicas_with(c, voters_value_at(c, standby)) >= 2 ? standby : NULL;
}

/* A standby gives way to a host without a replica, which is searched among all hosts only then. */
static bool voters_exchange_standby(const Configuration *c, VotersChange *ret) {
        const ClusterMachine *gone, *standby, *next;
        const char *value;

        if (c->in->paused || c->in->led_ms < c->in->spans->led_ms || c->n_voters_reachable != c->n_voters)
                return false;
        gone = voters_gone_standby(c);
        standby = gone ?: voters_crowded_standby(c);
        next = standby ? voters_next_host(c) : NULL;
        if (!next)
                return false;
        value = voters_value_at(c, next);
        if (!gone &&
            (voters_since(c->in->cluster, next) < c->in->spans->up_ms || voters_replicas_with(c, value) > 0))
                return false;
        voters_retire(ret, standby);
        ret->spreads = !gone;
        if (gone)
                text_format(ret->reason, sizeof(ret->reason),
                            "%s has been silent for %llu min, and %s can hold a replica",
                            cluster_machine_name(gone),
                            (unsigned long long) voters_since(c->in->cluster, gone) / 60000,
                            cluster_machine_name(next));
        else
                text_format(ret->reason, sizeof(ret->reason), "the replicas spread over %s: %s instead of %s",
                            c->in->spread, value, voters_value_at(c, standby));
        return true;
}

static bool voters_retire_surplus(const Configuration *c, VotersChange *ret) {
        size_t n_standbys, n = voters_replicas(c, &n_standbys), max = voters_hosts_max(c->setting);
        const ClusterMachine *standby;

        if (!c->in->attaches || !c->complete || c->n_voters != c->wanted)
                return false;
        standby = n > max ? voters_worst_standby(c) : NULL;
        if (!standby)
                return voters_exchange_standby(c, ret);
        voters_retire(ret, standby);
        text_format(ret->reason, sizeof(ret->reason), "%zu hosts hold a replica, and %zu are wanted", n, max);
        return true;
}

void voters_plan(const VotersInput *input, VotersChange *ret) {
        Configuration c = { .in = input, .members = input->members, .n = input->n_members };

        *ret = (VotersChange) { .action = VOTERS_NOTHING };
        for (size_t i = 0; i < c.n; i++) {
                if (c.members[i].role == KV_MEMBER_VOTER) {
                        c.n_voters++;
                        c.n_voters_reachable += c.members[i].reachable;
                        c.n_kept += voters_is_kept(&c, &c.members[i]);
                } else
                        c.n_standbys++;
        }
        c.complete = voters_view_is_complete(&c);
        if (!c.complete)
                c.n_kept = c.n_voters;
        c.setting = voters_setting(&c);
        c.wanted = voters_wanted(&c);

        (void) (voters_remove_abandoned(&c, ret) || voters_add_standby(&c, ret) || voters_assign(&c, ret) ||
                voters_promote(&c, ret) || voters_demote(&c, ret) || voters_retire_surplus(&c, ret));
}
