/* The TLS listener (ListenTLS=): its certificate, handshakes, and which users are admitted. Within fleetd/api
 * only.
 *
 * A user is admitted by the pin of its key in the tree. A change of the tree ends the connections of users
 * that are revoked or have another key, within the same turn of the loop. */
#pragma once

#include "fleetd/api/request.h"

typedef struct TlsFront TlsFront;

/* Check that 'listener' can listen at its address, and open it as soon as the cluster has a CA. An error
 * names the address and the remedy. */
int tls_front_new(TlsFront **ret, ApiListenerState *listener, Error *err);
TlsFront *tls_front_free(TlsFront *front); /* NULL allowed; returns NULL */

/* After a change of roots or users: renew the certificate if it is due, and end connections, and the trust in
 * addresses whose last user was revoked. */
void tls_front_review(TlsFront *front);

/* Set the user of a connection of a TLS listener. */
void tls_front_principal(const Stream *stream, Principal *ret);
/* Return whether the value of a Host header names this listener: an IP address or name of its certificate,
 * with any port. */
bool tls_front_has_name(const TlsFront *front, const char *host);
