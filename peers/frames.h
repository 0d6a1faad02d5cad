/* All types of frames: the name, the number on the wire, which session carries it and which host may send it,
 * and its priority. docs/FORMATS.md describes the contents. peer_frame_rule() does not compile with two equal
 * numbers.
 *
 * The frames of a session share a budget of each turn of the loop; a replica's own (PEER_FROM_REPLICAS) do
 * not wait for it. */
#pragma once

#include <stdint.h>

/* The number of a frame type on the wire. */
typedef uint8_t PeerFrame;

/* Which session carries a type. A frame on the other session ends that session. */
typedef enum PeerDirection {
        PEER_REQUEST = 1, /* from the host that dialed */
        PEER_ANSWER = 2,  /* to the host that dialed */
        PEER_BOTH_WAYS = PEER_REQUEST | PEER_ANSWER,
        /* Which host may send it; in sessions with certificates. Without one of these: each member. */
        PEER_FROM_REPLICAS = 4, /* the machine has a replica, and its Raft ID is that of the handshake */
        PEER_FROM_JOINING = 8,  /* a host without a certificate, as the only frame of its session */
} PeerDirection;

/* Transmission order of frames that wait for a slow connection; within a class, in order of sending. What
 * keeps a leader or a host alive must not wait for a checkpoint or for a burst of unit states. */
typedef enum PeerPriority {
        PEER_PRIORITY_HIGH,
        PEER_PRIORITY_NORMAL,
        PEER_PRIORITY_LOW,
        _PEER_PRIORITY_MAX,
} PeerPriority;

typedef struct PeerFrameRule {
        PeerDirection direction; /* 0: the type is unknown */
        PeerPriority priority;
} PeerFrameRule;

/* In the order of their numbers. The end of an answer has the priority of its pieces, and the credit that of
 * its request: the order within a class is kept. */
#define PEER_FRAMES(X)                                                \
        X(HANDSHAKE, 1, PEER_BOTH_WAYS, HIGH)                         \
        X(REJECTED, 2, PEER_BOTH_WAYS, HIGH)                          \
        X(PING, 3, PEER_BOTH_WAYS, HIGH)                              \
        X(PONG, 4, PEER_BOTH_WAYS, HIGH)                              \
        X(BYE, 5, PEER_BOTH_WAYS, HIGH)                               \
        X(RAFT, 6, PEER_REQUEST | PEER_FROM_REPLICAS, HIGH)           \
        X(PROPOSE, 7, PEER_REQUEST, NORMAL)                           \
        X(PROPOSED, 8, PEER_ANSWER | PEER_FROM_REPLICAS, HIGH)        \
        X(TERM_CHECK, 9, PEER_REQUEST | PEER_FROM_REPLICAS, HIGH)     \
        X(TERM_CHECKED, 10, PEER_ANSWER | PEER_FROM_REPLICAS, HIGH)   \
        X(SNAPSHOT, 11, PEER_REQUEST | PEER_FROM_REPLICAS, LOW)       \
        X(SNAPSHOT_ACK, 12, PEER_ANSWER | PEER_FROM_REPLICAS, HIGH)   \
        X(JOIN, 13, PEER_REQUEST, NORMAL)                             \
        X(JOINED, 14, PEER_ANSWER, NORMAL)                            \
        X(PROPOSE_LATER, 15, PEER_REQUEST, LOW)                       \
        X(HEARTBEAT, 16, PEER_BOTH_WAYS, HIGH)                        \
        X(CALL, 17, PEER_BOTH_WAYS, NORMAL)                           \
        X(CALL_CHUNK, 18, PEER_BOTH_WAYS, LOW)                        \
        X(CALL_END, 19, PEER_BOTH_WAYS, LOW)                          \
        X(CALL_CANCEL, 20, PEER_BOTH_WAYS, NORMAL)                    \
        X(TREE, 21, PEER_REQUEST | PEER_FROM_REPLICAS, NORMAL)        \
        X(CALL_CREDIT, 22, PEER_BOTH_WAYS, NORMAL)                    \
        X(ENTER, 23, PEER_REQUEST | PEER_FROM_JOINING, NORMAL)        \
        X(ENTERED, 24, PEER_ANSWER, NORMAL)                           \
        X(CLUSTER_KEY, 25, PEER_REQUEST | PEER_FROM_REPLICAS, NORMAL) \
        X(CLUSTER_KEY_STORED, 26, PEER_ANSWER, NORMAL)                \
        X(CA_WANTED, 27, PEER_REQUEST, NORMAL)                        \
        X(RENEW, 28, PEER_REQUEST, NORMAL)                            \
        X(RENEWED, 29, PEER_ANSWER | PEER_FROM_REPLICAS, NORMAL)      \
        X(RETIRED, 30, PEER_ANSWER | PEER_FROM_REPLICAS, NORMAL)      \
        X(SUBSCRIBE, 31, PEER_REQUEST, NORMAL)                        \
        X(UNSUBSCRIBE, 32, PEER_REQUEST, NORMAL)                      \
        X(PAGE, 33, PEER_ANSWER | PEER_FROM_REPLICAS, NORMAL)         \
        X(EVENTS, 34, PEER_ANSWER | PEER_FROM_REPLICAS, NORMAL)       \
        X(GONE, 35, PEER_ANSWER | PEER_FROM_REPLICAS, NORMAL)         \
        X(READ, 36, PEER_REQUEST, NORMAL)                             \
        X(FOUND, 37, PEER_ANSWER | PEER_FROM_REPLICAS, NORMAL)        \
        X(CURRENT, 38, PEER_ANSWER | PEER_FROM_REPLICAS, HIGH)        \
        X(RELAY, 39, PEER_REQUEST, NORMAL)                            \
        X(RELAYED, 40, PEER_ANSWER | PEER_FROM_REPLICAS, NORMAL)      \
        X(REPORT, 41, PEER_BOTH_WAYS | PEER_FROM_REPLICAS, HIGH)      \
        X(CERTIFY, 42, PEER_REQUEST, NORMAL)                          \
        X(CERTIFIED, 43, PEER_ANSWER | PEER_FROM_REPLICAS, NORMAL)    \
        X(INPUTS, 44, PEER_REQUEST, NORMAL)                           \
        X(INPUTS_PART, 45, PEER_ANSWER | PEER_FROM_REPLICAS, NORMAL)  \
        X(FORWARD, 48, PEER_REQUEST, NORMAL)                          \
        X(FORWARD_HEAD, 49, PEER_ANSWER | PEER_FROM_REPLICAS, LOW)    \
        X(FORWARD_CHUNK, 50, PEER_ANSWER | PEER_FROM_REPLICAS, LOW)   \
        X(FORWARD_END, 51, PEER_ANSWER | PEER_FROM_REPLICAS, LOW)     \
        X(FORWARD_CANCEL, 52, PEER_REQUEST, NORMAL)                   \
        X(FORWARD_CREDIT, 53, PEER_REQUEST, NORMAL)                   \
        X(CALL_VIA, 54, PEER_REQUEST, NORMAL)                         \
        X(CONDITIONS, 60, PEER_REQUEST | PEER_FROM_REPLICAS, NORMAL)  \
        X(KERNELS, 61, PEER_BOTH_WAYS | PEER_FROM_REPLICAS, HIGH)     \
        X(SESSIONS, 62, PEER_BOTH_WAYS | PEER_FROM_REPLICAS, LOW)     \
        X(SET, 63, PEER_BOTH_WAYS, NORMAL)

#define PEER_FRAME_NUMBER(name, number, direction, priority) PEER_##name = number,
enum { PEER_FRAMES(PEER_FRAME_NUMBER) };

enum { PEER_FRAME_TYPES = 64 }; /* types are less than this; frames of other types are dropped */

PeerFrameRule peer_frame_rule(PeerFrame type);
