/* The whole program. */
#pragma once

/* Run fleetctl with these arguments, which are modified. Return the exit status. All output has been flushed.
 */
int fleetctl_main(int argc, char **argv);
