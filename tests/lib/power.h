/* What a power cut may leave of a folder.
 *
 * A program that links power_calls.c records libc's calls on files below a folder, its own and those of
 * shared libraries. power.c makes images of them: every synced byte, and of the other bytes any sectors of
 * 512 bytes; every name whose folder was synced, and of the other creations, removals and renamings any part.
 * A write or a sync under way may have done any part of its work. */
#pragma once

#include "base/clock.h"

typedef struct Power Power;

/* Record calls on files below 'root', which is empty, one at a time, until power_end(). */
void power_begin(const char *root);
/* Record a promise, which must hold from now on; copies it. */
void power_promise(const char *promise);
Power *power_end(void);
Power *power_free(Power *p);

size_t power_moments(const Power *p);
/* Execute the record again and compare the result with the folder. False: a call was not recorded; stderr
 * names the difference. */
bool power_is_complete(const Power *p);

/* Return whether the folder or file 'path' was synced between two recorded promises. */
bool power_synced_between(const Power *p, const char *path, const char *from, const char *to);

/* Advance to a moment: call number 'moment' is under way, all earlier ones have returned. */
void power_go(Power *p, size_t moment);
/* Create the folder 'into' with an image of this moment. */
void power_image(const Power *p, Random *random, const char *into);
/* Call 'look' with each promise made before this moment. */
void power_promises(const Power *p, void (*look)(void *userdata, const char *promise), void *userdata);

/* Ignore syncs of files or folders whose path contains 'part', for a test of the tests; NULL: ignore none. */
void power_distrust(Power *p, const char *part);
