/* Child processes of a real loop. */
#pragma once

#include "base/error.h"
#include "io/loop.h"

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
