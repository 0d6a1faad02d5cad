/* What a power cut may leave of a folder. The program that links power.c has libc's calls on files done and
 * written down, for itself and for the shared libraries that it uses; of that, images are made: every byte
 * that was synced, and of the rest any part, by sectors of 512 bytes; every name whose folder was synced, and
 * of the other makings, renamings and removals any part. A write or a sync that is under way may have come to
 * any part of what it does. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/clock.h"

typedef struct Power Power;

/* From now on calls on whatever is below 'root', which is empty, are written down, one at a time; by
 * power_end() no more. */
void power_begin(const char *root);
/* Writes down a promise, which counts from now on; copies it. */
void power_promise(const char *promise);
Power *power_end(void);
Power *power_free(Power *p);

size_t power_moments(const Power *p);
/* True if what was written down, done again, is what lies there: no call has escaped. Else it says on stderr
 * what differs. */
bool power_is_complete(const Power *p);

/* Whether the folder or file 'path' was synced between two promises that were made. */
bool power_synced_between(const Power *p, const char *path, const char *from, const char *to);

/* Goes forward to that moment: call number 'moment' is under way, all before it have returned. */
void power_go(Power *p, size_t moment);
/* What may lie there if the power is cut now, in the folder 'into', which is not there. */
void power_image(const Power *p, Random *random, const char *into);
/* Calls back with each promise made before this moment. */
void power_promises(const Power *p, void (*look)(void *userdata, const char *promise), void *userdata);

/* Syncs of files or folders whose path contains 'part' do nothing: for a test of the tests. NULL: all count.
 */
void power_distrust(Power *p, const char *part);
