/* Answers in the form of etcd's v2 keys. Source: the v2 API of etcd 3.4. */
#pragma once

#include "base/text.h"
#include "fleetd/api/request.h"

/* Write {"action":...,"node":{...},"prevNode":{...}} and a newline. 'wall_ms' is the wall clock that belongs
 * to cluster time 'now_ms', for "expiration". */
void keys_v2_write_event(Text *t, const KvEvent *event, uint64_t now_ms, uint64_t wall_ms);

/* Answer with code 300; the request is freed. */
void keys_v2_refuse(Request *request, const char *cause);
/* The same if the path is one of etcd's; else answer 503. */
void keys_v2_refuse_any(Request *request, const char *cause);
void keys_v2_forbid(Request *request); /* 401, with code 110: the sender has no right to the key */

/* Write {"errorCode":...} and a newline, and return the HTTP status of the code. */
unsigned keys_v2_write_error(Text *t, unsigned code, const void *cause, size_t cause_size, uint64_t index);
