/* What the store offers to its parts: the tree that serves, its figures, and cluster time. */
#pragma once

#include "base/bytes.h"
#include "kvstore/kvstore.h"
#include "kvstore/tree/tree.h"

/* Begin a read transaction on the serving tree, for one callback of the loop at most. */
int kv_read(KvStore *s, TreeTxn **ret);

unsigned kv_level(const KvStore *s);      /* feature level of the tree */
uint64_t kv_kept_bytes(const KvStore *s); /* of results in the tree */

/* On an attached host: return the machine of another replica than the one in use that answers, or NULL. */
const char *kv_other_replica(const KvStore *s);

/* Cluster time now; the first leader of a cluster begins with its own clock. 0: not known yet. */
uint64_t kv_clock_ms(KvStore *s);

/* Cluster time is not before this one. */
void kv_take_time(KvStore *s, uint64_t cluster_ms);

/* Return whether there is room for what 'cmd' adds, by the figures of the tree: 0, or a rejection with its
 * message. Apply checks it again; this keeps commands out of the log that it would reject for this reason
 * first. */
int kv_check_room(KvStore *s, const KvCommand *cmd, KvStatus *ret_status, Error *err);
/* Record 'index', whose state this tree may not have reached, before an answer of the leader acknowledges it:
 * no older state is served afterwards, also after a restart. A negative errno: the answer must not be given.
 * Once the mark of the tree is withdrawn, further answers write nothing until the tree has reached them all.
 */
int kv_acknowledge(KvStore *s, uint64_t index);
