#include "fleetd/sessions/choosing.h"

#include "base/table.h"

/* Return the score of a replica for a machine; the highest one wins. A replica of weight 2 draws twice. */
static uint64_t choice_score(const char *machine_id, const ReplicaChoice *choice) {
        uint64_t best = 0;

        for (unsigned i = 0; i < choice->weight; i++) {
                const uint64_t key[] = { choice->raft_id, i };
                uint64_t seed = XXH3_64bits(key, sizeof(key));

                best = MAX(best, (uint64_t) XXH3_64bits_withSeed(machine_id, strlen(machine_id), seed));
        }
        return best;
}

static void choices_swap(ReplicaChoice *a, ReplicaChoice *b) {
        ReplicaChoice c = *a;

        *a = *b;
        *b = c;
}

/* Move the best of the choices to the front. */
static void choose_best(const char *machine_id, ReplicaChoice *choices, size_t n) {
        size_t best = 0;

        for (size_t i = 1; i < n; i++)
                if (choice_score(machine_id, &choices[i]) > choice_score(machine_id, &choices[best]))
                        best = i;
        choices_swap(&choices[0], &choices[best]);
}

void choose_replicas(const char *machine_id, ReplicaChoice *choices, size_t n) {
        for (size_t i = 0; i + 1 < n; i++)
                choose_best(machine_id, choices + i, n - i);
        for (size_t i = 2; i < n && same_string(choices[0].place, choices[1].place); i++)
                if (!same_string(choices[0].place, choices[i].place)) {
                        ReplicaChoice second = choices[i];

                        memmove(&choices[2], &choices[1], (i - 1) * sizeof(*choices));
                        choices[1] = second;
                }
}
