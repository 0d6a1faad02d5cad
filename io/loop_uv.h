/* The real loop: libuv. One of two backends of io/loop.h; also the home of what only a real process has:
 * signals, descriptors of guests (sd-bus, inotify), child processes. */
#pragma once

#include "base/error.h"
#include "io/loop.h"

typedef struct UvLoop UvLoop;

int loop_uv_new(UvLoop **ret);      /* seeds loop_random() from the system */
UvLoop *loop_uv_free(UvLoop *loop); /* closes what is open, runs until closed; returns NULL */
Loop *loop_uv_base(UvLoop *loop);   /* the same object as a Loop */
UvLoop *loop_uv(Loop *loop);        /* back; only for real edges */
int loop_uv_run(UvLoop *loop);      /* until loop_uv_stop() */
void loop_uv_stop(UvLoop *loop);

/* For other files of io/ only: libuv's loop, and the one buffer into which everybody reads. What lies in the
 * buffer is valid until the reading callback returns. */
enum { LOOP_UV_BUFFER_SIZE = 64 * 1024 };
struct uv_loop_s *loop_uv_handle(UvLoop *loop);
void *loop_uv_buffer(UvLoop *loop);
/* At the beginning and the end of each callback of libuv that may do work: the turn has begun, if it had not;
 * 'name' (static) ran since the last such call. */
void loop_uv_enter(UvLoop *loop);
void loop_uv_leave(UvLoop *loop, const char *name);

/* Calls 'on_signal' on the loop for each 'signal_number' that arrives. 0 or a negative errno. */
int loop_uv_on_signal(UvLoop *loop, int signal_number, void (*on_signal)(void *userdata, int signal_number),
                      void *userdata);

/* A guest: a library with a descriptor, wanted events and a deadline of its own (sd-bus, inotify). Before
 * each sleep it is worked until idle (at most 64 rounds) and then asked what to wait for. */
typedef struct Guest Guest;

typedef struct GuestOps {
        /* fd (-1: none) and poll(2) events to wait for, timeout relative in ms, rounded up (UINT64_MAX:
         * none). Negative errno: the guest is broken; 'broken' is called. */
        int (*wants)(void *lib, int *fd, short *events, uint64_t *timeout_ms);
        int (*work)(void *lib);               /* > 0: call again, 0: idle, < 0: broken */
        void (*broken)(void *lib, int error); /* once, from the loop, deferred; close the guest then */
        const char *name;                     /* in the figures of a turn; static */
} GuestOps;

int guest_open(Guest **ret, UvLoop *loop, const GuestOps *ops, void *lib);
Guest *guest_close(Guest *guest); /* stops at once; frees itself later; returns NULL */

/* A child process whose standard output (and error) is read. 'on_output' per piece; 'on_exit' once, after the
 * last output, with the exit status or 128 + signal. environment: the daemon's, cleaned; stdin is /dev/null.
 */
typedef struct Child Child;

typedef struct ChildEvents {
        void (*on_output)(void *userdata, const void *bytes, size_t size);
        void (*on_exit)(void *userdata, int status);
} ChildEvents;

int child_spawn(Child **ret, UvLoop *loop, const char *const argv[], const ChildEvents *events,
                void *userdata, Error *err);
void child_pause(Child *child, bool paused); /* back-pressure: stop or go on reading its output */
Child *child_kill(Child *child);             /* ends it and forgets the events; returns NULL */
