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

/* A child process whose standard output and error are read. It inherits a few variables of the environment;
 * its standard input is /dev/null. It starts off the loop, and ends with the daemon. */
typedef struct Child Child;

typedef struct ChildEvents {
        void (*on_begin)(void *userdata); /* the program runs; NULL: of no interest */
        void (*on_output)(void *userdata, const void *bytes, size_t size);
        /* Once, after the last output: the exit status, 128 + signal, or a negative errno: it did not run, or
         * its output cannot be read. The process is gone. */
        void (*on_exit)(void *userdata, int status);
        void (*on_gone)(void *userdata); /* the same after child_stop(); NULL: that is not called */
} ChildEvents;

/* How much a child may disturb the daemon and the units of the host. The caller decides by what waits for it,
 * and by who sets its cost. */
typedef enum ChildClass {
        CHILD_NEEDED, /* the cluster depends on it: scheduled as the daemon */
        CHILD_BRIEF,  /* of little and known work, for which a person waits: nice */
        CHILD_IDLE,   /* of any work: SCHED_IDLE, and the idle class of I/O. Beside programs that use all
                         processors it takes a hundred times as long. */
} ChildClass;

/* Other files for its standard input, and for standard error apart from the output; both borrowed for the
 * call, -1: as above. */
typedef struct ChildFiles {
        int input_fd, messages_fd;
} ChildFiles;

typedef struct ChildOptions {
        ChildClass class;
        unsigned cpu_s;          /* it is killed by SIGXCPU after this processor time; 0: no limit */
        const ChildFiles *files; /* NULL: none */
} ChildOptions;

/* No event is called from inside. */
int child_spawn(Child **ret, Loop *loop, const char *const argv[], const ChildOptions *options,
                const ChildEvents *events, void *userdata, Error *err);
void child_pause(Child *child, bool paused); /* back-pressure: pause or resume reading its output */
void child_stop(Child *child);               /* kill it; of its events, only on_gone() follows */
Child *child_kill(Child *child);             /* kill it and cancel its events; returns NULL */
