/* What the files of proposals share: propose.c keeps them, brings them into the log and answers them;
 * propose_frames.c is their way to the leader, and what the leader says. */
#pragma once

#include <assert.h>

#include "base/table.h"
#include "kvstore/budget.h"
#include "kvstore/propose.h"
#include "kvstore/apply/dedup.h"

enum {
        SWEEP_MS = 100,
        RESEND_MS = 500,     /* what nobody said that he took goes out again */
        ASK_AGAIN_MS = 250,  /* between questions what became of it */
        COPIES_MAX = 8,      /* of one command, at the same leader or others */
        ITEM_OVERHEAD = 48,  /* of one command in a batch or frame, at most */
        BATCH_OVERHEAD = 64, /* of a batch's or frame's head, at most */
        FRAME_COMMANDS_MAX = 1000,
        FRAME_ANSWERS_MAX = 4 * 1024 * 1024, /* bytes of answers in one frame; more than one record has */
        HEAVY_WAIT_MS = 2 * BUDGET_WAIT_MS,  /* a heavy command waits so long for the log, and no longer */
        LATER_MS = 300,                      /* so long states and large commands give way, and no longer */
};

static_assert(KV_COMMAND_MAX + ITEM_OVERHEAD + BATCH_OVERHEAD <= RAFT_ENTRY_SIZE_MAX,
              "a command fits into an entry of its own");

typedef enum ProposalState {
        PROPOSAL_QUEUED,   /* for the log, or for the leader */
        PROPOSAL_SENT,     /* to the leader of 'term', which has not said that it took it */
        PROPOSAL_ACCEPTED, /* by the leader of 'term', which puts it into its log or loses its place */
        PROPOSAL_LOGGED,   /* in our own log, in 'term' */
        PROPOSAL_ANSWERED, /* refused; the answer leaves with the next turn */
} ProposalState;

typedef struct Proposal {
        uint64_t origin, number, floor; /* floor: of another host's only */
        uint64_t from, session; /* the same: that host, and the number of the session that it came by */
        ProposalState state;
        uint64_t term;
        uint64_t due_ms;      /* 0: as long as the leader is there */
        uint64_t sent_ms;     /* to another leader, or asked what became of it, last */
        uint64_t deadline_ms; /* in cluster time; 0: 'once' */
        unsigned
                copies; /* in others' hands or in a log, as far as we know: with none, nothing has happened */
        bool once;      /* valid in one term only: nobody else is asked */
        uint8_t *bytes;
        size_t size;
        KvDone done; /* NULL and userdata NULL for another host's */
        void *userdata;
        KvStatus status;
        char *cause;
        bool foreign;
        bool later;                   /* gives way in the queues and between hosts ... */
        bool large;                   /* ... a user's of more than PROPOSE_SMALL_MAX: in the queues */
        bool ours;                    /* of this daemon's rooms */
        uint64_t queued_ms;           /* of one that gives way: since when it does */
        uint64_t cost;                /* as estimated on the leader; 0: not yet */
        struct Proposal *next, *prev; /* in the queue, or among the answered */
        UT_hash_handle hh;            /* ours, in order of number */
} Proposal;

typedef struct List {
        Proposal *first, *last;
} List;

typedef enum ProposedWhat {
        PROPOSED_ACCEPTED,
        PROPOSED_NOT_LEADER,
        PROPOSED_BUSY,
        PROPOSED_REFUSED,
        PROPOSED_LATE, /* its deadline is too near; with the leader's cluster time */
        PROPOSED_DONE, /* with the answer, as the tree keeps it */
        PROPOSED_PAST, /* its deadline is past, and no answer is kept: none will come */
        _PROPOSED_MAX,
} ProposedWhat;

struct Proposals {
        ProposalsOptions options;
        Proposal *own; /* table by number */
        List queue, answered;
        uint64_t next_number;
        size_t n_own, own_bytes;         /* ours without an answer */
        size_t n_foreign, foreign_bytes; /* others' in the queue */
        uint64_t said_ms, said_at_ms;    /* cluster time, as a leader said it, and when */
        uint64_t emptied_ms;             /* when an empty entry was made for want of room, last */
        uint64_t window[PROPOSE_WINDOW]; /* indexes of our entries that are not applied */
        size_t n_window;
        uint64_t term, leader; /* as of the last look */
        bool lead;
        bool any_due; /* one that nobody is asked for again waits for its time to be over, who ever leads */
        Budget budget;
        bool has_estimated; /* in this call of the pump */
        struct {
                uint64_t from, session, origin;
                uint64_t numbers[FRAME_COMMANDS_MAX];
                size_t n;
        } accepted; /* others', in this call of the pump: what one frame says */
        Deferred pump, answer;
        Timer sweep, heavy; /* heavy: the next heavy command may go */
};

typedef struct Answers {
        struct {
                uint64_t number;
                KvResult *result;
        } * items;
        size_t n, capacity;
} Answers;

void proposal_list_remove(List *list, Proposal *x);
/* Behind all that wait for log or leader, but before those that give way and have not done so for long. */
void proposals_enqueue(Proposals *p, Proposal *x);
/* Its answer does not come out of the log; it leaves with the next turn. */
void proposals_refuse(Proposals *p, Proposal *x, KvStatus status, const char *cause);
/* Nothing goes into the log that the leader's program does not know, or for which there is no room: 0 and the
 * status as it was, or a refusal with its sentence; on the leader also what it costs, else 0. */
int proposals_check(Proposals *p, const KvCommand *cmd, uint64_t *ret_cost, KvStatus *ret_status, Error *err);
void proposals_keep_time(Proposals *p); /* the sweep runs while something may fall due */

/* What we still wait for begins here. */
uint64_t proposals_floor(const Proposals *p);
/* The deadline is given when nobody has it yet, and stays then: by it all that comes later is judged. */
void proposal_stamp(Proposal *x, uint64_t cluster_ms);
/* Cluster time here: a host that lags behind has heard a later one from the leader. 0: none yet; then the
 * leader is asked. */
uint64_t proposals_known_ms(const Proposals *p);
/* There is no room for answers; then only who gives some back may ask for more. */
bool proposals_full(const Proposals *p);
bool proposals_gives_room(const Proposals *p, uint64_t origin, uint64_t floor);
#define PROPOSALS_FULL "too many answers are kept for hosts that have not taken them"

/* The answer to 'x' as the tree keeps it, here or at the leader, to be freed; NULL: it makes no sense, or
 * there is no memory. */
KvResult *proposal_kept_answer(Proposals *p, const Proposal *x, const CachedResult *kept);
void answers_add(Answers *answers, uint64_t number, KvResult *result); /* takes 'result', NULL is none */
void answers_give(Answers *answers,
                  Proposals *p); /* to who waits, and frees them; last of all: who is answered may ask anew */

/* -- propose_frames.c -- */

bool proposals_send_frame(Proposals *p, uint64_t leader,
                          uint64_t term); /* what is queued, as far as one frame goes; false: no way */
/* What the leader took, and this host has not seen applied in time: what became of it? */
void proposals_ask_outcomes(Proposals *p);
void proposals_on_propose(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                          size_t size);
/* What became of another host's command that was estimated after its frame. */
void proposals_say_refused(Proposals *p, const Proposal *x, KvStatus status, const char *cause);
void proposals_say_accepted(Proposals *p, const Proposal *x); /* together with those before and after it */
void proposals_flush_accepted(Proposals *p);
void proposals_on_proposed(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                           size_t size);
