/* The contents of units with inputs. */
#include "fleetd/registry/transaction_parts.h"

static void inputs_note(Transaction *t, const Registry *r, const InputsWrite *w) {
        HistoryNote note = { .kind = HISTORY_CONTENT, .unit = w->noted };
        char reason[INPUTS_WHAT_SIZE + 48];

        if (w->begins)
                note.verdict = &w->record->problem;
        else {
                snprintf(reason, sizeof(reason), "content %llu%s%s%s", (unsigned long long) w->record->number,
                         w->record->what[0] ? " (" : "", w->record->what, w->record->what[0] ? ")" : "");
                note.reason = reason;
        }
        transaction_note(t, r, &note);
}

int registry_write_inputs(Registry *r, uint64_t term, const InputsWrite *writes, size_t n, size_t *ret_n,
                          RegistryDone done, void *userdata) {
        _cleanup_transaction_ Transaction t = {};
        size_t i;

        for (i = 0; i < n; i++) {
                const InputsWrite *w = &writes[i];
                Transaction before = t;

                transaction_check_index(&t, w->unit->index, LAYOUT_UNIT, w->unit->name, NULL);
                transaction_check_index(&t, w->unit->inputs_index, LAYOUT_INPUTS, w->unit->name, NULL);
                transaction_put(&t, LAYOUT_INPUTS, w->unit->name, NULL, w->record);
                if (i > 0 && !transaction_fits(&t, &before))
                        break;
                if (w->noted)
                        inputs_note(&t, r, w);
        }
        *ret_n = i;
        return transaction_send(r, &t, term, done, userdata);
}
