/* fleetctl as a whole. */
#pragma once

/* Runs it with these arguments, which are changed: the exit status. What is printed has been written when it
 * returns. */
int fleetctl_main(int argc, char **argv);
