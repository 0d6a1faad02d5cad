/* Shared by the files of proposals: propose.c brings them into the log, repeats and answers them;
 * propose_frames.c and propose_relay.c exchange them with other hosts; propose_results.c has their results;
 * propose_queue.c keeps them. Each calls only the files after it. */
#pragma once

#include "base/pace.h"
#include "base/table.h"
#include "kvstore/apply/dedup.h"
#include "kvstore/budget.h"
#include "kvstore/propose.h"
#include "kvstore/serving.h"

enum {
        SWEEP_MS = 100,
        RESEND_MS = 500,     /* a proposal that no leader accepted is sent again */
        ASK_AGAIN_MS = 250,  /* between requests for the outcome */
        COPIES_MAX = 8,      /* of one command, sent to one leader or several */
        ITEM_OVERHEAD = 48,  /* of one command in a batch or frame, at most */
        BATCH_OVERHEAD = 64, /* of a batch's or frame's head, at most */
        FRAME_COMMANDS_MAX = 1000,
        FRAME_ANSWERS_MAX = 4 * 1024 * 1024, /* bytes of answers in one frame; more than one record has */
        HEAVY_WAIT_MS = 2 * BUDGET_WAIT_MS,  /* a heavy command waits so long for the log at most */
        RELAY_SLOW_MS = 1000,  /* a replica that has no result so long is not the only one to be asked */
        RELAY_WAIT_MS = 10000, /* for the result, after a replica has accepted a command */
        LATER_MS = 300,        /* states and large commands yield so long at most */
};

static_assert(KV_COMMAND_MAX + ITEM_OVERHEAD + BATCH_OVERHEAD <= RAFT_ENTRY_SIZE_MAX,
              "a command fits into an entry of its own");

typedef enum ProposalState {
        PROPOSAL_QUEUED,   /* for the log, or for the leader */
        PROPOSAL_SENT,     /* to the leader of 'term', or to the replica in use, and not accepted yet */
        PROPOSAL_ACCEPTED, /* by that leader, which appends it to its log or loses leadership; or by the
                            * replica, which answers it as long as the session lasts */
        PROPOSAL_LOGGED,   /* in this host's own log, in 'term' */
        PROPOSAL_ANSWERED, /* rejected; the next turn of the loop answers it */
} ProposalState;

typedef struct Proposal {
        KvBatchItem item; /* owns 'command'; 'deadline_ms' is 0 with 'once' */
        size_t principal; /* bytes of the sender's text, which follow 'command'; 0: this host itself */
        char *machine;    /* owned; of an attached host, for which this host proposes it; NULL: its own */
        uint64_t from, session;  /* of another host's: that replica, and the number of the session */
        struct Proposals *relay; /* of an attached host */
        ProposalState state;
        uint64_t term;    /* of a host without a replica: the number of the session to the replica in use */
        uint64_t due_ms;  /* 0: as long as the leader is there */
        uint64_t sent_ms; /* when it was sent, or its outcome requested, last */
        unsigned
                copies; /* in others' hands or in a log, as far as we know: with none, nothing has happened */
        bool elsewhere; /* of an attached host: it was sent to a second replica, too */
        bool once;      /* valid in one term only: no other leader gets it */
        KvDone done;    /* NULL for another replica's; of an attached host, 'userdata' is the proposal */
        void *userdata;
        KvStatus status;
        char *cause;
        bool foreign;
        bool later;                  /* yields in the queues and between hosts ... */
        bool large;                  /* ... a user's of more than PROPOSE_SMALL_MAX: in the queues */
        bool internal;               /* as KvCommand's: of this daemon's own components */
        uint64_t proposed_ns;        /* of this host's: when, by loop_clock_ns() */
        uint64_t queued_ms;          /* of one that yields: since when it waits */
        uint64_t cost;               /* as the leader estimated it; 0: not yet */
        uint64_t weight;             /* of this host's own: see proposal_weight() */
        TAILQ_ENTRY(Proposal) entry; /* in the queue, or among the answered */
        TAILQ_ENTRY(Proposal) of_local;
        UT_hash_handle hh; /* by origin and number; of one origin in order of number */
} Proposal;

static_assert(offsetof(KvBatchItem, number) == sizeof(uint64_t), "origin and number are one key");
enum { PROPOSAL_KEY = 2 * sizeof(uint64_t) };

typedef TAILQ_HEAD(ProposalList, Proposal) ProposalList;

typedef enum ProposedWhat {
        PROPOSED_ACCEPTED,
        PROPOSED_NOT_LEADER,
        PROPOSED_BUSY,
        PROPOSED_REFUSED,
        PROPOSED_LATE, /* its deadline is too near; carries the leader's cluster time */
        PROPOSED_DONE, /* carries the result, as the tree holds it */
        PROPOSED_PAST, /* its deadline has passed, and there is no result: none will follow */
        _PROPOSED_MAX,
} ProposedWhat;

/* Numbers of commands; of PROPOSED_DONE, with their results. */
typedef struct ReplyBody {
        Writer bytes;
        size_t n;
} ReplyBody;

struct Proposals {
        ProposalsOptions options;
        Proposal *own; /* table by origin and number: of this host, and of attached hosts */
        ProposalList queue, answered, local; /* local: of this host, in order of number */
        uint64_t next_number;
        size_t own_bytes;                 /* of those in the table */
        size_t n_foreign, foreign_bytes;  /* of other hosts, in the queue */
        uint64_t leader_ms, leader_at_ms; /* cluster time as a leader reported it, and when */
        uint64_t emptied_ms;              /* the last empty entry, appended for lack of room */
        uint64_t window[PROPOSE_WINDOW];  /* indexes of this host's entries that are not applied */
        size_t n_window;
        /* At the last check; of a host without a replica, see Proposal.term, and 1 or 0: */
        uint64_t term, leader;
        bool lead;
        bool any_due;  /* a proposal that is not sent again waits for its due time, under any leader */
        bool attached; /* this host has no replica, and uses one by a session */
        /* Own proposals that were sent to a relay, which rejects more: those of users, and by their weight
         * those of this daemon's components. */
        Pace relayed, relayed_ours;
        Budget budget;
        bool has_estimated; /* in this call of the pump */
        struct {
                uint64_t from, session, origin;
                ReplyBody body;
        } accepted; /* others', in this call of the pump: what one frame says */
        Deferred pump, answer;
        Timer sweep, heavy; /* heavy: the next heavy command may go */
};

/* As of BSD: the current element may be removed. */
#define TAILQ_FOREACH_SAFE(x, head, field, next) \
        for ((x) = TAILQ_FIRST(head); (x) && ((next) = TAILQ_NEXT(x, field), true); (x) = (next))

/* -- propose_queue.c -- */

/* Insert into a list; 'after' NULL: at the head. */
void proposal_insert(ProposalList *list, Proposal *after, Proposal *x);
/* Drop it without an answer: another replica's command, or one of the table. */
void proposals_remove_foreign(Proposals *p, Proposal *x);
void proposals_remove(Proposals *p, Proposal *x);
/* Enqueue after all that wait for log or leader, but before those that yield and have not waited for long. */
void proposals_enqueue(Proposals *p, Proposal *x);
/* Enqueue a command that was checked, with its estimate; 0: not estimated yet. */
void proposals_take(Proposals *p, Proposal *x, const KvCommand *cmd, uint64_t cost);
/* Return to the former place in the queue: before all later ones. */
void proposals_enqueue_again(Proposals *p, Proposal *x);
/* Call its 'done', and free it. */
void proposals_answer(Proposals *p, Proposal *x, const KvResult *result);
/* Answer with the next turn; the result does not come from the log. */
void proposals_refuse(Proposals *p, Proposal *x, KvStatus status, const char *cause);
/* Check a command before the log: the feature level of this program and, on the leader, room and cost. Return
 * 0 and an unchanged status, or a rejection with its message. *ret_cost is 0 on other hosts. */
int proposals_check(Proposals *p, const KvCommand *cmd, uint64_t *ret_cost, KvStatus *ret_status, Error *err);
int proposals_check_cost(Proposals *p, const KvCommand *cmd, uint64_t *ret, KvStatus *ret_status, Error *err);
/* Return the proposal of an origin, or NULL. */
Proposal *proposals_find(Proposals *p, uint64_t origin, uint64_t number);
/* Return a new proposal of this host or of an attached one, which is in the table and not queued yet; NULL
 * without memory. */
Proposal *proposals_insert(Proposals *p, uint64_t origin, uint64_t number, KvDone done, void *userdata);
/* The same: it may have taken effect. */
void proposals_unknown(Proposals *p, Proposal *x);
void proposals_pump(void *proposals);   /* send what waits, with the next turn */
void proposals_keep_time(Proposals *p); /* run the sweep while a proposal may become due */

/* The acknowledged bound: the lowest number for which this host still waits. */
uint64_t proposals_acknowledged(const Proposals *p);
/* The same of the origin of a proposal: an attached host has reported its own. */
uint64_t proposal_acknowledged(const Proposals *p, const Proposal *x);
/* Set the deadline, unless a copy carries one already: deduplication judges all copies by it. */
void proposal_stamp(Proposal *x, uint64_t cluster_ms);
/* Cluster time here: a host that lags behind has heard a later one from the leader. 0: none yet; then the
 * leader is asked. */
uint64_t proposals_known_ms(const Proposals *p);
/* The deduplication table is full: only an origin that raises its acknowledged bound may propose. */
bool proposals_full(const Proposals *p);
bool proposals_gives_room(const Proposals *p, uint64_t origin, uint64_t acknowledged);
#define PROPOSALS_FULL "too many answers are kept for hosts that have not taken them"
/* Return how much a command of 'size' bytes counts in the limit of its host. */
uint64_t proposal_weight(const KvCommand *cmd, size_t size);
/* It has left the queue, for the leader of that term. */
void proposal_sent(Proposals *p, Proposal *x, uint64_t term);

/* -- propose_results.c -- */

/* Answer it, or propose it again: the result of one of its copies. */
void proposals_take_result(Proposals *p, Proposal *x, const KvResult *result);
/* Decode the cached result of 'x', of this host's tree or of the leader's, and add it to 'answers'. An
 * invalid one is skipped. 'acknowledge': the host serves no older state from then on; without a record of
 * that, the result is skipped, too. */
void proposals_add_kept(Proposals *p, const Proposal *x, const CachedResult *kept, bool acknowledge,
                        Applied *answers);

/* -- propose_frames.c -- */

bool proposals_send_frame(Proposals *p, uint64_t leader,
                          uint64_t term); /* what is queued, as far as one frame goes; false: no way */
/* What the leader took, and this host has not seen applied in time: what became of it? */
void proposals_ask_outcomes(Proposals *p);
void proposals_on_propose(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                          size_t size);
/* What became of another host's command that was estimated after its frame. */
void proposals_report_rejected(Proposals *p, const Proposal *x, KvStatus status, const char *cause);
void proposals_say_accepted(Proposals *p, const Proposal *x); /* together with those before and after it */
void proposals_flush_accepted(Proposals *p);
void proposals_on_proposed(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                           size_t size);

/* -- propose_relay.c: attached hosts -- */

/* Send what is queued to the replica that this host uses, as far as its limit goes; false: no way, or no more
 * now. */
bool proposals_send_relay(Proposals *p);
/* Return whether commands of users have waited because this host has sent as many as its relay takes. */
bool proposals_relay_is_exhausted(Proposals *p);
#define PROPOSALS_PACED \
        "this host may write 200 times a second through the replica that it uses: try again in a second"
/* Send what has no result for long to another replica, too, under the same numbers. */
void proposals_relay_elsewhere(Proposals *p);
void proposals_relay_init(Proposals *p);
void proposals_relay_done(Proposals *p);
