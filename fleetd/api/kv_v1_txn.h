#pragma once

#include "fleetd/api/kv_v1.h"

/* Decode a transaction from JSON. On success *ret borrows from 'arena' only. On failure *ret_at names the
 * place
 * ("writes[3]", "" for none), and 'err' the reason. Pure. */
int kv_txn_decode(const void *json, size_t size, Arena *arena, KvCommand *ret, char ret_at[static 32],
                  Error *err);
