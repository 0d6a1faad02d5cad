#include "fleetd/engine/brake.h"

#include <errno.h>

void brake_done(Brake *brake) {
        free(brake->hosts);
        *brake = (Brake) {};
}

static int brake_compare_losses(const void *a, const void *b) {
        const ClusterMachine *m = *(const ClusterMachine *const *) a, *n = *(const ClusterMachine *const *) b;

        if (m->since_ms != n->since_ms)
                return m->since_ms < n->since_ms ? -1 : 1;
        return strcmp(m->id, n->id);
}

/* Keep those of the lost hosts, sorted by time, that belong to a window with too many losses. Return their
 * number. */
static size_t brake_keep_groups(const ClusterMachine **lost, size_t n, size_t total) {
        size_t kept = 0, end = 0; /* hosts before 'end' are in such a window */

        for (size_t i = 0; i < n; i++) {
                size_t last = i;

                while (last + 1 < n && lost[last + 1]->since_ms - lost[i]->since_ms <= BRAKE_WINDOW_MS)
                        last++;
                if (last + 1 - i >= 2 && (last + 1 - i) * 3 > total && last + 1 > end)
                        end = last + 1;
                if (i < end)
                        lost[kept++] = lost[i];
        }
        return kept;
}

int brake_update(const Cluster *cluster, uint64_t brake_ms,
                 bool (*is_through)(void *userdata, const ClusterMachine *host), void *userdata, Brake *ret) {
        _cleanup_free_ const ClusterMachine **lost = NEW0(const ClusterMachine *,
                                                          HASH_COUNT(cluster->machines) + 1);
        size_t n = 0, total = 0;
        uint64_t until_ms;

        if (!lost)
                return -ENOMEM;

        for (const ClusterMachine *m = cluster->machines; m; m = m->hh.next) {
                if (m->presence_index == 0 || m->presence == PRESENCE_LEFT)
                        continue;
                total++;
                if (m->presence == PRESENCE_LOST)
                        lost[n++] = m;
        }
        qsort(lost, n, sizeof(*lost), brake_compare_losses);

        *ret = (Brake) { .again_ms = UINT64_MAX, .n = brake_keep_groups(lost, n, total) };
        if (ret->n == 0)
                return 0;

        until_ms = lost[ret->n - 1]->since_ms + brake_ms;
        if (cluster->now_ms < until_ms)
                ret->again_ms = until_ms - cluster->now_ms;
        else {
                /* The first host that is not through is released, too; the hosts after it wait. */
                while (ret->n_free < ret->n && is_through(userdata, lost[ret->n_free]))
                        ret->n_free++;
                if (ret->n_free < ret->n)
                        ret->n_free++;
        }
        ret->hosts = TAKE_PTR(lost);
        return 0;
}

bool brake_holds(const Brake *brake, const ClusterMachine *machine) {
        for (size_t i = brake->n_free; i < brake->n; i++)
                if (brake->hosts[i] == machine)
                        return true;
        return false;
}
