#include "liar.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <base/cbor.h>
#include <base/file.h>
#include <base/net.h>

#include "../check.h"

/* The module lives ahead of the root's beginning, so that it can also go back. */
#define HOUR_S        3600
#define HONEST_TIME_S (2 * HOUR_S)

static void load(const char *dir, const char *module_id, nsm_chain *out)
{
    assert_ok(nsm_chain_load(dir, out, err));
    out->offset_s = HONEST_TIME_S;
    if (module_id != NULL)
        snprintf(out->module_id, sizeof out->module_id, "%s", module_id);
}

/* The three optional members of an Attestation request; false for every other request. */
static bool read_ask(clv_bytes request, nsm_ask *ask)
{
    clv_cursor c = clv_cursor_of(request);
    clv_cbor_item item, key;
    *ask = (nsm_ask){.nonce.present = false};
    if (clv_cbor_expect(&c, CLV_CBOR_MAP, &item, NULL) != CLV_OK ||
        clv_cbor_expect(&c, CLV_CBOR_TEXT, &key, NULL) != CLV_OK ||
        !clv_bytes_equal(key.bytes, clv_bytes_of("Attestation")) ||
        clv_cbor_expect(&c, CLV_CBOR_MAP, &item, NULL) != CLV_OK)
        return false;
    for (uint64_t n = item.value; n > 0; n--) {
        assert_ok(clv_cbor_expect(&c, CLV_CBOR_TEXT, &key, err));
        assert_ok(clv_cbor_next(&c, &item, err));
        nsm_optional *into = clv_bytes_equal(key.bytes, clv_bytes_of("nonce")) ? &ask->nonce
                             : clv_bytes_equal(key.bytes, clv_bytes_of("user_data"))
                                 ? &ask->user_data
                                 : &ask->public_key;
        *into = (nsm_optional){item.type == CLV_CBOR_BYTES, item.bytes};
    }
    return true;
}

/* The same length, one bit away; nothing where there was nothing. */
static void flip(nsm_optional *value, uint8_t room[1024])
{
    assert_true(value->bytes.n <= 1024);
    if (!value->present || value->bytes.n == 0) {
        *value = (nsm_optional){true, CLV_BYTES("instead of nothing", 18)};
        return;
    }
    memcpy(room, value->bytes.p, value->bytes.n);
    room[value->bytes.n - 1] ^= 1;
    value->bytes.p = room;
}

/* Another value, or none where there was one and one where there was none. */
static void toggle(nsm_optional *value)
{
    *value = (nsm_optional){!value->present, CLV_BYTES("made up", 7)};
}

static void lie_in_ask(liar_lie lie, nsm_ask *ask, uint8_t room[1024])
{
    switch (lie) {
    case LIE_NONCE:
        flip(&ask->nonce, room);
        break;
    case LIE_NO_NONCE:
        toggle(&ask->nonce);
        break;
    case LIE_SHORT_NONCE:
        ask->nonce.bytes.n--;
        break;
    case LIE_USER_DATA:
        flip(&ask->user_data, room);
        break;
    case LIE_NO_USER_DATA:
        toggle(&ask->user_data);
        break;
    case LIE_PUBLIC_KEY:
        flip(&ask->public_key, room);
        break;
    case LIE_NO_PUBLIC_KEY:
        toggle(&ask->public_key);
        break;
    default:
        break;
    }
}

static void lie_in_bank(liar_lie lie, nsm_bank *bank)
{
    switch (lie) {
    case LIE_PCR0:
        bank->pcr[0].value[0] ^= 1;
        break;
    case LIE_PCR1:
        bank->pcr[1].value[0] ^= 1;
        break;
    case LIE_PCR8:
        bank->pcr[8].value[47] ^= 1;
        break;
    case LIE_PCR16:
        bank->pcr[16].value[47] ^= 1;
        break;
    case LIE_PCR17:
        bank->pcr[17].value[0] ^= 1;
        break;
    case LIE_PCR16_MISSING:
        bank->pcr[16].locked = false;
        break;
    case LIE_PCR17_MISSING:
        bank->pcr[17].locked = false;
        break;
    case LIE_ZERO_IMAGE:
        for (int i = 0; i < 3; i++)
            memset(bank->pcr[i].value, 0, NSM_PCR_SIZE);
        memset(bank->pcr[8].value, 0, NSM_PCR_SIZE);
        break;
    case LIE_ZERO_ALL:
        for (int i = 0; i < NSM_PCR_COUNT; i++)
            memset(bank->pcr[i].value, 0, NSM_PCR_SIZE);
        break;
    default:
        break;
    }
}

static nsm_chain *chain_for(liar *l, liar_lie lie)
{
    if (lie == LIE_OTHER_ROOT)
        return &l->stranger;
    if (lie == LIE_OTHER_ENCLAVE)
        return &l->neighbour;
    if (lie != LIE_BACKWARDS && lie != LIE_AHEAD)
        return &l->module.chain;
    nsm_chain_drop(&l->shifted);
    load(l->dir, NULL, &l->shifted);
    l->shifted.offset_s += lie == LIE_BACKWARDS ? -HOUR_S : HOUR_S;
    return &l->shifted;
}

static void make_document(liar *l, liar_lie lie, nsm_ask *ask, clv_buf *out)
{
    uint8_t room[1024];
    nsm_bank bank = l->module.bank;
    lie_in_ask(lie, ask, room);
    lie_in_bank(lie, &bank);
    if (lie == LIE_SLOW)
        usleep(LIAR_SLOW_MS * 1000);
    if (lie == LIE_REPLAY)
        assert_ok(clv_buf_append(out, clv_buf_bytes(&l->first), err));
    else if (lie != LIE_EMPTY)
        assert_ok(nsm_document_make(chain_for(l, lie), &bank, ask, false, out, err));
    if (l->first.n == 0)
        assert_ok(clv_buf_append(&l->first, clv_buf_bytes(out), err));
    if (lie == LIE_SIGNATURE)
        out->p[out->n - 1] ^= 1;
    if (lie == LIE_CUT)
        out->n--;
    if (lie == LIE_TRAILING)
        assert_ok(clv_buf_u8(out, 0, err));
}

/* {"GetRandom": {"random": …}}: the bytes are the last of the answer. */
static void keep_random(liar *l, liar_lie lie, clv_buf *answer)
{
    assert_true(answer->n > sizeof l->random);
    uint8_t *random = answer->p + answer->n - sizeof l->random;
    if (lie == LIE_STUCK)
        memset(random, 0, sizeof l->random);
    memcpy(l->random, random, sizeof l->random);
}

static bool begins(clv_bytes request, const char *head)
{
    return request.n >= strlen(head) && memcmp(request.p, head, strlen(head)) == 0;
}

/* {"ExtendPCR": {"data": …}}: the register is the answer's end. */
static void lie_in_boot(liar *l, liar_lie lie, clv_bytes request, clv_buf *answer)
{
    if (lie == LIE_EXTEND && begins(request, "\xa1\x69"
                                             "ExtendPCR"))
        answer->p[answer->n - 1] ^= 1;
    if (lie == LIE_LOCK && begins(request, "\xa1\x68LockPCRs"))
        l->module.bank.pcr[CLV_PCR_COUNT - 1].locked = false;
}

static void answer(liar *l, clv_bytes request, clv_buf *out)
{
    nsm_ask ask;
    liar_lie lie = (liar_lie)l->lie;
    if (!read_ask(request, &ask)) {
        assert_ok(nsm_handle(&l->module, request, out, err));
        if (clv_bytes_equal(request, clv_bytes_of("\x69GetRandom")))
            keep_random(l, lie, out);
        lie_in_boot(l, lie, request, out);
        return;
    }
    l->documents++;
    clv_auto(clv_buf) document = CLV_BUF_INIT;
    assert_ok(clv_cbor_put_map(out, 1, err));
    if (lie == LIE_ERROR) {
        assert_ok(clv_cbor_put_text(out, "Error", err));
        assert_ok(clv_cbor_put_text(out, "InternalError", err));
        return;
    }
    make_document(l, lie, &ask, &document);
    assert_ok(clv_cbor_put_text(out, "Attestation", err));
    assert_ok(clv_cbor_put_map(out, 1, err));
    assert_ok(clv_cbor_put_text(out, "document", err));
    assert_ok(clv_cbor_put_bytes(out, clv_buf_bytes(&document), err));
}

/* False when the peer went, or has to. */
static bool serve_one(liar *l, int fd)
{
    uint8_t head[4], request[NSM_REQUEST_MAX];
    uint32_t n;
    clv_auto(clv_buf) out = CLV_BUF_INIT;
    clv_auto(clv_buf) frame = CLV_BUF_INIT;
    if (clv_read_full(fd, head, sizeof head, NULL) != CLV_OK)
        return false;
    clv_cursor c = clv_cursor_of(CLV_BYTES(head, sizeof head));
    assert_ok(clv_cursor_u32(&c, &n, err));
    assert_true(n <= sizeof request);
    if (clv_read_full(fd, request, n, NULL) != CLV_OK || l->lie == LIE_CLOSE)
        return false;
    answer(l, CLV_BYTES(request, n), &out);
    assert_ok(clv_buf_u32(&frame, (uint32_t)out.n, err));
    assert_ok(clv_buf_append(&frame, clv_buf_bytes(&out), err));
    return clv_write_full(fd, clv_buf_bytes(&frame), NULL) == CLV_OK;
}

/* One peer at a time, the newest: the gate's handle. */
static void *run(void *context)
{
    liar *l = context;
    clv_auto(clv_fd) peer = -1;
    for (;;) {
        struct pollfd wait[] = {{.fd = l->stop, .events = POLLIN},
                                {.fd = l->listening, .events = POLLIN},
                                {.fd = peer, .events = POLLIN}};
        poll(wait, 3, -1);
        if (wait[0].revents != 0)
            return NULL;
        if (wait[1].revents != 0) {
            clv_fd_drop(&peer);
            peer = accept(l->listening, NULL, NULL);
        } else if (wait[2].revents != 0 && !serve_one(l, peer))
            clv_fd_drop(&peer);
    }
}

void liar_boot(liar *l)
{
    static const int measured[] = {0, 1, 2, 8};
    l->module.bank = (nsm_bank){0};
    for (size_t i = 0; i < ROWS(measured); i++)
        memset(l->module.bank.pcr[measured[i]].value, LIAR_PCR_BYTE(measured[i]), NSM_PCR_SIZE);
    for (int i = 0; i < NSM_BOOT_PCRS; i++)
        l->module.bank.pcr[i].locked = true;
    clv_buf_drop(&l->first);
    l->lie = LIE_NONE;
}

static void read_root(liar *l)
{
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    char path[128];
    snprintf(path, sizeof path, "%s/root.sha256", l->dir);
    assert_ok(clv_file_read(path, 256, &text, err));
    assert_true(text.n >= sizeof l->root_hex - 1);
    memcpy(l->root_hex, text.p, sizeof l->root_hex - 1);
}

void liar_start(liar *l)
{
    char other[80];
    clv_address address;
    *l = (liar){.dir = "/tmp/claviger-gate-XXXXXX",
                .module = {.lock = PTHREAD_MUTEX_INITIALIZER, .chain = NSM_CHAIN_INIT},
                .first = CLV_BUF_INIT};
    assert_non_null(mkdtemp(l->dir));
    snprintf(other, sizeof other, "%s/other", l->dir);
    snprintf(l->address, sizeof l->address, "unix:%s/nsm", l->dir);
    assert_ok(nsm_chain_init(l->dir, "i-0123456789abcdef0-enc0123456789abcdef", err));
    assert_ok(nsm_chain_init(other, "i-0123456789abcdef0-enc0123456789abcdef", err));
    load(l->dir, NULL, &l->module.chain);
    load(l->dir, "i-0123456789abcdef0-encfedcba9876543210", &l->neighbour);
    load(other, NULL, &l->stranger);
    read_root(l);
    liar_boot(l);
    assert_ok(clv_address_parse(l->address, &address, err));
    assert_ok(clv_listen(&address, 0600, &l->listening, NULL, err));
    l->stop = eventfd(0, EFD_CLOEXEC);
    assert_int_equal(pthread_create(&l->thread, NULL, run, l), 0);
}

void liar_stop(liar *l)
{
    char command[128];
    uint64_t one = 1;
    assert_int_equal(write(l->stop, &one, sizeof one), sizeof one);
    pthread_join(l->thread, NULL);
    close(l->stop);
    close(l->listening);
    nsm_chain_drop(&l->module.chain);
    nsm_chain_drop(&l->stranger);
    nsm_chain_drop(&l->neighbour);
    nsm_chain_drop(&l->shifted);
    clv_buf_drop(&l->first);
    snprintf(command, sizeof command, "rm -r '%s'", l->dir);
    assert_int_equal(system(command), 0);
}
