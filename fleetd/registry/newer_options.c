/* The options of units that begin at a feature level. */
#include <errno.h>

#include "fleetd/registry/cluster.h"
#include "kvstore/command/command.h"

int cluster_check_options(const Unit *unit, unsigned level, Error *err) {
        const Placement *p = &unit->placement;
        const struct {
                bool used;
                unsigned level;
                const char *option;
        } rows[] = {
                { p->singleton, KV_LEVEL_ATTACHED, "Singleton=yes" },
                { p->replace_after_ms > 0, KV_LEVEL_REVISIONS, "ReplaceAfterSec=" },
                { p->stops_alone, KV_LEVEL_REVISIONS, "OnPartition=stop" },
        };

        for (size_t i = 0; level > 0 && i < ELEMENTS(rows); i++)
                if (rows[i].used && level < rows[i].level)
                        return error_set(err, -EOPNOTSUPP,
                                         "%s begins at feature level %u, and this cluster has level %u; when "
                                         "all hosts run this version: fleetctl cluster level %u",
                                         rows[i].option, rows[i].level, level, rows[i].level);
        return 0;
}
