/* destroy: remove units from the cluster. */
#include "base/parse.h"
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
                if (found_is_slot(found, &found->items[i])) /* it goes with its set */
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
                if (found_is_slot(found, &found->items[i]) &&
                    names_add(&found->waiting, found->items[i].name, strlen(found->items[i].name)) < 0)
                        return client_fail(-ENOMEM, NULL);
        return status;
}

/* Print to which machines units of these names return. */
static void destroy_note_data(Client *c, const Names *names) {
        for (size_t i = 0; i < names->n && i < DATA_NOTES_MAX; i++) {
                _cleanup_json_ JsonValue *root = client_get_data(c, "?unit=", names->items[i]);

                JSON_EACH(unit, json_value_member(root, "units"))
                        if (*member_text(unit, "machine"))
                                client_note("%s: its data stays on %s; a unit of this name returns there",
                                            names->items[i], member_text(unit, "machine"));
        }
}

/* Print that a new instance takes the place of a destroyed one, which is one of a set that stays. */
static void note_created_again(Client *c, const FoundUnits *found, const char *name) {
        _cleanup_free_ char *template = unit_name_is_instance(name) ? unit_name_template(name) : NULL;
        _cleanup_json_ JsonValue *set = NULL;
        uint64_t number, n;
        char digits[8] = "";

        if (!template || names_have(&found->names, template) ||
            sscanf(name + strcspn(name, "@") + 1, "%7[0-9].", digits) != 1 ||
            parse_u64(digits, &number) < 0 || found_read_set(c, template, &set, NULL) <= 0)
                return;
        n = member_number(set, "count");
        if (number >= 1 && number <= n)
                client_note("%s is created again: %s has %llu replicas; for fewer: fleetctl scale %s %llu",
                            name, template, (unsigned long long) n, template, (unsigned long long) n - 1);
}

static int destroy_run(Client *c, char **args, size_t n, Error *err) {
        _cleanup_found_ FoundUnits found = {};
        int r, status;

        TRY_DONE(found_find(c, args, n, &found, err));

        /* Destroy all before the first wait, so that they stop at the same time. */
        status = destroy_units(c, &found);
        destroy_note_data(c, &found.waiting);
        for (size_t i = 0; i < MIN(found.waiting.n, (size_t) UNITS_MANY); i++)
                note_created_again(c, &found, found.waiting.items[i]);
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
