#include "tests/lib/leader.h"

#include "fleetd/registry/registry.h"

Leader leader;

void __real_kv_sync(KvStore *store, KvSync *sync);
void __real_kv_sync_cancel(KvStore *store, KvSync *sync);
void __real_kv_state(KvStore *store, KvState *ret);
void __wrap_kv_sync(KvStore *store, KvSync *sync);
void __wrap_kv_sync_cancel(KvStore *store, KvSync *sync);
void __wrap_kv_state(KvStore *store, KvState *ret);
int __wrap_kv_transfer(KvStore *store, uint64_t raft_id);
uint64_t __real_registry_index(const Registry *r);
uint64_t __wrap_registry_index(const Registry *r);

void __wrap_kv_sync(KvStore *store, KvSync *sync) {
        if (leader.hold)
                leader.held = sync;
        else
                __real_kv_sync(store, sync);
}

void __wrap_kv_sync_cancel(KvStore *store, KvSync *sync) {
        leader.cancelled++;
        if (sync == leader.held)
                leader.held = NULL;
        else
                __real_kv_sync_cancel(store, sync);
}

void __wrap_kv_state(KvStore *store, KvState *ret) {
        __real_kv_state(store, ret);
        ret->ready &= !leader.gone;
        ret->level = leader.level ?: ret->level;
        ret->attached |= leader.attached;
        ret->role = leader.follows ? KV_ROLE_FOLLOWER : ret->role;
        ret->n_voters = leader.voters ?: ret->n_voters;
        ret->n_voters_reachable = leader.voters ?: ret->n_voters_reachable;
}

int __wrap_kv_transfer(KvStore *store, uint64_t raft_id) {
        leader.transfers++;
        return 0;
}

uint64_t __wrap_registry_index(const Registry *r) {
        return leader.view_lags ? 0 : __real_registry_index(r);
}
