/* The whole cluster on one screen. */
#pragma once

#include "client/client.h"

/* Prints it: what is wrong comes first. EXIT_DONE when nothing is, else EXIT_FAILED. */
int overview(Client *c);
