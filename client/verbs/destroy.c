/* destroy: remove units from the cluster. */
#include "client/core/notes.h"
#include "client/core/unit.h"
#include "client/verbs/found.h"

/* Wait for the units in the given order and print the line of fleet for each. */
static int wait_gone(Client *c, const Names *names) {
        int status = EXIT_DONE;

        for (size_t i = 0; i < names->n; i++) {
                const Names one = { .items = &names->items[i], .n = 1 };
                Error err = {};
                int r = 0;

                if (!c->options.no_block)
                        r = wait_for(c, &(WaitRequest) { .goal = WAIT_GONE, .names = &one, .quiet = true },
                                     &err);
                if (wait_was_ended(c, r))
                        return wait_print_error(c, r, NULL, &err);
                if (r < 0) {
                        fprintf(stderr, "Error destroying units: %s\n", error_text(&err, r));
                        status = EXIT_FAILED;
                } else
                        printf("Destroyed %s\n", names->items[i]);
                (void) fflush(stdout);
        }
        return status;
}

/* Destroy units, and add those that are destroyed to found->waiting. Return an exit status; errors are
 * printed. */
static int destroy_units(Client *c, FoundUnits *found) {
        _cleanup_free_ ApiUnit *units = NEW0(ApiUnit, found->n + 1);
        int status = EXIT_DONE;
        size_t n = 0;

        if (!units)
                return client_fail(-ENOMEM, NULL);
        for (size_t i = 0; i < found->n; i++) {
                if (found->items[i].is_slot) /* it goes with its set */
                        continue;
                units[n] = client_change_of(found->items[i].name);
                units[n++].destroy = true;
        }
        for (size_t i = 0, end; i < n; i = end) {
                bool all;

                end = MIN(n, i + BATCH_UNITS);
                all = end - i > 1 && client_destroy(c, units + i, end - i, NULL) >= 0;
                for (size_t k = i; k < end; k++) {
                        Error err = {};
                        /* After a rejected transaction, single requests find the unit that was rejected. */
                        int r = all ? 0 : client_destroy(c, &units[k], 1, &err);

                        if (r < 0)
                                status = client_fail_after(r, &err, "Error destroying units: ");
                        else if (names_add(&found->waiting, units[k].name, strlen(units[k].name)) < 0)
                                return client_fail(-ENOMEM, NULL);
                }
        }
        for (size_t i = 0; i < found->n && status == EXIT_DONE; i++)
                if (found->items[i].is_slot &&
                    names_add(&found->waiting, found->items[i].name, strlen(found->items[i].name)) < 0)
                        return client_fail(-ENOMEM, NULL);
        return status;
}

/* An instance of a set that stays is created again at once: print that, and do not wait until it is gone. */
static void drop_created_again(Client *c, FoundUnits *found) {
        _cleanup_free_ char *template = NULL; /* that of 'slots' */
        _cleanup_names_ Names slots = {};
        size_t kept = 0;

        for (size_t i = 0; i < found->waiting.n; i++) {
                char *name = found->waiting.items[i];
                _cleanup_free_ char *of = unit_name_is_instance(name) ? unit_name_template(name) : NULL;

                found->waiting.items[kept++] = name;
                if (!of || names_have(&found->names, of))
                        continue;
                if (!same_string(template, of)) {
                        _cleanup_json_ JsonValue *set = NULL;

                        names_cut(&slots, 0);
                        if (found_read_set(c, of, &set, NULL) > 0)
                                (void) found_slots(of, 1, member_number(set, "count"), &slots);
                        free(template);
                        template = TAKE_PTR(of);
                }
                if (!names_have(&slots, name))
                        continue;
                client_note("%s is created again: %s has %zu replicas; for fewer: fleetctl scale %s %zu",
                            name, template, slots.n, template, slots.n - 1);
                printf("Destroyed %s\n", name);
                free(name);
                kept--;
        }
        found->waiting.n = kept;
}

static int destroy_run(Client *c, char **args, size_t n, Error *err) {
        _cleanup_found_ FoundUnits found = {};
        int r, status;

        TRY_DONE(found_find(c, args, n, &found, err));

        /* Destroy all before the first wait, so that they stop at the same time. */
        status = destroy_units(c, &found);
        for (size_t i = 0; i < found.n && i < DATA_NOTES_MAX && !found.items[i].is_slot; i++)
                if (names_have(&found.waiting, found.items[i].name))
                        client_note_kept_data(c, found.items[i].name, &found.waiting, false);
        drop_created_again(c, &found);
        if (c->options.no_block || !progress_is_possible())
                return wait_gone(c, &found.waiting) ?: status;
        r = found_wait(c, &found, &(WaitRequest) { .goal = WAIT_GONE }, err);
        return r < 0 ? wait_print_error(c, r, found.progress, err) : status;
}

VERB(destroy, "destroy", "fleet no-block attempts patterns-all yes report", "UNIT...",
     "Destroy one or more units in the cluster",
     "Stops the units, removes them from their machines, and deletes their files.\n"
     "Returns when no machine reports them.\n",
     destroy_run);
