/* The planned reboot of a machine: /_fleet/machine/ID/reboot, written from KV_LEVEL_UPDATES on. As in
 * units/stored_json.h. features/reboot/reboot.h has the states. */
#pragma once

#include "base/error.h"
#include "base/parse.h"
#include "base/sizes.h"
#include "base/text.h"
#include "units/stored_cluster.h"
#include "units/verdict.h"

typedef enum RebootKind {
        REBOOT_FULL,
        REBOOT_SOFT,  /* of the userspace, since systemd 254 */
        REBOOT_KEXEC, /* into another kernel, without the firmware */
        _REBOOT_KIND_MAX,
        _REBOOT_KIND_INVALID = -EINVAL,
} RebootKind;

/* "reboot", "soft", "kexec" */
ENUM_NAMES(reboot_kind, RebootKind, _REBOOT_KIND_MAX)

typedef enum RebootState {
        REBOOT_QUEUED,    /* waits for its turn */
        REBOOT_DRAINING,  /* its units move away */
        REBOOT_REBOOTING, /* the host calls logind */
        REBOOT_REJECTED,  /* logind has rejected it; written by the host */
        REBOOT_DOWN,      /* the host is down */
        REBOOT_BACK,      /* the host is up after another boot, and starts its units */
        REBOOT_FAILED,    /* the queue stops, until a user resumes or cancels */
        _REBOOT_STATE_MAX,
        _REBOOT_STATE_INVALID = -EINVAL,
} RebootState;

ENUM_NAMES(reboot_state, RebootState, _REBOOT_STATE_MAX)

enum { REBOOT_EXCEPT_SIZE = 1024 };

/* {"boot","by","deadline","except","kind","lineage","return","seq","since","slots","soft","state","steady",
 * "until","verdict","why","zone"}; "why" is a message without a code */
typedef struct RebootRecord {
        RebootKind kind;
        RebootState state;
        char boot[BOOT_ID_SIZE];   /* boot ID when the drain began; "": not yet */
        uint64_t soft;             /* number of soft reboots of that boot */
        char by[RECORDED_BY_SIZE]; /* user */
        uint64_t deadline_ms;      /* given to its drain at the begin; 0: none */
        char lineage[HEX64_SIZE];  /* of the cluster when it was requested; "": unknown */
        uint64_t return_ms;        /* in which the host has to be back, from the reboot */
        uint64_t seq;              /* position in the queue: hosts with a smaller one are first */
        uint64_t since_ms;         /* cluster time at which this state began */
        uint64_t steady_ms; /* of REBOOT_BACK: cluster time since which its units are available; 0: not all */
        uint64_t slots;     /* hosts that may reboot at a time; 0: 1 */
        uint64_t until_ms;  /* cluster time at which the host has to be back; 0: not yet */
        char except[REBOOT_EXCEPT_SIZE]; /* from REBOOT_REBOOTING on: its units that were not available then,
                                            each followed by a space; those without room are left out */
        char zone[SPREAD_KEY_MAX + 1];   /* key of machine metadata: one value at a time; "": none */
        Verdict why;                     /* of REBOOT_REJECTED and REBOOT_FAILED */
} RebootRecord;

STORED(reboot, RebootRecord)
