/* Waiting for work of the cluster that continues without the command: drains, reboots, rollouts. */
#pragma once

#include "base/error.h"

typedef struct Follow {
        /* Read it, and print changes. Return an exit status when it has ended, -EAGAIN while it continues,
         * -ENODATA without an answer for now, or another error, which ends the wait. */
        int (*look)(void *userdata, Error *err);
        /* Print that it continues, with the next command. 'why': the begin of the message. */
        void (*left)(void *userdata, const char *why);
        /* Print why no state comes, and that the work continues; the wait goes on for 'silent_ms'. */
        void (*lost)(void *userdata, const char *why);
        void *userdata;
        uint64_t poll_ms, silent_ms, timeout_ms; /* 0: without a timeout */
} Follow;

/* Return whether two lines differ at most in times that are left and in the order of their words: then the
 * second one is no news. */
bool follow_is_same(const char *a, const char *b);

/* Return the exit status of 'look', EXIT_CONTINUES after the timeout, without an answer for 'silent_ms', or
 * after an interrupt, or an error. */
int follow(const Follow *f, Error *err);
