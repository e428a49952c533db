#include "fake_nsm.h"

#include <stdio.h>
#include <unistd.h>

#include <openssl/rand.h>

#include <base/cbor.h>
#include <base/clock.h>
#include <base/crypto.h>
#include <base/net.h>
#include <claviger/nsm.h>

#include "../attestation/maker_chain.h"

#define MUST(expression)    maker_must((expression), #expression, __LINE__)
#define MUST_OK(expression) MUST((expression) == CLV_OK)

/* The members of a request: {name: value}, the values numbers, byte strings or null. */
typedef struct request {
    clv_bytes name;
    uint64_t index;
    clv_optional data, user_data, nonce, public_key;
} request;

static void read_member(clv_cursor *c, request *out)
{
    clv_cbor_item name, value;
    MUST_OK(clv_cbor_expect(c, CLV_CBOR_TEXT, &name, NULL));
    MUST_OK(clv_cbor_next(c, &value, NULL));
    const struct {
        const char *name;
        clv_optional *to;
    } strings[] = {{"data", &out->data},
                   {"user_data", &out->user_data},
                   {"nonce", &out->nonce},
                   {"public_key", &out->public_key}};
    for (size_t i = 0; i < sizeof strings / sizeof strings[0]; i++) {
        if (clv_bytes_equal(name.bytes, clv_bytes_of(strings[i].name)))
            *strings[i].to = (clv_optional){value.type == CLV_CBOR_BYTES, value.bytes};
    }
    if (value.type == CLV_CBOR_UINT)
        out->index = value.value;
}

static void read_request(clv_bytes bytes, request *out)
{
    clv_cursor c = clv_cursor_of(bytes);
    clv_cbor_item item;
    *out = (request){0};
    MUST_OK(clv_cbor_next(&c, &item, NULL));
    if (item.type == CLV_CBOR_TEXT) {
        out->name = item.bytes;
        return;
    }
    MUST_OK(clv_cbor_expect(&c, CLV_CBOR_TEXT, &item, NULL));
    out->name = item.bytes;
    MUST_OK(clv_cbor_expect(&c, CLV_CBOR_MAP, &item, NULL));
    for (uint64_t i = 0; i < item.value; i++)
        read_member(&c, out);
}

static bool is(const request *r, const char *name)
{
    return clv_bytes_equal(r->name, clv_bytes_of(name));
}

static void begin_answer(clv_buf *out, const char *name, size_t members)
{
    MUST_OK(clv_cbor_put_map(out, 1, NULL));
    MUST_OK(clv_cbor_put_text(out, name, NULL));
    MUST_OK(clv_cbor_put_map(out, members, NULL));
}

static void put_bytes(clv_buf *out, const char *name, clv_bytes value)
{
    MUST_OK(clv_cbor_put_text(out, name, NULL));
    MUST_OK(clv_cbor_put_bytes(out, value, NULL));
}

static void extend(fake_nsm *nsm, const request *r)
{
    clv_auto(clv_buf) joined = CLV_BUF_INIT;
    uint8_t *value = nsm->document.pcrs.value[r->index];
    MUST_OK(clv_buf_append(&joined, CLV_BYTES(value, CLV_PCR_SIZE), NULL));
    MUST_OK(clv_buf_append(&joined, r->data.bytes, NULL));
    MUST_OK(clv_sha384(clv_buf_bytes(&joined), value, NULL));
}

static void attest(fake_nsm *nsm, const request *r, clv_buf *out)
{
    clv_document document = nsm->document;
    document.timestamp_ms = MAKER_TIME_MS + (clv_monotonic_ms() - nsm->started_ms);
    document.user_data = r->user_data;
    document.nonce = r->nonce;
    document.public_key = r->public_key;
    clv_auto(clv_buf) bytes = CLV_BUF_INIT;
    maker_sign(&document, nsm->maker.key[MAKER_LEAF], &bytes);
    begin_answer(out, "Attestation", 1);
    put_bytes(out, "document", clv_buf_bytes(&bytes));
    nsm->attested++;
}

static void answer(fake_nsm *nsm, const request *r, clv_buf *out)
{
    uint8_t random[CLV_NSM_RANDOM_MAX];
    const clv_bytes value =
        CLV_BYTES(nsm->document.pcrs.value[r->index % CLV_PCR_COUNT], CLV_PCR_SIZE);
    if (is(r, "DescribePCR")) {
        begin_answer(out, "DescribePCR", 2);
        MUST_OK(clv_cbor_put_text(out, "lock", NULL));
        MUST_OK(clv_cbor_put_bool(out, r->index < nsm->locked, NULL));
        put_bytes(out, "data", value);
    } else if (is(r, "ExtendPCR")) {
        extend(nsm, r);
        begin_answer(out, "ExtendPCR", 1);
        put_bytes(out, "data", value);
    } else if (is(r, "LockPCRs")) {
        nsm->locked = r->index; /* the request's range */
        MUST_OK(clv_cbor_put_text(out, "LockPCRs", NULL));
    } else if (is(r, "GetRandom")) {
        MUST(RAND_bytes(random, sizeof random) == 1);
        begin_answer(out, "GetRandom", 1);
        put_bytes(out, "random", CLV_BYTES(random, sizeof random));
    } else {
        MUST(is(r, "Attestation"));
        attest(nsm, r, out);
    }
}

static void serve_connection(fake_nsm *nsm, int fd)
{
    for (;;) {
        uint8_t head[4];
        uint8_t bytes[CLV_NSM_REQUEST_MAX];
        uint32_t length;
        clv_auto(clv_buf) body = CLV_BUF_INIT;
        clv_auto(clv_buf) frame = CLV_BUF_INIT;
        request r;
        if (clv_read_full(fd, head, sizeof head, NULL) != CLV_OK)
            return;
        clv_cursor c = clv_cursor_of(CLV_BYTES(head, sizeof head));
        MUST_OK(clv_cursor_u32(&c, &length, NULL));
        MUST(length <= sizeof bytes);
        MUST_OK(clv_read_full(fd, bytes, length, NULL));
        read_request(CLV_BYTES(bytes, length), &r);
        answer(nsm, &r, &body);
        MUST_OK(clv_buf_u32(&frame, (uint32_t)body.n, NULL));
        MUST_OK(clv_buf_append(&frame, clv_buf_bytes(&body), NULL));
        if (clv_write_full(fd, clv_buf_bytes(&frame), NULL) != CLV_OK)
            return;
    }
}

static void *serve(void *with)
{
    fake_nsm *nsm = with;
    for (;;) {
        clv_auto(clv_fd) fd = accept(nsm->listener, NULL, NULL);
        if (fd < 0)
            return NULL;
        serve_connection(nsm, fd);
    }
}

void fake_nsm_start(fake_nsm *nsm, const char *directory, bool debug)
{
    static const maker_knobs right = RIGHT;
    *nsm = (fake_nsm){.started_ms = clv_monotonic_ms(), .locked = 16};
    maker_start(&nsm->maker);
    for (size_t i = 0; i < MAKER_CERTS; i++)
        maker_certificate_make(&nsm->maker, &right, i, &nsm->certificate[i]);
    clv_document *d = &nsm->document;
    d->module_id = clv_bytes_of("i-0123456789abcdef0-enc0123456789abcdef");
    d->pcrs.present = UINT32_MAX;
    for (size_t i = debug ? 3 : 0; i < 16; i++)
        memset(d->pcrs.value[i], (int)i + 1, CLV_PCR_SIZE);
    for (size_t i = 0; i < MAKER_CAS; i++)
        d->bundle[i] = clv_buf_bytes(&nsm->certificate[i]);
    d->bundle_count = MAKER_CAS;
    d->certificate = clv_buf_bytes(&nsm->certificate[MAKER_LEAF]);
    MUST_OK(clv_sha256(d->bundle[0], nsm->root_sha256, NULL));

    clv_address address;
    snprintf(nsm->address, sizeof nsm->address, "unix:%s/nsm", directory);
    MUST_OK(clv_address_parse(nsm->address, &address, NULL));
    MUST_OK(clv_listen(&address, 0600, &nsm->listener, NULL, NULL));
    MUST(pthread_create(&nsm->thread, NULL, serve, nsm) == 0);
}

void fake_nsm_stop(fake_nsm *nsm)
{
    shutdown(nsm->listener, SHUT_RDWR);
    pthread_join(nsm->thread, NULL);
    close(nsm->listener);
    for (size_t i = 0; i < MAKER_CERTS; i++)
        clv_buf_drop(&nsm->certificate[i]);
    maker_drop(&nsm->maker);
}
