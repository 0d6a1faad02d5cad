/* A scan of a unit directory, all steps at once. */
#pragma once

#include "fleetd/directory/scan.h"

_unused_ static unsigned scan_level; /* of the cluster; 0: not known */

static inline int scan_folder(int dir_fd, const char *path, const char *machine_id,
                              bool (*is_unfinished)(void *userdata, const char *name), void *userdata,
                              DirectoryFolder *ret) {
        _cleanup_(directory_scan_done) DirectoryScan scan = { .path = path,
                                                              .machine_id = machine_id,
                                                              .is_unfinished = is_unfinished,
                                                              .userdata = userdata,
                                                              .level = scan_level };
        _cleanup_directory_folder_ DirectoryFolder folder = {};
        int r;

        r = directory_scan_begin(&scan, dir_fd);
        if (r < 0)
                return r;
        do {
                r = directory_scan_step(&scan, &folder, 0);
        } while (r > 0);
        if (r < 0)
                return r;
        *ret = folder;
        folder = (DirectoryFolder) {};
        return 0;
}
