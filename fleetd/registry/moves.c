/* Requested moves: the key of a unit that is to run on another machine. */
#include "fleetd/registry/transaction.h"

static void move_note(Transaction *t, const Registry *r, const ClusterUnit *u, const MoveRecord *move,
                      const char *user, const Verdict *result) {
        transaction_note(t, r,
                         &(HistoryNote) { .kind = HISTORY_MOVE,
                                          .unit = u->name,
                                          .machine = move->to,
                                          .user = user,
                                          .verdict = result });
}

int registry_move(Registry *r, const ClusterUnit *u, const MoveRecord *move, RegistryDone done,
                  void *userdata) {
        _cleanup_transaction_ Transaction t = {};
        Verdict requested;

        verdict_set(&requested, VERDICT_MOVE_REQUESTED, "%s", cluster_name_of(registry_cluster(r), move->to));
        transaction_check(&t, KV_CHECK_MODIFIED, u->index, LAYOUT_UNIT, u->name, NULL);
        transaction_check_index(&t, u->move_index, LAYOUT_MOVE, u->name, NULL);
        transaction_put(&t, LAYOUT_MOVE, u->name, NULL, move);
        move_note(&t, r, u, move, move->by, &requested);
        return transaction_send(r, &t, 0, done, userdata);
}

int registry_end_moves(Registry *r, uint64_t term, const MoveEnd *ends, size_t n, const char *user,
                       RegistryDone done, void *userdata) {
        _cleanup_transaction_ Transaction t = {};

        for (size_t i = 0; i < n; i++) {
                const ClusterUnit *u = ends[i].unit;

                transaction_check(&t, KV_CHECK_MODIFIED, u->move_index, LAYOUT_MOVE, u->name, NULL);
                transaction_delete(&t, LAYOUT_MOVE, u->name, NULL);
                move_note(&t, r, u, u->move, user, &ends[i].result);
                if (ends[i].result.code == VERDICT_MOVE_DONE && u->sticky &&
                    !(u->data && streq(u->data->machine, u->move->to))) { /* to be loaded only */
                        DataRecord data = { .since_ms = registry_cluster(r)->now_ms };

                        memcpy(data.machine, u->move->to, sizeof(data.machine));
                        transaction_put(&t, LAYOUT_DATA, u->name, NULL, &data);
                }
        }
        return transaction_send(r, &t, term, done, userdata);
}
