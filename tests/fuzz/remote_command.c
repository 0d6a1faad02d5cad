/* Arbitrary bytes as a remote command of another host about a unit: an accepted one has a valid name and
 * arguments that contain no options, and is written as it was read. */

#include "fleetd/api/remote_command_spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        Reader r = reader_over(bytes, size);
        _cleanup_writer_ Writer w = {};
        RemoteCommandLine command = {};
        RemoteCommandSpec spec, again;
        size_t n = 0;

        if (remote_command_spec_read(&r, &spec) < 0)
                return 0;
        assert(spec.kind >= 0 && spec.kind < _CALL_MAX && unit_name_check(spec.unit, NULL) == 0);
        assert(spec.lines <= CALL_LINES_MAX || (spec.kind == CALL_LOG && spec.lines == CALL_LINES_ALL));

        remote_command_spec_write(&spec, &w);
        assert(w.error == 0);
        r = reader_over(w.bytes, w.size);
        assert(remote_command_spec_read(&r, &again) == 0 && again.kind == spec.kind);
        assert(streq(spec.unit, again.unit) && streq(spec.since, again.since) &&
               streq(spec.properties, again.properties) && streq(spec.matches, again.matches));

        remote_command_spec_command(&spec, &command);
        while (n < ELEMENTS(command.argv) && command.argv[n])
                n++;
        assert(n > 0 && n < ELEMENTS(command.argv)); /* ends with NULL */
        return 0;
}
