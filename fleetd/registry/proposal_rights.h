/* Rights of other hosts to propose commands: the leader's check.
 *
 * The host that received a request has checked its sender. The leader checks again what depends on the host:
 * a host may not claim more than its own rights, and no host writes what only the leader or another host may
 * write, nor learns by a check what it may not read. Pure. */
#pragma once

#include "fleetd/registry/cluster.h"
#include "kvstore/kvstore.h"

/* Of one host without a replica. */
enum {
        HOST_STATES_MAX = 1000,     /* states that it reports beside those of the units assigned to it */
        HOST_PROBLEMS_MAX = 2000,   /* of its unit directory; twice what that reports at once */
        HOST_REPORT_SIZE_MAX = 8192 /* bytes of one of them */
};

/* Return 0 if the host may propose the command for 'principal', the text of a Principal; size 0: for itself,
 * with all its rights. An ordinary host can claim every right of an operator, because root on it is one.
 * 'relay' is the machine that has sent the command of a host without a replica; NULL: that host itself. Only
 * a replica may relay. -EACCES, -EPERM (inputs_check_write()), -EDQUOT or -EINVAL, and a message; -ENOMEM. */
int proposal_check(const Cluster *cluster, const char *relay, const char *machine_id, KvBytes principal,
                   const KvCommand *cmd, Error *err);

/* Return what a permitted command reports about the host, as a set of KvReport. */
unsigned proposal_reports(const char *machine_id, const KvCommand *cmd);

/* Return whether clients of the host, with the rights that it has itself, may read a key. A host receives its
 * slice without this right. */
bool host_may_read(const Cluster *cluster, const char *machine_id, KvBytes key);
