#include "fleetd/identity/voters_limit.h"

size_t voters_others(const Cluster *cluster, const char *machine_id, const char *address) {
        size_t n = 0;

        for (const ClusterMachine *m = cluster->machines; m; m = m->hh.next) {
                const ClusterMachine *first = cluster->machines; /* at this address */

                if (m->member.raft_id == 0 || cluster_machine_is_removed(m) || streq(m->id, machine_id) ||
                    streq(m->member.peer, address))
                        continue;
                while (first != m &&
                       (first->member.raft_id == 0 || !streq(first->member.peer, m->member.peer)))
                        first = first->hh.next;
                n += first == m;
        }
        return n;
}

size_t voters_hosts_max(unsigned voters) {
        return (voters > 0 ? voters : 3) + VOTERS_STANDBYS_MAX;
}

size_t voters_hosts_limit(const Cluster *cluster, unsigned configured) {
        return voters_hosts_max(cluster_decides_voters(cluster) ?
                                        (unsigned) cluster_settings(cluster)->voters :
                                        MAX(configured, 3u));
}

int voters_refuse_host(size_t n, size_t max, int error, Error *err) {
        size_t voters = max - MIN(max, (size_t) VOTERS_STANDBYS_MAX);

        return error_set(
                err, error,
                "the cluster has %zu host%s, and with %zu voter%s and %d standbys, there are at most "
                "%zu: %s",
                n, plural(n), voters, plural(voters), VOTERS_STANDBYS_MAX, max,
                max < voters_hosts_max(5) ? "fleetctl init --voters=5 admits seven" :
                                            "fleetctl remove deletes one that is lost");
}
