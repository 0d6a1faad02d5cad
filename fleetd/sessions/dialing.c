/* The hosts that this host dials (an attached host: two of them): machines of the cluster view, at the
 * address of their handshake or member key, members, Join=, and accepted sessions of a host that has no
 * replica yet. The addresses of the machines are stored in the cluster file. */

#include "base/log.h"
#include "fleetd/identity/cluster_file.h"
#include "fleetd/sessions/membership_internal.h"

enum { DIALED_MAX = 1024 };

static int dialing_store(const Membership *m, const Text *addresses) {
        _cleanup_text_ Text t = {};

        cluster_file_print(&t, m->dialing.listen, addresses->chars);
        return t.error < 0 ? t.error : cluster_file_write(m->settings->cluster_file, t.chars);
}

typedef struct AddressList {
        PeerAddress *items; /* DIALED_MAX */
        size_t n;
        const char *own;
        uint64_t cluster_id;
} AddressList;

static bool address_list_has(const AddressList *list, const char *address) {
        for (size_t i = 0; i < list->n; i++)
                if (streq(list->items[i].address, address))
                        return true;
        return false;
}

static void address_list_add(AddressList *list, const char *address) {
        if (!address[0] || streq(address, list->own) || list->n == DIALED_MAX ||
            address_list_has(list, address))
                return;
        snprintf(list->items[list->n++].address, sizeof(list->items->address), "%s", address);
}

static void address_list_add_peer(void *userdata, const PeerState *peer) {
        AddressList *list = userdata;

        if (peer->accepted && peer->handshake.cluster_id == list->cluster_id)
                address_list_add(list, peer->handshake.address);
}

/* Write the address of a machine into 'ret'. A host with another ListenPeer= than before sends the new
 * address in its handshake: it is dialed there, so that its replica catches up, and then it records the
 * address. */
static void dialing_address(const Membership *m, const ClusterMachine *machine, uint64_t cluster_id,
                            char ret[static ADDRESS_SIZE]) {
        PeerState peer;

        snprintf(ret, ADDRESS_SIZE, "%s", machine->member.peer);
        if (peers_state(m->peers, machine->id, &peer) >= 0 && peer.accepted && peer.handshake.address[0] &&
            peer.handshake.cluster_id == cluster_id)
                snprintf(ret, ADDRESS_SIZE, "%s", peer.handshake.address);
}

/* An attached host that knows the replicas dials two of them. Return how many addresses are left. */
static size_t dialing_select(const Membership *m, PeerAddress *items, size_t n) {
        size_t left = 0;

        for (size_t i = 0; i < n; i++)
                if (attaching_dials(m, items[i].machine_id))
                        items[left++] = items[i];
        return left;
}

/* 0 or -ENOMEM. A failure to write the file is logged only. */
static int dialing_update(Membership *m) {
        _cleanup_free_ PeerAddress *items = NEW0(PeerAddress, DIALED_MAX);
        _cleanup_free_ ClusterMachine **machines = NULL;
        _cleanup_text_ Text addresses = {};
        AddressList list = { .items = items, .own = component_peer_address(m->host) };
        size_t n_machines = 0;
        KvState state;
        int r;

        machines = cluster_members_sorted(registry_cluster(m->registry), &n_machines);
        if (!items || !machines)
                return -ENOMEM;
        kv_state(m->store, &state);
        for (size_t i = 0; i < n_machines && list.n < DIALED_MAX; i++) {
                const char *peer = machines[i]->member.peer;

                if (!peer[0] || streq(machines[i]->id, m->machine_id))
                        continue;
                /* A replaced machine has the address of its successor. */
                if (!address_list_has(&list, peer))
                        text_printf(&addresses, "%s%s", addresses.size > 0 ? " " : "", peer);
                memcpy(items[list.n].machine_id, machines[i]->id, sizeof(items->machine_id));
                snprintf(items[list.n].name, sizeof(items->name), "%s",
                         cluster_machine_hostname(machines[i]) ?: "");
                dialing_address(m, machines[i], state.cluster_id, items[list.n].address);
                list.n++;
        }

        /* The cluster view lacks members whose replica is still being filled. */
        for (size_t i = 0; i < state.n_members; i++)
                address_list_add(&list, state.members[i].address);
        for (size_t i = 0; i < m->settings->join.n && !m->host->io.unidentified; i++)
                address_list_add(&list, m->settings->join.items[i]);
        /* An admitted host without a replica does not know the leader, and gets a replica only when the
         * leader receives its heartbeats: it dials each host of the cluster that has dialed it. */
        list.cluster_id = state.cluster_id;
        if (state.cluster_id != 0 && state.n_members == 0)
                peers_each(m->peers, address_list_add_peer, &list);
        TRY(peers_set_known(m->peers, items, dialing_select(m, items, list.n)));
        if (addresses.error < 0)
                return addresses.error;
        /* Without ListenPeer=, a start with Join= is refused. */
        if (addresses.size == 0 || !m->settings->cluster_file[0] || !peers_self(m->peers)->address[0])
                return 0;

        r = dialing_store(m, &addresses);
        if (r < 0 && r != m->dialing.file_error)
                log_warning(((LogFields) { .error = r }),
                            "Failed to write %s: %s; after a loss of its state, this host would not find the "
                            "cluster",
                            m->settings->cluster_file, strerror(-r));
        m->dialing.file_error = MIN(r, 0);
        return r == -ENOMEM ? r : 0;
}

static void dialing_on_update(void *userdata) {
        Membership *m = userdata;

        m->dialing.retry = dialing_update(m) < 0;
}

void dialing_update_later(Membership *m) {
        loop_defer(m->loop, &m->dialing.update);
}

void dialing_init(Membership *m) {
        m->dialing.update = DEFERRED(dialing_on_update, m);
        cluster_file_read_listen(m->settings->cluster_file, m->dialing.listen);
}

void dialing_done(Membership *m) {
        deferred_cancel(&m->dialing.update);
}
