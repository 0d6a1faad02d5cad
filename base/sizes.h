/* Sizes of arrays that several folders share, terminating zero included. */
#pragma once

enum {
        MACHINE_ID_SIZE = 33,    /* 32 hex digits: machine-id(5) */
        BOOT_ID_SIZE = 33,       /* 32 hex digits of /proc/sys/kernel/random/boot_id */
        HARDWARE_ID_SIZE = 33,   /* 32 hex digits of the UUID of the mainboard */
        INVOCATION_ID_SIZE = 33, /* 32 hex digits: INVOCATION_ID in systemd.exec(5) */
        HEX64_SIZE = 17,         /* 16 hex digits: the ID of a cluster or of a lineage */
        ADDRESS_SIZE = 64,       /* "ADDRESS:PORT", or "[ADDRESS]:PORT" for IPv6 */
};
