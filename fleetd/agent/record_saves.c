/* Saves of the assignment records: one write at a time, off the loop.
 *
 * The next write contains all changes since the previous one began. Calls to systemd wait for the write that
 * contains their record. If a write fails, the calls are made all the same: a full disk must not keep units
 * from being started and stopped. */
#include <errno.h>

#include "base/log.h"
#include "fleetd/agent/agent_internal.h"

static void agent_save_ended(Agent *a, int r) {
        a->n_saved = a->n_saves;
        if (r < 0 && r != a->save_error)
                log_error(((LogFields) { .error = r }),
                          "Failed to save the assignments of this host: %s; executing them all the same",
                          strerror(-r));
        a->save_error = r;
        agent_begin_saved(a);
        if (r >= 0)
                agent_wake(a); /* completions are published after the save that records them */
}

static void agent_save_run(void *userdata) {
        Agent *a = userdata;

        records_write_run(a->write);
}

static void agent_save_done(void *userdata) {
        Agent *a = userdata;
        int r = a->closing ? 0 : records_write_end(&a->records, a->write);

        a->write = records_write_free(a->write);
        if (!agent_call_ended(a))
                return;
        if (r == -ESTALE) { /* the waiting calls wait for the next write */
                agent_save(a);
                return;
        }
        agent_save_ended(a, r);
        if (agent_waits_for_save(a))
                agent_save(a);
}

void agent_save(Agent *a) {
        int r;

        if (a->write || !a->records.dirty)
                return;
        r = records_write_new(&a->records, &a->write);
        a->n_saves++;
        if (r < 0) {
                agent_save_ended(a, r);
                return;
        }
        a->save_work = (Work) { .name = LOOP_NAME(agent_save_done),
                                .work = agent_save_run,
                                .done = agent_save_done,
                                .userdata = a };
        if (loop_work(a->loop, &a->save_work) < 0) { /* no memory for a worker: write on the loop */
                records_write_run(a->write);
                r = records_write_end(&a->records, a->write);
                a->write = records_write_free(a->write);
                agent_save_ended(a, r);
                return;
        }
        a->calls++;
}

void agent_end_saves(Agent *a, bool save) {
        agent_drop_waiting(a);
        if (!save && a->write) {
                a->write = records_write_free(a->write);
                a->calls--;
        }
        if (!save)
                return;
        if (a->write) {
                records_write_run(a->write); /* returns when the worker's write, or this one, has ended */
                (void) records_write_end(&a->records, a->write);
        }
        a->records.dirty |= a->records.table != NULL; /* a new invocation alone does not set 'dirty' */
        (void) records_save(&a->records);
}
