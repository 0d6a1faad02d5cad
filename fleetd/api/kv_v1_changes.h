#pragma once

#include "fleetd/api/kv_v1.h"

/* Encode an event as a line: 1 and a reference in *ret, 0 for an event without a line, or a negative errno.
 */
typedef int (*KvLine)(KvWatchEvent *event, Shared **ret);

/* Begin a stream of all changes below p->prefix, in lines of this form. 'registry': the changes are fleet's
 * own, and the right to the route suffices; "after" 0 is the beginning of the event window, and a line with
 * the index alone follows once the window is delivered. */
void kv_changes_begin(Request *request, const KvParameters *p, KvLine line, bool registry);
