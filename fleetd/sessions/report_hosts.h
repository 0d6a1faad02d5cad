/* Hosts in the bytes of reports: their signs, and their conditions. */
#pragma once

#include "base/bytes.h"
#include "base/sizes.h"
#include "units/verdict.h"

enum { REPORT_COMPLETE = 1, REPORT_KEPT = 2 }; /* flags */

enum {
        SIGN_IN_USE = 1,
        SIGN_SILENT = 2,
        SIGN_KERNEL_SILENT = 4,
        SIGN_CLOSED = 8,
        SIGN_STOPPED = 16,
        SIGN_SHUT_DOWN = 32,
        SIGN_ALONE = 64, /* with SIGN_IN_USE: it has a replica, which has no contact with a leader */
        SIGN_RARE = 128, /* with SIGN_IN_USE: a heartbeat in a second, not two */
        SIGN_ANNOUNCED = SIGN_STOPPED | SIGN_SHUT_DOWN
};

enum { REPORT_ID_BYTES = (MACHINE_ID_SIZE - 1) / 2, REPORT_HOST_BYTES = REPORT_ID_BYTES + 1 };

void report_host_write(const char *machine_id, uint8_t bits, Writer *w);
/* False: there is no other complete host. */
bool report_host_read(Reader *r, char ret[static MACHINE_ID_SIZE], uint8_t *ret_bits);

enum { REPLICA_PROBLEM_SIZE = 100 };

enum {
        CONDITION_IN_USE = 1, /* the host uses the replica that reports: problem and clock count */
        CONDITION_CLONE = 2,  /* another host with its machine ID was rejected in the last minute */
        CONDITION_KEY = 4,    /* the same, with another key */
};

/* 16 bytes machine ID, u8 flags, u64 clock, string problem; 'coded': string code of the problem. */
typedef struct HostCondition {
        char machine[MACHINE_ID_SIZE];
        uint8_t flags;
        int64_t clock_ms; /* its wall clock minus that of the replica; 0: about equal */
        Verdict problem;  /* of its own replica */
} HostCondition;

void host_condition_write(const HostCondition *c, bool coded, Writer *w);
/* False: there is no other complete one. */
bool host_condition_read(Reader *r, bool coded, HostCondition *ret);
