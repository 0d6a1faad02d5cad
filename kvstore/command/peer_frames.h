/* Numbers of the store's frame types on the wire (docs/FORMATS.md). Other components own the missing numbers.
 */
#pragma once

enum {
        PEER_RAFT = 6,
        PEER_PROPOSE,
        PEER_PROPOSED,
        PEER_TERM_CHECK,
        PEER_TERM_CHECKED,
        PEER_SNAPSHOT,
        PEER_SNAPSHOT_ACK,
        PEER_PROPOSE_LATER = 15, /* as PEER_PROPOSE, for unit states: lower priority */
        PEER_TREE = 21,          /* kvstore/raft/consistency_check.h */
        PEER_SUBSCRIBE = 31,     /* this and the next: kvstore/remote_frames.h */
        PEER_UNSUBSCRIBE,
        PEER_PAGE,
        PEER_EVENTS,
        PEER_GONE,
        PEER_READ,
        PEER_FOUND,
        PEER_CURRENT,
        PEER_RELAY, /* kvstore/propose_relay.c */
        PEER_RELAYED,
};
