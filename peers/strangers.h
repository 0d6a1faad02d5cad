/* Limits before authentication: connections, requests to join, wrong tokens and log lines, by address and in
 * all. Pure: time is an argument, memory is fixed.
 *
 * IPv6 addresses count by their /64. An address from which a host was authenticated in the last hour is
 * trusted: it has no limit of its own, because many hosts may be behind it, and half of the limits in all are
 * reserved for trusted addresses. So strangers do not keep a known host out: above their half, they have only
 * what the others leave. Nor does one trusted address, where any user may connect: so it is above a fifth. At
 * a listener of users, which may be hostile, each has no more than that (bounds_parts). */
#pragma once

#include "base/pace.h"

enum {
        STRANGERS_ROWS = 512, /* addresses that are remembered; of a set of 8, the one that was unused longest
                                 goes, a trusted or known one last */
        STRANGERS_SET = 8,
        STRANGERS_ADMISSION = 500, /* connections in a second, by default (LimitAdmission=) */
        STRANGERS_PER_SECOND = 20,
        STRANGERS_BURST = 40,
        STRANGERS_TRUSTED_MS = 3600000,
        STRANGERS_PENDING_MAX = 256, /* connections without a handshake; half of them of strangers */
        STRANGERS_PENDING_PER_ADDRESS = 8,
        STRANGERS_TRUSTED_PART = 5,     /* of the limits in all, for one trusted address: the fifth part */
        STRANGERS_JOINS_PER_SECOND = 5, /* and as many at once */
        STRANGERS_JOINS_BURST = 2,      /* of one address, which then has one in a second */
        STRANGERS_WRONG_MAX = 5,        /* wrong tokens of one address within a minute, then a pause */
        STRANGERS_WRONG_MS = 60000,
        STRANGERS_PAUSE_MS = 60000,
        STRANGERS_LOG_MS = 60000, /* between two messages about one address */
        STRANGERS_LOGS_PER_SECOND = 10,
};

typedef struct StrangersRow {
        uint64_t key; /* 0: unused */
        uint64_t used_ms, trusted_ms;
        Pace connections, joins;
        uint64_t wrong_ms, paused_ms,
                logged_ms; /* of the first wrong token; end of the pause; last message */
        unsigned n_wrong;
        bool known; /* as of its last connection */
} StrangersRow;

/* All zero: no address is known. */
typedef struct Strangers {
        StrangersRow rows[STRANGERS_ROWS];
        Pace connections, strangers, joins, logs;
        unsigned n_omitted; /* messages since the last one that was permitted */
        bool bounds_parts;  /* no connection is accepted above these parts */
} Strangers;

/* Return the key of an address "ADDR:PORT": equal for one IPv4 address or one /64. Not 0. */
uint64_t strangers_key(const char *address);

/* Count a connection from an address. 'known': the address is that of a host of the cluster. Return whether
 * to accept it: 'admission' in a second. */
bool strangers_accept(Strangers *strangers, uint64_t key, bool known, uint64_t admission, uint64_t now_ms);
/* A host or user at the address was authenticated. Return the number of its row, below STRANGERS_ROWS. */
size_t strangers_trust(Strangers *strangers, uint64_t key, uint64_t now_ms);
/* The address is a stranger's again. */
void strangers_distrust(Strangers *strangers, uint64_t key);
bool strangers_is_trusted(const Strangers *strangers, uint64_t key, uint64_t now_ms);

/* Count a request to join. Return 0, or the ms after which the next one may be accepted; then
 * *ret_wrong_tokens states whether wrong tokens are the reason. */
uint64_t strangers_join(Strangers *strangers, uint64_t key, uint64_t now_ms, bool *ret_wrong_tokens);
/* A request of the address had a wrong token. */
void strangers_wrong_token(Strangers *strangers, uint64_t key, uint64_t now_ms);

/* Return whether to log a message about the address; then *ret_omitted is the number of messages that were
 * not logged since the last one. */
bool strangers_log(Strangers *strangers, uint64_t key, uint64_t now_ms, unsigned *ret_omitted);
