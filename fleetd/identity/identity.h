/* The identity of this host in its cluster, as files below the state directory.
 *
 *   identity/key               private key of the host, PEM; made on this host, and never leaves it
 *   identity/certificate.pem   its certificate, which the cluster has issued
 *   identity/roots.pem         the roots of the cluster
 *   identity/key.next          the next key, until the cluster has issued a certificate for it
 *   identity/entering          until the host has entered its cluster: the content of the cluster file
 *   identity/certificates      the cluster requires certificates: the key file has no effect any more; empty
 *   identity.new/              the same, being written
 *   cluster                    ID of the cluster of an attached host without a certificate
 *   old/N/                     what a join or a leave has replaced: identity, log and tree, for an operator
 *   leaving                    exists from the end of a leave to the next start
 *
 * A join writes the key first, and the answer of the cluster into identity.new/ later; 'entering' is written
 * last, so a folder with this file is complete. identity_begin() completes at the next start what a crash has
 * interrupted: it moves the former cluster of this host to old/N, then writes the cluster file. Each step may
 * be repeated. After a leave, it moves all state of the cluster to old/N, deletes the cluster keys and the
 * content of the cluster file, and 'leaving' last: the host starts empty. All calls block, and write little.
 */
#pragma once

#include "base/error.h"
#include "io/tls_credentials.h"

enum {
        IDENTITY_KEY_MAX = 4096, /* bytes of the file, as the next ones */
        IDENTITY_CERT_MAX = 16384,
        IDENTITY_ROOTS_MAX = 64 * 1024,
        IDENTITY_ENTERING_MAX = 64 * 1024,
};

/* Terminated texts, owned. */
typedef struct HostIdentity {
        char *key, *certificate, *roots;
} HostIdentity;

void identity_done(HostIdentity *identity); /* wipes the key */
#define _cleanup_identity_ _cleanup_(identity_done)

/* Read the identity of this host. -ENOENT: it has none. -EPERM: folder or key belong to another user, or
 * others may read them; the message names the command that corrects this. */
int identity_read(const char *state_directory, HostIdentity *ret, Error *err);

/* The same as credentials for sessions; -EBADMSG also for files that do not fit each other. */
int identity_read_credentials(const char *state_directory, TlsCredentials **ret, Error *err);

/* Return 0 if the certificate of this host is of this machine, else -EPERM: the folder is a copy, or the
 * machine ID was changed. No peer accepts it, and its records of running units are of another machine. */
int identity_check_machine(const char *state_directory, const char *machine_id, Error *err);

/* Read the key of this host for a join: that of the identity, which is kept for the life of the installation,
 * or that of an interrupted join. -ENOENT: there is none; identity_write_key() stores a new one. The caller
 * wipes and frees *ret with identity_wipe(). */
int identity_read_key(const char *state_directory, char **ret, Error *err);
int identity_write_key(const char *state_directory, const char *key, Error *err);

/* The same as a key for a certificate request: the stored one, or a new one, which is stored first. The
 * caller frees *ret, and *ret_pem by identity_wipe(). */
int identity_key(const char *state_directory, char **ret_pem, TlsPrivateKey **ret, Error *err);
void identity_wipe(char *text); /* NULL allowed */

/* Make the next key of this host, durably; a next key that exists is kept. identity_renew() puts it in force
 * with the first certificate for it. -ENOENT: this host has no identity. */
int identity_rekey(const char *state_directory, Error *err);
bool identity_has_next_key(const char *state_directory);
/* Read the next key. -ENOENT: there is none. The caller frees *ret. */
int identity_next_key(const char *state_directory, TlsPrivateKey **ret, Error *err);

/* Store what a cluster has issued for 'key', durably: from now on, each start enters that cluster.
 * 'cluster_file' is the content of the cluster file. identity_begin() does the rest. */
int identity_store(const char *state_directory, const char *key, const char *certificate, const char *roots,
                   const char *cluster_file, Error *err);

/* Store the first identity of a host whose store belongs to the cluster already. -EEXIST: it has one. */
int identity_store_first(const char *state_directory, const char *key, const char *certificate,
                         const char *roots, Error *err);

/* Record durably that the cluster of this identity requires certificates. May be repeated. -ENOENT: there is
 * no identity. */
int identity_require(const char *state_directory, Error *err);
bool identity_is_required(const char *state_directory);

/* Replace certificate and roots of the identity: a renewal, or a rotation of the roots. The roots are
 * replaced first, so that they contain the issuer of the certificate at each moment. If the certificate is
 * for the next key, that becomes the key; after a crash in between, identity_begin() does it. */
int identity_renew(const char *state_directory, const char *certificate, const char *roots, Error *err);

/* Record durably to which cluster this host is attached. A certificate names it, too: only a host with a key
 * file needs this. */
int identity_write_cluster(const char *state_directory, uint64_t cluster_id, Error *err);
/* -ENOENT: no cluster is recorded. -EBADMSG: the file has other content. */
int identity_read_cluster(const char *state_directory, uint64_t *ret, Error *err);

/* Record durably that this host has left its cluster: identity_begin() of the next start does the rest. */
int identity_leave(const char *state_directory, Error *err);

/* Make old.new/ of the state directory old/N, whose number is the first free one. Nothing kept before is
 * replaced. Set *ret_number unless it is NULL; without old.new/ it is unchanged. */
int identity_keep_old(int state_fd, const char *state_directory, unsigned *ret_number, Error *err);

/* Complete an interrupted join, or a leave: call this before the store is opened, while no other daemon uses
 * the state directory. Return 1 if one was completed, 0 if none was due. 'cluster_file' is a path; "": it is
 * not written. */
int identity_begin(const char *state_directory, const char *cluster_file, Error *err);
