/* Reports: heartbeats of attached hosts end at the replica that they use. Each replica counts their signs of
 * life in ticks, and sends what is not normal to the leader, which alone decides. Pure, but for the bytes.
 *
 * PEER_REPORT: u8 version, u8 flags, varint n and n machine IDs (16 bytes each) of hosts that are not
 * attached any more, then up to the end of the frame a machine ID and u8 signs of each host that is new or
 * not normal. The hosts of earlier reports that are not listed had contact. */
#pragma once

#include "base/bytes.h"
#include "base/sizes.h"
#include "fleetd/membership/liveness.h"

enum {
        REPORT_PROTOCOL = 1,
        REPORT_VALID_MS = 1500, /* a replica that is silent for longer does not count for its hosts */
};

/* The sign of a host at one replica. */
typedef struct ReportedSign {
        LivenessSign sign;
        bool in_use; /* it uses this replica; otherwise its session here is idle */
} ReportedSign;

/* What a replica has told the leader. All zero: nothing. */
typedef struct Reporter {
        Named *told;      /* by machine ID */
        uint64_t session; /* to the leader: on another one, the next report is complete */
} Reporter;

/* Begin a report on a session; then add all attached hosts, in any order, and end it. 'kept': this tick was
 * in time, and this replica has a leader. */
void report_begin(Reporter *r, uint64_t session, bool kept, Writer *w);
/* 0 or -ENOMEM: the next report is complete. */
int report_add(Reporter *r, const char *machine_id, const ReportedSign *sign);
void report_end(Reporter *r, Writer *w);
void reporter_done(Reporter *r);

/* The reports that the leader has. All zero: none. */
typedef struct Reports {
        Named *replicas; /* by machine ID */
} Reports;

/* Take a report of a replica. -EBADMSG: it counts for nothing, and the replica must be asked for a new
 * session; -ENOMEM. */
int reports_take(Reports *r, const char *replica, uint64_t session, uint64_t now_ms, const void *bytes,
                 size_t size);
/* Return the sign of a host by the reports, with 'own', the sign at the leader itself; NULL: no session here.
 * The replica in use decides, as long as it reports; without one the best of the others. 'ret_attached': some
 * replica has a session of the host. */
LivenessSign reports_sign(const Reports *r, const char *machine_id, const ReportedSign *own, uint64_t now_ms,
                          bool *ret_attached);
void reports_done(Reports *r);
