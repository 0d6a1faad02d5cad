/* Shared by the handlers of etcd's API other than keys. Within fleetd/api only. */
#pragma once

#include "base/text.h"
#include "fleetd/api/handlers.h"

/* Answer with the header of the cluster id, as all answers about members and rights. */
unsigned answer_of_cluster(Request *request, unsigned status, Text *body);

/* Answer {"message":...} with the same header. */
unsigned answer_cluster_message(Request *request, unsigned status, const char *format, ...) _printf_(3, 4);

enum {
        MEMBER_ID_SIZE = 17,
        MEMBERS_BODY_MAX = 16 * 1024, /* bytes of a body of /v2/members: clients send a few URLs */
};

/* Set the id of a member in the v2 API: 64 bits, as etcd's, distinct between members and between clusters;
 * "0" for none. */
void v2_member_id(const KvState *state, uint64_t raft_id, char ret[static MEMBER_ID_SIZE]);
