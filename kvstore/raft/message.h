/* Raft's messages and entries: plain values, and as bytes.
 *
 * Versioned (first byte), little-endian, bounded: a decoded message is within the limits below. Dropping any
 * message is safe in Raft. */
#pragma once

#include "base/bytes.h"

enum {
        RAFT_ENTRY_SIZE_MAX = 256 * 1024, /* data of one entry */
        RAFT_MESSAGE_ENTRIES_MAX = 32,    /* entries of one message: the engine's max_inflight_entries */
        RAFT_SERVERS_MAX = 64,            /* servers of a configuration */
        RAFT_ADDRESS_MAX = 255,           /* bytes of an address, without the terminator */
        RAFT_CONFIGURATION_SIZE_MAX = 32 * 1024,
};

typedef enum RaftEntryType {
        RAFT_ENTRY_COMMAND = 1, /* the replica's own bytes */
        RAFT_ENTRY_BARRIER = 2, /* a new leader's first entry; without effect on the tree */
        RAFT_ENTRY_CHANGE = 3,  /* a whole configuration, see raft_configuration_decode_servers() */
} RaftEntryType;

typedef struct RaftEntry {
        uint64_t term;
        RaftEntryType type;
        const void *data; /* ownership: see each function */
        size_t size;      /* at most RAFT_ENTRY_SIZE_MAX; may be 0 */
} RaftEntry;

typedef enum RaftMessageType {
        RAFT_MESSAGE_APPEND = 1,
        RAFT_MESSAGE_APPEND_RESULT = 2,
        RAFT_MESSAGE_VOTE = 3,
        RAFT_MESSAGE_VOTE_RESULT = 4,
        RAFT_MESSAGE_SNAPSHOT = 5,
        RAFT_MESSAGE_TIMEOUT_NOW = 6,
} RaftMessageType;

typedef struct RaftMessage {
        RaftMessageType type;
        uint64_t term; /* of the sender, at this message */
        union {
                struct {
                        uint64_t prev_index, prev_term, commit;
                        RaftEntry *entries; /* prev_index + 1 on; the array is the message's, the data
                                               borrowed */
                        size_t n_entries;
                } append;
                struct {
                        uint64_t rejected; /* the prev_index that did not match, or 0 */
                        uint64_t last_index;
                        uint16_t features, capacity;
                } append_result;
                struct {
                        uint64_t candidate, last_index, last_term;
                        bool disrupt_leader, pre_vote;
                } vote;
                struct {
                        bool granted, pre_vote;
                        uint16_t features, capacity;
                } vote_result;
                struct { /* the state itself is transferred before this message */
                        uint64_t index, index_term;
                        uint64_t configuration_index;
                        const void *configuration; /* borrowed */
                        size_t configuration_size;
                } snapshot;
                struct {
                        uint64_t last_index, last_term;
                } timeout_now;
        };
} RaftMessage;

/* Append 'message' to 'w'. */
void raft_message_encode(Writer *w, const RaftMessage *message);

/* On success *ret borrows all data from 'bytes', and raft_message_done() frees its array of entries. Errors:
 *   -EPROTONOSUPPORT   a version or type of a newer fleetd
 *   -EBADMSG           corrupt, or over a limit */
int raft_message_decode(const void *bytes, size_t size, RaftMessage *ret);

void raft_message_done(RaftMessage *message);
