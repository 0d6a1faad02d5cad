/* Named points before and after each durable step, at which a test kills the daemon.
 *
 * tests/unit/test-fault_points.c names all of them. A build without --enable-fault-points contains none. */
#pragma once

/* Kill this process by SIGKILL if FAULT_POINT=NAME is in its environment; with FAULT_POINT=NAME#N, the N-th
 * time that it reaches the point. With FAULT_POINTS_SEEN=FILE, append the name to FILE when the point is
 * reached for the first time.
 *
 * 'subject' completes the name where one line of code serves several files: "file-synced identity"; NULL:
 * none. Any thread may call this. */
#ifdef FAULT_POINTS
void fault_point_of(const char *name, const char *subject);
#else
#define fault_point_of(name, subject) ((void) (subject))
#endif
#define fault_point(name) fault_point_of(name, NULL)
