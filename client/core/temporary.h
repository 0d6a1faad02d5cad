/* Temporary files and folders, which a signal that ends the program removes, too. */
#pragma once

/* Remember the path, which stays valid until temporary_forget(). There are few at a time; of more, the last
 * ones remain after a signal. */
void temporary_add(const char *path);
void temporary_forget(const char *path);
