/* Units that stay where their data is: which they are, and which machine that is. */
#pragma once

#include "fleetd/registry/cluster.h"

/* Return the option, as written, by which the unit has data on its machine: of its own file, else of a unit
 * that follows it (MachineOf=), also by way of others. *ret_of (may be NULL): the unit with that file. NULL:
 * it has none. */
const char *cluster_unit_data(const Cluster *c, const ClusterUnit *u, const ClusterUnit **ret_of);
/* Return whether the unit stays where its data is, by Sticky= or the setting of the cluster; for units that
 * the view does not have, as the draft of a plan. Of the others, ClusterUnit.sticky has it. */
bool cluster_unit_is_sticky(const Cluster *c, const ClusterUnit *u);
enum { DATA_TEXT_SIZE = 128 };
/* The same for people, in 'buffer': "StateDirectory=db", "db.container: Volume=pgdata", else "Sticky=yes". */
const char *cluster_data_text(const Cluster *c, const ClusterUnit *u, char buffer[static DATA_TEXT_SIZE]);
/* Return the ID of the machine with the data of the unit: on which it last ran. Until the leader has recorded
 * that, the machine on which it is up counts. NULL: it has run nowhere. The machine may be unknown. */
const char *cluster_data_machine(const ClusterUnit *u);
/* Return the ID of the only machine on which a sticky unit may run: with its data, or to which people move
 * it. NULL: it is not sticky, or has run nowhere. */
const char *cluster_bound_machine(const ClusterUnit *u);
/* Return the unit by which this one stays on the machine: itself, or one that is there and that it follows
 * (MachineOf=), also by way of others, has its data there, and no request moves it. NULL: none. */
const ClusterUnit *cluster_data_holder(const ClusterUnit *u, const ClusterMachine *m);
/* After a recovery or a restore, return a host that has not reported since, and on which the unit may have
 * run after its record was written: the first one by ID. NULL: none, or the unit has been up since, or a
 * request since then moves it. */
const ClusterMachine *cluster_data_newer(const Cluster *c, const ClusterUnit *u);
/* Set what people should know about the data of the unit: that it stays where that is, that it may move to a
 * machine without, or that this is not known. Return whether there is something, which changes no state. */
bool cluster_data_note(const Cluster *c, const ClusterUnit *u, Verdict *ret);
/* Return whether the text says that another machine takes over: MaxSurge=, or ReplaceAfterSec= with a time.
 */
static inline bool cluster_takes_over(const Placement *p) {
        return p->update.max_surge.value > 0 ||
               (p->replace_after_ms > 0 && p->replace_after_ms != REPLACE_NEVER);
}

/* -- Kept in the cluster view -- */

/* Decide again whether the unit, and the ones that it follows, stay where their data is: after a change of
 * its text. */
void cluster_update_sticky(Cluster *c, ClusterUnit *u);
/* The same of the ones that it follows alone. */
void cluster_update_leads(Cluster *c, ClusterUnit *u);
/* The same of all units: after a change of the setting, of the feature level, or of the lineage. */
void cluster_update_all_sticky(Cluster *c);
