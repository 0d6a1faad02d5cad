/* Numbers of the frame types of membership on the wire (docs/FORMATS.md). */
#pragma once

enum {
        PEER_JOIN = 13,
        PEER_JOINED,
        PEER_HEARTBEAT = 16,
        PEER_ENTER = 23,
        PEER_ENTERED,
        PEER_CLUSTER_KEY,
        PEER_CLUSTER_KEY_STORED,
        PEER_CA_WANTED,
        PEER_RENEW,
        PEER_RENEWED,
        PEER_RETIRED = 30,
        PEER_REPORT = 41, /* reports.h */
        PEER_CERTIFY,     /* this and the next: authority_listener.c */
        PEER_CERTIFIED,
        PEER_CONDITIONS = 60,
        PEER_KERNELS,  /* kernels.c */
        PEER_SESSIONS, /* sessions.c */
        PEER_SET,      /* sets.c */
};
