/* Reports: heartbeats of attached hosts end at the replica that they use. Each replica counts their signs of
 * life in ticks, and sends what is not normal to the leader, which alone decides. Pure, but for the bytes.
 *
 * PEER_REPORT: u8 version, u8 flags (1: complete, 2: this tick counts), u64 term of the leader, varint tick,
 * varint n and n hosts that are not attached any more, then up to the end of the frame each host that is new
 * or not normal. A host is 16 bytes of its machine ID and u8 signs. The hosts of earlier reports that are not
 * listed had contact. An empty answer requests a complete report; one with u8 version and hosts names hosts
 * of which another one with the same machine ID uses another replica.
 *
 * A replica without contact with the leader sends its heartbeats to all others. Those report it like a host
 * that uses them: its units run, and it is not lost. */
#pragma once

#include <sys/queue.h>

#include "base/bytes.h"
#include "base/pace.h"
#include "base/sizes.h"
#include "base/table.h"
#include "fleetd/sessions/liveness.h"
#include "fleetd/sessions/report_hosts.h"

enum {
        REPORT_PROTOCOL = 1,
        REPORT_VALID_MS = 1500,   /* a replica that is silent for longer does not count for its hosts */
        REPORT_HOSTS_MAX = 65536, /* of one replica */
        REPORT_RARE_HOSTS =
                5000, /* with more that use it, a replica requests one heartbeat of each in a second */
        REPORT_RARE_TICKS = 2,   /* without such a one, until the session is silent */
        REPORT_IDLE_TICKS = 5,   /* the same of an idle session */
        REPORT_ENDED_TICKS = 20, /* for which a new leader learns how the last session of a host ended */
        REPORT_ENDS_TICKS = 4,   /* from the end of one session of a host to the end of all */
        REPORT_GRACE_MS = 3000,  /* from the end of a replica, for its hosts, and: */
        REPORT_ADMISSION = 500,  /* hosts that one replica admits in a second */
        REPORT_GRACE_MAX_MS = 60000,
        REPORT_RETURN_TICKS = 2,      /* without a host that returns, until the grace may end */
        REPORT_CLONE_TICKS = 10,      /* for which two replicas are in use by hosts with one machine ID */
        REPORT_CLONE_AGAIN_TICKS = 2, /* the same, while that is known: */
        REPORT_CLONE_KNOWN_TICKS = 600,
        /* Reports of its replica without contact, until the signs of the other one count: before the host is
         * lost. */
        REPORT_CLONE_SILENT_TICKS = LIVENESS_LOST_TICKS - 1,
};

/* -- A replica -- */

/* A host with a session to this replica, or whose session has ended. What a heartbeat reads is together. */
typedef struct ReporterHost {
        UT_hash_handle hh;
        char machine[MACHINE_ID_SIZE];
        uint8_t signs; /* SIGN_IN_USE: it uses this replica, or is SIGN_ALONE; otherwise its session is idle
                        */
        bool told;
        uint8_t ended_ticks; /* 0 while its session is open */
        uint32_t slot;       /* until the next report */
        uint8_t told_signs;
        uint8_t end; /* signs at the end of its session */
        Pace sets;   /* its requests for the health of sets */
} ReporterHost;

/* The session that last had a heartbeat of a host, and the time of its last heartbeat with an answer; 0:
 * none. */
typedef struct ReporterAnswer {
        uint64_t session, ms;
} ReporterAnswer;

/* What a replica knows, and has told the leader. All zero: nothing. A report reads one byte for each host
 * that is in contact, and a heartbeat that changes nothing does not read the host's entry. */
typedef struct Reporter {
        ReporterHost *hosts;
        ReporterHost **slots;
        uint8_t *contact; /* by slot: reports for which the last heartbeat is enough, and REPORTER_* */
        uint8_t *steady;  /* by slot: signs of a heartbeat that changes nothing, or REPORTER_UNSTEADY */
        ReporterAnswer *answers; /* by slot */
        uint32_t n, n_in_use;
        struct {
                size_t slots, contact, steady, answers;
        } capacity;                   /* of each array */
        uint64_t session, term, tick; /* of the last report: the first one to another leader is complete */
} Reporter;

enum {
        REPORTER_LOOK = 0x80,    /* the session of the host may have ended */
        REPORTER_CHANGED = 0x40, /* the leader is to be told about it */
        REPORTER_TICKS = 0x0f,
        REPORTER_UNSTEADY = 0xff,
};

/* Where a report goes: session 0 is no leader. 'kept': this tick was in time, and this replica has a leader.
 */
typedef struct ReportHead {
        uint64_t session, term;
        bool kept;
} ReportHead;

/* Return the entry of a host, or NULL. */
static inline ReporterHost *reporter_find(const Reporter *r, const char *machine_id) {
        return TABLE_FIND(r->hosts, machine_id);
}
/* Find the slot of a host, or give it one, which stays until some ticks after the end of its session. 'slot'
 * is the one that was found for this session before; any other value is ignored. 0 or -ENOMEM. */
int reporter_slot(Reporter *r, const char *machine_id, uint64_t session, uint32_t *slot);
/* Return the ticks for which one heartbeat with these signs is enough. */
static inline uint8_t report_ticks(uint8_t signs) {
        if (!(signs & SIGN_IN_USE))
                return REPORT_IDLE_TICKS;
        return signs & SIGN_RARE ? REPORT_RARE_TICKS : 1;
}
/* Return whether to answer a heartbeat in this slot: the last one on its session that was answered is
 * 'after_ms' ago. */
bool reporter_answers(Reporter *r, uint32_t slot, uint64_t now_ms, uint64_t after_ms);
void reporter_heartbeat_changes(Reporter *r, uint32_t slot, uint8_t signs);
/* A heartbeat of the host in this slot has arrived, with these signs. */
static inline void reporter_heartbeat(Reporter *r, uint32_t slot, uint8_t signs) {
        if (r->steady[slot] != signs)
                reporter_heartbeat_changes(r, slot, signs);
        r->contact[slot] = (r->contact[slot] & (REPORTER_LOOK | REPORTER_CHANGED)) | report_ticks(signs);
}
/* Return whether so many hosts use this replica that it requests fewer heartbeats. */
static inline bool reporter_requests_rare(const Reporter *r) {
        return r->n_in_use > REPORT_RARE_HOSTS;
}
/* A session of the host has begun or ended. */
void reporter_changed(Reporter *r, const char *machine_id);
/* The host is not attached any more. */
void reporter_remove(Reporter *r, const char *machine_id);
/* Write the report of a tick. 'look' returns the signs of a host that sent no heartbeat, but 'heartbeat'. A
 * failed report is followed by a complete one. */
void reporter_write(Reporter *r, const ReportHead *head,
                    LivenessSign (*look)(void *userdata, const char *machine_id), void *userdata, Writer *w);
/* The next report is complete: the leader has asked for it, or this one could not be sent. */
void reporter_again(Reporter *r);
void reporter_done(Reporter *r);

/* -- The leader -- */

typedef struct ReportedHost ReportedHost;
typedef struct ReportingReplica ReportingReplica;

/* Called for each sign that counts, from inside the call that finds it; must not change the reports. Return
 * whether the host is still expected; otherwise one without a session is forgotten. */
typedef bool ReportSign(void *userdata, const char *machine_id, const LivenessSign *sign, bool late);

/* The reports that the leader has. All zero: none. */
typedef struct Reports {
        ReportingReplica *replicas;
        ReportedHost *hosts;
        LIST_HEAD(, ReportedHost) unattached;
        LIST_HEAD(, ReportedHost) doubled; /* more than one session in use, after a move or of a clone */
        size_t n_unattached, n_single;
        uint64_t n_ticks;
        uint64_t several_tick;  /* 1 + the last tick at which less than two replicas reported */
        unsigned grace_ticks;   /* until an unattached host can be lost */
        uint64_t grace_tick;    /* at which the present grace began, or began again */
        uint64_t returned_tick; /* at which a host returned since then: each counts once */
        uint64_t n_graces;
        bool begins; /* no tick yet */
        ReportSign *on_sign;
        void *userdata;
} Reports;

/* Begin a term. */
void reports_begin(Reports *r, ReportSign *on_sign, void *userdata);
/* The cluster has a host: it is unattached until a replica reports it. 0 or -ENOMEM. */
int reports_expect(Reports *r, const char *machine_id);
/* Forget a host, until a replica reports a new session of it. */
void reports_forget(Reports *r, const char *machine_id);
/* Take a report of a replica, which arrived on a session. -EBADMSG or -ENOMEM: it counts for nothing, and the
 * next one must be complete. -ESTALE: of another term. */
int reports_take(Reports *r, const char *replica, uint64_t session, uint64_t term, uint64_t now_ms,
                 const void *bytes, size_t size);
/* A tick of the leader: replicas may be silent, and unattached hosts have no other sign. 'late': the tick
 * counts against no host. Call this after reports_begin() and all reports_expect(), too. */
void reports_tick(Reports *r, uint64_t now_ms, bool late);
/* Of hosts with one machine ID that use two replicas, the one whose signs count stays. Call 'each' for each
 * other one, once: with its replica, and the session of that one's reports. A host uses one replica at a
 * time: after a move, the former one has no contact. Call this after reports_tick(). */
void reports_each_clone(Reports *r,
                        void (*each)(void *userdata, const char *machine_id, const char *replica,
                                     uint64_t session),
                        void *userdata);
/* Call 'each' for each host that an answer to a report names. */
void reports_read_clones(const void *bytes, size_t size, void (*each)(void *userdata, const char *machine_id),
                         void *userdata);
/* Return whether a replica that reports has a session of the host; then 'ret' is its present sign. */
bool reports_sign(const Reports *r, const char *machine_id, LivenessSign *ret);
/* Call 'each' for each host with a session: with the ID of the replica that it uses, and with that of an idle
 * session; "": none. */
void reports_each_session(const Reports *r,
                          void (*each)(void *userdata, const char *machine_id, const char *in_use,
                                       const char *idle),
                          void *userdata);
/* Return whether a host may have had a session to one replica only, while others report. */
bool reports_any_single(const Reports *r);
/* Return for how many ticks the host has had a session to one replica only while others report; 0: it has
 * two, or has had none yet. */
uint64_t reports_single_ticks(const Reports *r, const char *machine_id);
void reports_done(Reports *r);
