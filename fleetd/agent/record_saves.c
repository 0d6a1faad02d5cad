/* Writes of the assignment records, off the loop. */
#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "fleetd/agent/agent_internal.h"

static void agent_save_ended(Agent *a, int r) {
        a->n_saved = a->n_saves;
        if (r < 0 && r != a->save_error)
                log_error(((LogFields) { .error = r }),
                          "cannot save the assignment of this host: %s; orders are obeyed all the same",
                          strerror(-r));
        a->save_error = r;
        agent_begin_saved(a);
        if (r >= 0)
                agent_wake(a); /* what was not to be told before it was noted */
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
        if (r == -ESTALE) { /* the calls that wait for it wait for the next one */
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
        if (loop_work(a->loop, &a->save_work) < 0) { /* without memory it is made here */
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
                records_write_run(a->write); /* it is over, or made here */
                (void) records_write_end(&a->records, a->write);
        }
        a->records.dirty |= a->records.table != NULL; /* invocations, which are not written each time */
        (void) records_save(&a->records);
}
