/* Limit of connections by address, before any authentication. Pure: time is an argument, memory is fixed.
 *
 * Each address may open 40 connections at once, and 20 in a second. An address from which a host was
 * authenticated in the last hour has no limit: many hosts may be behind it. IPv6 addresses count by their
 * /64. */
#pragma once

#include "base/memory.h"

enum {
        STRANGERS_ROWS =
                512, /* addresses that are remembered; of a set of 8, the one that was unused longest goes */
        STRANGERS_SET = 8,
        STRANGERS_PER_SECOND = 20,
        STRANGERS_BURST = 40,
        STRANGERS_TRUSTED_MS = 3600000,
};

typedef struct StrangersRow {
        uint64_t key; /* 0: unused */
        uint64_t used_ms, trusted_ms;
        uint64_t thousandths; /* of connections that the address may open now */
} StrangersRow;

typedef struct Strangers {
        StrangersRow rows[STRANGERS_ROWS];
} Strangers;

/* Count a connection from 'address' ("ADDR:PORT"). Return whether to accept it. */
bool strangers_accept(Strangers *strangers, const char *address, uint64_t now_ms);
/* A host at 'address' was authenticated. */
void strangers_trust(Strangers *strangers, const char *address, uint64_t now_ms);
