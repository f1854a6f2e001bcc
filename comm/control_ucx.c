// SPDX-License-Identifier: BSD-3-Clause
// Frames as UCX active messages over its tcp transport: a context and worker of our own, beside
// whatever MPI does with UCX. tcp because it is the transport that reports a dead process.
//
// Sleeping, in this order: progress until nothing moves, look at the inbox, arm, poll. Armed means
// that any event since the last progress makes the descriptor readable.
#include "comm/control_link.h"
#include "runtime/base/log.h"

#ifdef PR_HAVE_UCX

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucp/api/ucp.h>

#include "runtime/base/clock.h"

enum { FRAME_ID = 1, HELLO_ID = 2, PROGRESS_PER_TURN = 256, JOIN_MS = 15000, CLOSE_MS = 1000 };

typedef struct ucx_state ucx_state;

typedef struct ucx_peer {
    ucx_state *state;
    int32_t rank;
    ucp_ep_h ep;          // NULL: none, or closed
    size_t queued_bytes;  // given to UCX and not done
    void *newcomer;       // address of a process that comes in its place, or NULL
} ucx_peer;

struct ucx_state {
    pr_control *control;  // NULL until the link is complete
    int32_t ranks;
    ucp_context_h context;
    ucp_worker_h worker;
    ucx_peer *peer;          // [ranks]
    int32_t hellos;          // heard while joining
    int32_t pending;         // requests not done
    const char *join_fault;  // why joining failed
    bool newcomers;
};

// A frame on its way out; lives until UCX is done with it.
typedef struct ucx_send {
    ucx_peer *peer;
    pr_frame frame;
    char data[];
} ucx_send;

// A letter whose data UCX is fetching.
typedef struct ucx_fetch {
    ucx_peer *peer;
    pr_letter *letter;
} ucx_fetch;

static void lose(ucx_peer *peer, ucs_status_t status)
{
    ucx_state *state = peer->state;
    char reason[96];
    snprintf(reason, sizeof reason, "lost its control connection: %s", ucs_status_string(status));
    if (state->control)
        pr_control_lose(state->control, peer->rank, reason);
    else
        state->join_fault = ucs_status_string(status);
}

static void on_error(void *context, ucp_ep_h ep, ucs_status_t status)
{
    (void)ep;  // closed when the endpoint drops the peer: not from within its own callback
    lose(context, status);
}

static void finish_send(ucx_send *send, ucs_status_t status)
{
    ucx_peer *peer = send->peer;
    peer->queued_bytes -= sizeof send->frame + send->frame.size_bytes;
    free(send);
    if (status != UCS_OK && status != UCS_ERR_CANCELED)
        lose(peer, status);
}

static void on_sent(void *request, ucs_status_t status, void *context)
{
    ucx_send *send = context;
    send->peer->state->pending--;
    ucp_request_free(request);
    finish_send(send, status);
}

static void send_as(unsigned id, ucx_peer *peer, const pr_frame *frame, const void *data)
{
    size_t size_bytes = frame->size_bytes;
    ucx_send *send = malloc(sizeof *send + size_bytes);
    if (!send) {
        lose(peer, UCS_ERR_NO_MEMORY);
        return;
    }
    send->peer = peer;
    send->frame = *frame;
    if (size_bytes)
        memcpy(send->data, data, size_bytes);
    peer->queued_bytes += sizeof *frame + size_bytes;
    ucp_request_param_t param = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA,
        .cb.send = on_sent,
        .user_data = send};
    ucs_status_ptr_t request = ucp_am_send_nbx(
        peer->ep, id, &send->frame, sizeof send->frame, send->data, size_bytes, &param);
    if (UCS_PTR_IS_PTR(request))
        peer->state->pending++;
    else
        finish_send(send, UCS_PTR_STATUS(request));
}

static void
ucx_send_frame(pr_control_link *link, int32_t to, const pr_frame *frame, const void *data)
{
    ucx_state *state = link->state;
    if (state->peer[to].ep)
        send_as(FRAME_ID, &state->peer[to], frame, data);
}

static size_t ucx_queued_bytes(const pr_control_link *link, int32_t to)
{
    const ucx_state *state = link->state;
    return state->peer[to].ep ? state->peer[to].queued_bytes : 0;
}

static void finish_fetch(ucx_fetch *fetch, ucs_status_t status)
{
    ucx_peer *peer = fetch->peer;
    if (status == UCS_OK) {
        pr_control_deliver(peer->state->control, peer->rank, fetch->letter);
    } else {
        free(fetch->letter);
        if (status != UCS_ERR_CANCELED)
            lose(peer, status);
    }
    free(fetch);
}

static void on_fetched(void *request, ucs_status_t status, size_t size_bytes, void *context)
{
    (void)size_bytes;
    ucx_fetch *fetch = context;
    fetch->peer->state->pending--;
    ucp_request_free(request);
    finish_fetch(fetch, status);
}

// Fetches the data of a large message, which only announced itself.
static ucs_status_t fetch_data(ucx_peer *peer, pr_letter *letter, void *announced)
{
    ucx_fetch *fetch = malloc(sizeof *fetch);
    if (!fetch) {
        free(letter);
        lose(peer, UCS_ERR_NO_MEMORY);
        return UCS_OK;
    }
    *fetch = (ucx_fetch){.peer = peer, .letter = letter};
    ucp_request_param_t param = {
        .op_attr_mask =
            UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FLAG_NO_IMM_CMPL,
        .cb.recv_am = on_fetched,
        .user_data = fetch};
    ucs_status_ptr_t request = ucp_am_recv_data_nbx(
        peer->state->worker, announced, letter->data, letter->frame.size_bytes, &param);
    if (UCS_PTR_IS_PTR(request))
        peer->state->pending++;
    else
        finish_fetch(fetch, UCS_PTR_STATUS(request));
    return UCS_OK;
}

static ucs_status_t on_frame(
    void *context,
    const void *header,
    size_t header_bytes,
    void *data,
    size_t size_bytes,
    const ucp_am_recv_param_t *param)
{
    ucx_state *state = context;
    pr_frame frame;
    if (header_bytes != sizeof frame)
        return UCS_OK;  // not ours
    memcpy(&frame, header, sizeof frame);
    bool known = !pr_frame_fault(&frame) && frame.size_bytes == size_bytes && frame.from >= 0 &&
                 frame.from < state->ranks && state->peer[frame.from].ep && state->control;
    if (!known)
        return UCS_OK;
    ucx_peer *peer = &state->peer[frame.from];
    pr_letter *letter = pr_letter_create(&frame);
    if (!letter) {
        lose(peer, UCS_ERR_NO_MEMORY);
        return UCS_OK;
    }
    if (param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV)
        return fetch_data(peer, letter, data);
    if (size_bytes)
        memcpy(letter->data, data, size_bytes);
    pr_control_deliver(state->control, peer->rank, letter);
    return UCS_OK;
}

static ucs_status_t on_hello(
    void *context,
    const void *header,
    size_t header_bytes,
    void *data,
    size_t size_bytes,
    const ucp_am_recv_param_t *param)
{
    ucx_state *state = context;
    pr_frame hello;
    state->hellos++;
    if (size_bytes == 0 || (param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) ||
        header_bytes != sizeof hello)
        return UCS_OK;
    memcpy(&hello, header, sizeof hello);
    if (hello.from < 0 || hello.from >= state->ranks)
        return UCS_OK;
    ucx_peer *peer = &state->peer[hello.from];
    if (peer->ep || peer->newcomer || !(peer->newcomer = malloc(size_bytes)))
        return UCS_OK;
    memcpy(peer->newcomer, data, size_bytes);
    state->newcomers = true;  // connected later: not from within a callback
    return UCS_OK;
}

static ucs_status_t connect_peer(ucx_state *state, int32_t rank, const void *address);

// Answers processes that came in the place of lost peers.
static void take_newcomers(ucx_state *state)
{
    pr_frame hello = {.magic = PR_FRAME_MAGIC, .version = PR_FRAME_VERSION};
    state->newcomers = false;
    for (int32_t i = 0; i < state->ranks; i++) {
        ucx_peer *peer = &state->peer[i];
        if (!peer->newcomer)
            continue;
        bool welcome = pr_control_welcome(state->control, i);
        if (welcome && connect_peer(state, i, peer->newcomer) == UCS_OK)
            send_as(HELLO_ID, peer, &hello, NULL);
        else if (welcome)
            lose(peer, UCS_ERR_UNREACHABLE);
        free(peer->newcomer);
        peer->newcomer = NULL;
    }
}

static void ucx_progress(pr_control_link *link)
{
    ucx_state *state = link->state;
    for (int32_t i = 0; i < PROGRESS_PER_TURN && ucp_worker_progress(state->worker); i++)
        continue;
    if (state->newcomers)
        take_newcomers(state);
}

static size_t ucx_invite(pr_control_link *link, void *buffer, size_t capacity_bytes)
{
    const ucx_state *state = link->state;
    ucp_address_t *address = NULL;
    size_t size_bytes = 0;
    if (ucp_worker_get_address(state->worker, &address, &size_bytes) != UCS_OK)
        return 0;
    bool fits = size_bytes <= capacity_bytes;
    if (fits)
        memcpy(buffer, address, size_bytes);
    ucp_worker_release_address(state->worker, address);
    return fits ? size_bytes : 0;
}

static bool ucx_arm(pr_control_link *link)
{
    ucx_state *state = link->state;
    return ucp_worker_arm(state->worker) != UCS_ERR_BUSY;
}

static void on_closed(void *request, ucs_status_t status, void *context)
{
    (void)status;
    ((ucx_state *)context)->pending--;
    ucp_request_free(request);
}

static void close_peer(ucx_peer *peer)
{
    if (!peer->ep)
        return;
    ucp_request_param_t param = {
        .op_attr_mask =
            UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_FLAGS,
        .cb.send = on_closed,
        .user_data = peer->state,
        .flags = UCP_EP_CLOSE_FLAG_FORCE};
    ucp_ep_h ep = peer->ep;
    peer->ep = NULL;
    if (UCS_PTR_IS_PTR(ucp_ep_close_nbx(ep, &param)))
        peer->state->pending++;
}

static void ucx_drop(pr_control_link *link, int32_t peer)
{
    ucx_state *state = link->state;
    close_peer(&state->peer[peer]);
}

static void destroy_state(ucx_state *state)
{
    int64_t deadline_ns = pr_clock_now_ns() + (int64_t)CLOSE_MS * 1000000;
    for (int32_t i = 0; state->peer && i < state->ranks; i++)
        close_peer(&state->peer[i]);
    while (state->pending > 0 && pr_clock_now_ns() < deadline_ns) {
        if (!ucp_worker_progress(state->worker))
            sched_yield();
    }
    if (state->worker)
        ucp_worker_destroy(state->worker);
    if (state->context)
        ucp_cleanup(state->context);
    for (int32_t i = 0; state->peer && i < state->ranks; i++)
        free(state->peer[i].newcomer);
    free(state->peer);
    free(state);
}

static void ucx_destroy(pr_control_link *link)
{
    destroy_state(link->state);
    free(link);
}

static ucs_status_t set_handler(ucx_state *state, unsigned id, ucp_am_recv_callback_t callback)
{
    ucp_am_handler_param_t param = {
        .field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_CB |
                      UCP_AM_HANDLER_PARAM_FIELD_ARG,
        .id = id,
        .cb = callback,
        .arg = state};
    return ucp_worker_set_am_recv_handler(state->worker, &param);
}

// This rank's part: context, worker and handlers.
static ucs_status_t open_worker(ucx_state *state, int *fd)
{
    ucp_config_t *config = NULL;
    ucs_status_t status = ucp_config_read(NULL, NULL, &config);
    if (status != UCS_OK)
        return status;
    ucp_params_t params = {
        .field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_NAME,
        .features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP,
        .name = "polyreme-control"};
    status = ucp_config_modify(config, "TLS", "tcp,self");
    if (status == UCS_OK)
        status = ucp_init(&params, config, &state->context);
    ucp_config_release(config);
    ucp_worker_params_t worker_params = {
        .field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE, .thread_mode = UCS_THREAD_MODE_SINGLE};
    if (status == UCS_OK)
        status = ucp_worker_create(state->context, &worker_params, &state->worker);
    if (status == UCS_OK)
        status = ucp_worker_get_efd(state->worker, fd);
    if (status == UCS_OK)
        status = set_handler(state, FRAME_ID, on_frame);
    if (status == UCS_OK)
        status = set_handler(state, HELLO_ID, on_hello);
    return status;
}

static ucs_status_t connect_peer(ucx_state *state, int32_t rank, const void *address)
{
    ucx_peer *peer = &state->peer[rank];
    ucp_ep_params_t params = {
        .field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE |
                      UCP_EP_PARAM_FIELD_ERR_HANDLER,
        .address = address,
        .err_mode = UCP_ERR_HANDLING_MODE_PEER,
        .err_handler = {.cb = on_error, .arg = peer}};
    peer->state = state;
    peer->rank = rank;
    return ucp_ep_create(state->worker, &params, &peer->ep);
}

// All addresses, each in a record of {u64 length, bytes}. Collective.
static pr_status gather_addresses(pr_world *world, ucx_state *state, char **all, size_t *stride)
{
    ucp_address_t *address = NULL;
    size_t length = 0;
    if (ucp_worker_get_address(state->worker, &address, &length) != UCS_OK)
        length = 0;  // found out below, by everyone
    int64_t record = (int64_t)(sizeof(uint64_t) + length);
    pr_status status = pr_world_max(world, &record);
    record = (record + 7) & ~INT64_C(7);
    char *mine = calloc(1, (size_t)record);
    char *created = calloc((size_t)state->ranks, (size_t)record);
    if (status == PR_OK && (!mine || !created))
        status = pr_fail(PR_ERR_RESOURCE, "no memory for UCX addresses");
    if (status == PR_OK) {
        uint64_t length_on_wire = length;
        memcpy(mine, &length_on_wire, sizeof length_on_wire);
        if (length)
            memcpy(mine + sizeof length_on_wire, address, length);
        status = pr_world_gather_all(world, mine, created, record);
    }
    if (address)
        ucp_worker_release_address(state->worker, address);
    free(mine);
    if (status != PR_OK) {
        free(created);
        return status;
    }
    *all = created;
    *stride = (size_t)record;
    return PR_OK;
}

// Connects this rank's side of the star and exchanges one hello over every connection.
static void join(ucx_state *state, int32_t rank, const char *all, size_t stride)
{
    int32_t wanted = 0;
    pr_frame hello = {.magic = PR_FRAME_MAGIC, .version = PR_FRAME_VERSION, .from = rank};
    for (int32_t i = 0; i < state->ranks && !state->join_fault; i++) {
        if (i == rank || (rank != 0 && i != 0))
            continue;
        ucs_status_t status = connect_peer(state, i, all + (size_t)i * stride + sizeof(uint64_t));
        if (status != UCS_OK)
            state->join_fault = ucs_status_string(status);
        else
            send_as(HELLO_ID, &state->peer[i], &hello, NULL);
        wanted++;
    }
    int64_t deadline_ns = pr_clock_now_ns() + (int64_t)JOIN_MS * 1000000;
    while (!state->join_fault && (state->hellos < wanted || state->pending > 0)) {
        if (!ucp_worker_progress(state->worker))
            sched_yield();
        if (pr_clock_now_ns() > deadline_ns)
            state->join_fault = "not all ranks answered over tcp";
    }
}

// Everyone learns whether anyone failed.
static pr_status agree(pr_world *world, const char *fault, bool quiet)
{
    int64_t failed = fault != NULL;
    PR_TRY(pr_world_max(world, &failed));
    if (!failed)
        return PR_OK;
    if (quiet)
        return PR_ERR_UNSUPPORTED;
    return pr_fail(
        PR_ERR_UNSUPPORTED, "cannot open the UCX control plane: %s; use the tcp one",
        fault ? fault : "another rank could not");
}

static pr_status open_star(pr_world *world, ucx_state *state, bool quiet, int *fd)
{
    char *all = NULL;
    size_t stride = 0;
    ucs_status_t opened = state->peer ? open_worker(state, fd) : UCS_ERR_NO_MEMORY;
    PR_TRY(agree(world, opened == UCS_OK ? NULL : ucs_status_string(opened), quiet));
    PR_TRY(gather_addresses(world, state, &all, &stride));
    join(state, pr_world_rank(world), all, stride);
    free(all);
    return agree(world, state->join_fault, quiet);
}

// Says hello to rank 0 with our address, and hears its hello.
static ucs_status_t enter(ucx_state *state, int32_t rank, const void *invitation)
{
    ucp_address_t *address = NULL;
    size_t size_bytes = 0;
    pr_frame hello = {.magic = PR_FRAME_MAGIC, .version = PR_FRAME_VERSION, .from = rank};
    ucs_status_t status = ucp_worker_get_address(state->worker, &address, &size_bytes);
    if (status == UCS_OK)
        status = connect_peer(state, 0, invitation);
    if (status != UCS_OK)
        return status;
    hello.size_bytes = (uint32_t)size_bytes;
    send_as(HELLO_ID, &state->peer[0], &hello, address);
    ucp_worker_release_address(state->worker, address);
    int64_t deadline_ns = pr_clock_now_ns() + (int64_t)JOIN_MS * 1000000;
    while (!state->join_fault && (state->hellos == 0 || state->pending > 0)) {
        if (!ucp_worker_progress(state->worker))
            sched_yield();
        if (pr_clock_now_ns() > deadline_ns)
            state->join_fault = "rank 0 did not answer over tcp";
    }
    return state->join_fault ? UCS_ERR_UNREACHABLE : UCS_OK;
}

static pr_status take_memory(int32_t ranks, ucx_state **state, pr_control_link **link)
{
    ucx_state *made = calloc(1, sizeof *made);
    pr_control_link *created = calloc(1, sizeof *created);
    if (!made || !created) {
        free(made);
        free(created);
        return pr_fail(PR_ERR_RESOURCE, "no memory for the control connections");
    }
    made->ranks = ranks;
    made->peer = calloc((size_t)ranks, sizeof *made->peer);
    *state = made;
    *link = created;
    return PR_OK;
}

static void complete(ucx_state *state, pr_control *control, int fd, pr_control_link *link)
{
    state->control = control;
    *link = (pr_control_link){
        .name = "ucx",
        .fd = fd,
        .state = state,
        .send = ucx_send_frame,
        .queued_bytes = ucx_queued_bytes,
        .progress = ucx_progress,
        .arm = ucx_arm,
        .drop = ucx_drop,
        .invite = ucx_invite,
        .destroy = ucx_destroy};
}

pr_status
pr_control_ucx_create(pr_world *world, pr_control *control, bool quiet, pr_control_link **link)
{
    ucx_state *state;
    pr_control_link *created;
    int fd = -1;
    PR_TRY(take_memory(pr_world_ranks(world), &state, &created));
    pr_status status = open_star(world, state, quiet, &fd);
    if (status != PR_OK) {
        destroy_state(state);
        free(created);
        return status;
    }
    complete(state, control, fd, created);
    *link = created;
    return PR_OK;
}

pr_status pr_control_ucx_join(
    pr_world *world,
    pr_control *control,
    const void *invitation,
    size_t size_bytes,
    pr_control_link **link)
{
    (void)size_bytes;  // the address knows its length
    ucx_state *state;
    pr_control_link *created;
    int fd = -1;
    PR_TRY(take_memory(pr_world_ranks(world), &state, &created));
    ucs_status_t opened = state->peer ? open_worker(state, &fd) : UCS_ERR_NO_MEMORY;
    if (opened == UCS_OK)
        opened = enter(state, pr_world_rank(world), invitation);
    if (opened != UCS_OK) {
        pr_status status = pr_fail(
            PR_ERR_PEER, "cannot join the UCX control plane: %s",
            state->join_fault ? state->join_fault : ucs_status_string(opened));
        destroy_state(state);
        free(created);
        return status;
    }
    complete(state, control, fd, created);
    *link = created;
    return PR_OK;
}

#else

pr_status
pr_control_ucx_create(pr_world *world, pr_control *control, bool quiet, pr_control_link **link)
{
    (void)world, (void)control, (void)link;
    if (quiet)
        return PR_ERR_UNSUPPORTED;
    return pr_fail(
        PR_ERR_UNSUPPORTED, "this program was built without UCX: use the tcp control back end");
}

pr_status pr_control_ucx_join(
    pr_world *world,
    pr_control *control,
    const void *invitation,
    size_t size_bytes,
    pr_control_link **link)
{
    (void)invitation, (void)size_bytes;
    return pr_control_ucx_create(world, control, false, link);
}

#endif
