/* Hosts and their signs in the bytes of a report. */
#pragma once

#include "base/bytes.h"
#include "base/sizes.h"

enum { REPORT_COMPLETE = 1, REPORT_KEPT = 2 }; /* flags */

enum {
        SIGN_IN_USE = 1,
        SIGN_SILENT = 2,
        SIGN_KERNEL_SILENT = 4,
        SIGN_CLOSED = 8,
        SIGN_STOPPED = 16,
        SIGN_SHUT_DOWN = 32,
        SIGN_ANNOUNCED = SIGN_STOPPED | SIGN_SHUT_DOWN
};

enum { REPORT_ID_BYTES = (MACHINE_ID_SIZE - 1) / 2, REPORT_HOST_BYTES = REPORT_ID_BYTES + 1 };

void report_host_write(const char *machine_id, uint8_t bits, Writer *w);
/* False: there is no other complete host. */
bool report_host_read(Reader *r, char ret[static MACHINE_ID_SIZE], uint8_t *ret_bits);
