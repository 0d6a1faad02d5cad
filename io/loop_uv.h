/* The libuv backend of io/loop.h, and what only a real process has: signals, guests (sd-bus, inotify), child
 * processes. */
#pragma once

#include "base/error.h"
#include "io/loop.h"

typedef struct UvLoop UvLoop;

int loop_uv_new(UvLoop **ret);      /* seeds loop_random() from the system */
UvLoop *loop_uv_free(UvLoop *loop); /* close all handles and run until they are closed; return NULL */
Loop *loop_uv_base(UvLoop *loop);   /* the same object as a Loop */
UvLoop *loop_uv(Loop *loop);        /* the reverse; only for modules without simulated implementation */
int loop_uv_run(UvLoop *loop);      /* until loop_uv_stop() */
void loop_uv_stop(UvLoop *loop);

/* For other files of io/ only: libuv's loop, and the shared read buffer. Its content is valid until the read
 * callback returns. */
enum { LOOP_UV_BUFFER_SIZE = 64 * 1024 };
struct uv_loop_s *loop_uv_handle(UvLoop *loop);
void *loop_uv_buffer(UvLoop *loop);
/* Call these at the beginning and the end of each libuv callback that may do work. The first begins the turn;
 * the second attributes the time since the last call to 'name' (static). */
void loop_uv_enter(UvLoop *loop);
void loop_uv_leave(UvLoop *loop, const char *name);
/* Handles that loop_uv_free() need not find closed, because their end is near: one more, or one less. */
void loop_uv_expect_end(UvLoop *loop, int n);

/* Call 'on_signal' on the loop for each signal of that number. 0 or a negative errno. */
int loop_uv_on_signal(UvLoop *loop, int signal_number, void (*on_signal)(void *userdata, int signal_number),
                      void *userdata);

/* A guest: a library with its own descriptor, events and deadline (sd-bus, inotify). Before each sleep, the
 * loop calls work() until the guest is idle (at most 64 times), then wants(). */
typedef struct Guest Guest;

typedef struct GuestOps {
        /* Return the descriptor (-1: none) and the poll(2) events to wait for, and the relative timeout in
         * ms, rounded up (UINT64_MAX: none). After a negative errno, 'broken' is called. */
        int (*wants)(void *lib, int *fd, short *events, uint64_t *timeout_ms);
        int (*work)(void *lib);               /* > 0: call again, 0: idle, < 0: broken */
        void (*broken)(void *lib, int error); /* called once, deferred; close the guest then */
        const char *name;                     /* in the figures of a turn; static */
} GuestOps;

int guest_open(Guest **ret, UvLoop *loop, const GuestOps *ops, void *lib);
Guest *guest_close(Guest *guest); /* stops at once and is freed later; returns NULL */
