/* stop, unload: set lower target states, and wait until the units reach them. */
#include "client/core/unit.h"
#include "client/verbs/found.h"

/* Print the message of fleet, and the next step for a unit that waits for a machine. */
static int refuse_to_stop(const Found *f) {
        fprintf(stderr, "Unable to stop unit %s in state inactive\n", f->name);
        if (f->desired > TARGET_INACTIVE)
                found_note_waiting(f, "; to cancel: fleetctl unload ");
        else
                client_note("%s is on no machine: nothing was stopped", f->name);
        return EXIT_FAILED;
}

/* Lower the target states above 'target'. 'list' becomes the names that fleet lists: of all units but global
 * ones. */
static int lower_targets(Client *c, FoundUnits *found, TargetState target, Text *list, Error *err) {
        _cleanup_free_ ApiUnit *changes = NEW0(ApiUnit, found->n + 1);
        size_t n_changes = 0;

        if (!changes)
                return -ENOMEM;
        for (size_t i = 0; i < found->n; i++) {
                const Found *f = &found->items[i];

                if (f->is_slot) { /* it gets the target state of its set */
                        if (f->desired == TARGET_LOADED)
                                TRY(names_add(&found->loaded, f->name, strlen(f->name)));
                        TRY(found_add_changed(c, found, f->name, false, 0));
                        continue;
                }
                /* fleet changed and reported global units every time. */
                if (f->desired <= target && !found_is_triggered(f, target) && !f->is_set &&
                    (f->global ? progress_is_possible() : f->current <= target))
                        continue;
                found_add_change(changes, &n_changes, f, target);
                if (f->desired == TARGET_LOADED && names_add(&found->loaded, f->name, strlen(f->name)) < 0)
                        return -ENOMEM;
                if (f->global)
                        continue;
                text_printable(list, "%s%s", list->size > 0 ? " " : "", f->name);
        }
        TRY(list->error);
        TRY(client_change(c, changes, n_changes, err));
        for (size_t i = 0; i < n_changes; i++)
                if (!names_have(&found->sets, changes[i].name))
                        TRY(found_add_changed(c, found, changes[i].name, changes[i].global, 0));
        return found_await_slots(c, found, err);
}

static int lower_run(Client *c, char **args, size_t n, Error *err) {
        bool stop = streq(c->verb->name, "stop");
        WaitRequest request = { .goal = WAIT_STOPPED, .target = stop ? TARGET_LOADED : TARGET_INACTIVE };
        _cleanup_found_ FoundUnits found = {};
        _cleanup_text_ Text list = {};
        int r;

        r = found_find(c, args, n, &found, err);
        if (r != EXIT_DONE || found.n == 0)
                return r;

        /* Check all units before the first one changes. */
        for (size_t i = 0; stop && i < found.n; i++)
                if (!found.items[i].global && found.items[i].current == TARGET_INACTIVE &&
                    !found.items[i].is_set && !found.items[i].is_slot)
                        return refuse_to_stop(&found.items[i]);

        r = lower_targets(c, &found, request.target, &list, err);
        if (r >= 0)
                r = found_wait(c, &found, &request, err);

        if (wait_was_ended(c, r))
                return wait_print_error(c, r, found.progress, err);
        if (r == -EREMOTEIO && (client_is_interactive() || client_is_about_daemon(r, err)))
                return r;
        if (r < 0) {
                fprintf(stderr, "Failed to %s units [%s]. err: %s\n", c->verb->name, list.chars ?: "",
                        error_text(err, r));
                return EXIT_FAILED;
        }
        if (!progress_is_possible() || c->options.no_block) /* progress lines show the result */
                fprintf(stderr, "Successfully %s units [%s].\n", stop ? "stopped" : "unloaded",
                        list.chars ?: "");
        return EXIT_DONE;
}

VERB(stop, "stop", "fleet no-block attempts wait patterns report", "UNIT...",
     "Stop one or more units in the cluster.", "The units stay loaded on their machines.\n" FOUND_WAITING,
     lower_run);

VERB(unload, "unload", "fleet no-block attempts patterns report", "UNIT...",
     "Unschedule one or more units in the cluster.",
     "The units are stopped and removed from their machines; the cluster keeps their files.\n" FOUND_WAITING,
     lower_run);
