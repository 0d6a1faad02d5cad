/* The handshake of a session as bytes: protocol versions and identity of a host, and the rejection of a host.
 * Pure; the bytes may come from any host.
 *
 * A handshake begins with a magic number and the range of protocol versions that its sender supports. A newer
 * daemon may append fields; they are skipped. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"
#include "base/sizes.h"

enum {
        PEER_NAME_SIZE = 64,
        HANDSHAKE_MAX = 512,    /* bytes of a payload: bounds the memory that an unknown host can occupy */
        REJECTION_MAX = 512,    /* bytes of a payload */
        HANDSHAKE_PROTOCOL = 1, /* version of this daemon */
        HANDSHAKE_PROTOCOL_OLDEST = 1, /* oldest version that this daemon supports */
};

/* The identity that a host announces. Plain value; strings are terminated. */
typedef struct PeerHandshake {
        uint64_t cluster_id, lineage;     /* 0: not a member of a cluster yet */
        char machine_id[MACHINE_ID_SIZE]; /* 32 hex digits */
        char boot_id[BOOT_ID_SIZE];       /* 32 hex digits, or "" */
        uint64_t start_number;            /* persistent; incremented by each start of the daemon */
        uint64_t nonce;                   /* random for each start of the daemon */
        uint64_t raft_id;                 /* 0: none yet */
        char address[ADDRESS_SIZE];       /* of its peer listener, "ADDR:PORT"; "": it has none */
        char name[PEER_NAME_SIZE];
} PeerHandshake;

/* Return the name of the host, or its machine id if it has no name. */
const char *handshake_name(const PeerHandshake *handshake);
/* Return whether both are of one lineage, or one has none. */
bool handshake_has_lineage_of(const PeerHandshake *a, const PeerHandshake *b);

void handshake_write(Writer *w, const PeerHandshake *handshake);
/* Errors, each with a message:
 *   -EBADMSG           not a valid handshake
 *   -EPROTONOSUPPORT   no common protocol version
 * On success, the strings of *ret are printable and its machine id has 32 hex digits. */
int handshake_read(const void *bytes, size_t size, PeerHandshake *ret, Error *err);

/* The cause of a rejection, for the dialing host to act on. The numbers are sent. */
typedef enum Rejection {
        REJECTION_OTHER,
        REJECTION_VERSION,
        REJECTION_SELF,
        REJECTION_CLONE,
        REJECTION_CLUSTER,
        REJECTION_LINEAGE,
        REJECTION_ADMISSION,
        REJECTION_CERTIFICATE, /* certificates are required, and the key file proves nothing */
        REJECTION_OUTDATED,    /* the replica of the dialing host is an old image of itself */
        REJECTION_REMOVED,     /* the dialing host was removed from the cluster */
        REJECTION_BUSY,        /* the host serves the dialing one later: it dials again by itself */
        _REJECTION_MAX,
} Rejection;

void rejection_write(Writer *w, Rejection cause, const char *message);
/* An unknown cause is read as REJECTION_OTHER; the message is made printable. -EBADMSG. */
int rejection_read(const void *bytes, size_t size, Rejection *ret, char ret_message[static REJECTION_MAX]);

/* Copy at most ret_size - 1 bytes. Replace NUL, and each character that text_keep_to_one_line() replaces,
 * with
 * '?'. */
void printable_copy(char *ret, size_t ret_size, const void *bytes, size_t size);
