/* A folder for one test, gone with everything in it afterwards; and a port. */
#pragma once

/* Makes a new folder below $TMPDIR (or /tmp); aborts the test program if it cannot. The caller frees the path
 * by scratch_free(), which removes the folder. */
char *scratch_new(void);
char *scratch_free(char *path); /* NULL allowed; returns NULL */

/* "SCRATCH/NAME", to be freed by free(). */
char *scratch_path(const char *scratch, const char *name);

/* Makes or replaces the file; a test's own way, without the care of write_file_at(). */
void scratch_write(const char *path, const char *text);

/* A TCP port of 127.0.0.1 on which nothing listens, for a listener that is opened later: it lies below those
 * that the kernel gives to connections (ip_local_port_range), so that none takes it before. */
int scratch_port(void);
