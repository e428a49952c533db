/* The maker's payload and envelope. */
#include "maker_chain.h"

#include <stdio.h>

#include <openssl/ec.h>

#include <base/cbor.h>
#include <base/crypto.h>

#define MUST(expression)    maker_must((expression), #expression, __LINE__)
#define MUST_OK(expression) MUST((expression) == CLV_OK)

const char *const maker_field_text[MAKER_FIELDS] = {
    "module_id", "digest",     "timestamp", "pcrs",  "certificate",
    "cabundle",  "public_key", "user_data", "nonce",
};

static const uint8_t filling[CLV_DOCUMENT_MAX];

static void put_hex(clv_buf *out, const char *hex)
{
    MUST_OK(clv_hex_decode(clv_bytes_of(hex), out, NULL));
}

static void put_right(clv_buf *out, const clv_document *d, const maker_knobs *k,
                      maker_field_name f);

/* Something else in a value's place. */
static void put_as(clv_buf *out, maker_as as)
{
    static const char *const hex[] = {
        [AS_NULL] = "f6",
        [AS_UINT] = "07",
        [AS_NEGINT] = "26",
        [AS_BYTES] = "43010203",
        [AS_TEXT] = "63616263",
        [AS_BOOL] = "f5",
        [AS_FLOAT] = "fb3ff0000000000000",
        [AS_ARRAY] = "820102",
        [AS_MAP] = "a10102",
        [AS_BREAK] = "ff",
        [AS_INDEFINITE_BYTES] = "5f43010203ff",
        [AS_INDEFINITE_TEXT] = "7f63616263ff",
        [AS_INDEFINITE_ARRAY] = "9f0102ff",
        [AS_INDEFINITE_MAP] = "bf0102ff",
        [AS_BAD_UTF8] = "63ff6263",
        [AS_RESERVED] = "1c",
    };
    if (as == AS_DEEP) {
        for (int i = 0; i < 1000; i++)
            put_hex(out, "81");
        put_hex(out, "00");
        return;
    }
    put_hex(out, hex[as]);
}

static void put_pcr(clv_buf *out, const maker_knobs *k, uint64_t index, clv_bytes value)
{
    bool odd = index == 1;
    switch (odd ? k->pcrs : PCRS_RIGHT) {
    case PCRS_INDEX_32:
        index = 32;
        break;
    case PCRS_INDEX_HUGE:
        index = UINT64_MAX;
        break;
    case PCRS_TWICE:
        index = 0;
        break;
    case PCRS_SHORT:
        value.n--;
        break;
    case PCRS_LONG:
        value = CLV_BYTES(filling, CLV_PCR_SIZE + 1);
        break;
    case PCRS_EMPTY_VALUE:
        value.n = 0;
        break;
    default:
        break;
    }
    if (odd && k->pcrs == PCRS_INDEX_NEGATIVE)
        put_as(out, AS_NEGINT);
    else if (odd && k->pcrs == PCRS_INDEX_TEXT)
        put_as(out, AS_TEXT);
    else
        MUST_OK(clv_cbor_put_uint(out, index, NULL));
    if (odd && k->pcrs == PCRS_TEXT_VALUE)
        put_as(out, AS_TEXT);
    else if (odd && k->pcrs == PCRS_NULL_VALUE)
        put_as(out, AS_NULL);
    else if (odd && k->pcrs == PCRS_NESTED_VALUE)
        put_as(out, AS_ARRAY);
    else if (k->pcrs == PCRS_ZERO && index < 3)
        MUST_OK(clv_cbor_put_bytes(out, CLV_BYTES(filling, CLV_PCR_SIZE), NULL));
    else
        MUST_OK(clv_cbor_put_bytes(out, value, NULL));
}

static void put_pcrs(clv_buf *out, const clv_document *d, const maker_knobs *k)
{
    size_t count = (size_t)__builtin_popcount(d->pcrs.present);
    int size = k->field[FIELD_PCRS].size;
    MUST_OK(clv_cbor_put_map(out, size > 0 ? (size_t)size - 1 : count, NULL));
    for (unsigned i = 0; i < CLV_PCR_COUNT && size == 0; i++) {
        if ((d->pcrs.present & UINT32_C(1) << i) != 0)
            put_pcr(out, k, i, CLV_BYTES(d->pcrs.value[i], CLV_PCR_SIZE));
    }
    for (int i = 0; i < size - 1; i++)
        put_pcr(out, k, (uint64_t)i, CLV_BYTES(filling, CLV_PCR_SIZE));
}

/* Which certificate stands where in the bundle. */
static size_t arrange(maker_bundle bundle, size_t count, size_t order[CLV_BUNDLE_MAX + 1])
{
    size_t n = 0;
    for (size_t i = bundle == BUNDLE_NO_ROOT ? 1 : 0; i < count; i++)
        order[n++] = bundle == BUNDLE_REVERSED ? count - 1 - i : i;
    if (bundle == BUNDLE_SWAPPED && n > 2) {
        order[1] = 2;
        order[2] = 1;
    }
    if (bundle == BUNDLE_ROOT_TWICE)
        order[1] = 0;
    return bundle == BUNDLE_ROOT_ONLY ? 1 : n;
}

static void put_bundle(clv_buf *out, const clv_document *d, const maker_knobs *k)
{
    size_t order[CLV_BUNDLE_MAX + 1];
    size_t n = arrange(k->bundle, d->bundle_count, order);
    int size = k->field[FIELD_CABUNDLE].size;
    MUST_OK(clv_cbor_put_array(out, size > 0 ? (size_t)size - 1 : n, NULL));
    for (size_t i = 0; i < n && size == 0; i++) {
        bool odd = i == 1;
        if (odd && k->bundle == BUNDLE_NULL_ITEM)
            put_as(out, AS_NULL);
        else if (odd && k->bundle == BUNDLE_TEXT_ITEM)
            put_as(out, AS_TEXT);
        else if (odd && k->bundle == BUNDLE_NESTED_ITEM)
            put_as(out, AS_ARRAY);
        else if (odd && k->bundle == BUNDLE_EMPTY_ITEM)
            MUST_OK(clv_cbor_put_bytes(out, CLV_BYTES(NULL, 0), NULL));
        else if (odd && k->bundle == BUNDLE_LONG_ITEM)
            MUST_OK(clv_cbor_put_bytes(out, CLV_BYTES(filling, CLV_CERTIFICATE_MAX + 1), NULL));
        else
            MUST_OK(clv_cbor_put_bytes(out, d->bundle[order[i]], NULL));
    }
    for (int i = 0; i < size - 1; i++)
        MUST_OK(clv_cbor_put_bytes(out, d->bundle[0], NULL));
}

static void put_sized(clv_buf *out, const maker_field *field, clv_bytes value)
{
    if (field->size > 0)
        value = CLV_BYTES(filling, (size_t)field->size - 1);
    MUST_OK(clv_cbor_put_bytes(out, value, NULL));
}

static void put_optional(clv_buf *out, const maker_field *field, const clv_optional *value)
{
    if (!value->present && field->size == 0)
        MUST_OK(clv_cbor_put_null(out, NULL));
    else
        put_sized(out, field, value->bytes);
}

static void put_module_id(clv_buf *out, const maker_field *field, clv_bytes value)
{
    char text[512] = {0};
    size_t n = field->size > 0 ? (size_t)field->size - 1 : value.n;
    memset(text, 'x', n);
    if (field->size == 0)
        memcpy(text, value.p, n);
    MUST_OK(clv_cbor_put_text(out, text, NULL));
}

static void put_right(clv_buf *out, const clv_document *d, const maker_knobs *k, maker_field_name f)
{
    const maker_field *field = &k->field[f];
    uint64_t timestamp = k->timestamp_ms != 0 ? k->timestamp_ms : d->timestamp_ms;
    switch (f) {
    case FIELD_MODULE_ID:
        put_module_id(out, field, d->module_id);
        return;
    case FIELD_DIGEST:
        MUST_OK(clv_cbor_put_text(out, field->size > 0 ? "SHA256" : "SHA384", NULL));
        return;
    case FIELD_TIMESTAMP:
        MUST_OK(clv_cbor_put_uint(out, field->size > 0 ? 0 : timestamp, NULL));
        return;
    case FIELD_PCRS:
        put_pcrs(out, d, k);
        return;
    case FIELD_CERTIFICATE:
        put_sized(out, field, d->certificate);
        return;
    case FIELD_CABUNDLE:
        put_bundle(out, d, k);
        return;
    case FIELD_PUBLIC_KEY:
        put_optional(out, field, &d->public_key);
        return;
    case FIELD_USER_DATA:
        put_optional(out, field, &d->user_data);
        return;
    default:
        put_optional(out, field, &d->nonce);
        return;
    }
}

static void put_member(clv_buf *out, const clv_document *d, const maker_knobs *k,
                       maker_field_name f, const char *name)
{
    MUST_OK(clv_cbor_put_text(out, name, NULL));
    if (k->field[f].as == AS_TAG)
        MUST_OK(clv_cbor_put_tag(out, 42, NULL));
    if (k->field[f].as == AS_RIGHT || k->field[f].as == AS_TAG)
        put_right(out, d, k, f);
    else
        put_as(out, k->field[f].as);
}

static size_t put_members(clv_buf *out, const clv_document *d, const maker_knobs *k)
{
    size_t pairs = 0;
    for (unsigned f = 0; f < MAKER_FIELDS; f++) {
        bool tpm = f == FIELD_PCRS && (k->nitrotpm || d->kind == CLV_KIND_NITROTPM);
        for (int i = k->field[f].omit ? 1 : 0; i < (k->field[f].twice ? 2 : 1); i++, pairs++)
            put_member(out, d, k, (maker_field_name)f, tpm ? "nitrotpm_pcrs" : maker_field_text[f]);
    }
    if (k->both_banks) {
        put_member(out, d, k, FIELD_PCRS, "nitrotpm_pcrs");
        pairs++;
    }
    if (k->unknown_field) {
        MUST_OK(clv_cbor_put_text(out, "nonces", NULL));
        MUST_OK(clv_cbor_put_null(out, NULL));
        pairs++;
    }
    if (k->number_key) {
        MUST_OK(clv_cbor_put_uint(out, 1, NULL));
        MUST_OK(clv_cbor_put_null(out, NULL));
        pairs++;
    }
    return pairs;
}

static void put_payload(clv_buf *out, const clv_document *d, const maker_knobs *k)
{
    clv_auto(clv_buf) members = CLV_BUF_INIT;
    size_t pairs = put_members(&members, d, k);
    if (k->indefinite)
        put_hex(out, "bf");
    else
        MUST_OK(clv_cbor_put_map(out, (size_t)((int)pairs + k->payload_pairs), NULL));
    MUST_OK(clv_buf_append(out, clv_buf_bytes(&members), NULL));
    if (k->indefinite && !k->no_break)
        put_hex(out, "ff");
    if (k->payload_trailing)
        put_hex(out, "00");
}

static void sign(EVP_PKEY *key, clv_bytes signed_bytes, clv_buf *der)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    size_t n = 0;
    uint8_t *to;
    MUST(EVP_DigestSignInit(ctx, NULL, EVP_sha384(), NULL, key) == 1);
    MUST(EVP_DigestSign(ctx, NULL, &n, signed_bytes.p, signed_bytes.n) == 1);
    MUST_OK(clv_buf_reserve(der, n, &to, NULL));
    MUST(EVP_DigestSign(ctx, to, &n, signed_bytes.p, signed_bytes.n) == 1);
    der->n += n;
    EVP_MD_CTX_free(ctx);
}

#define HALF 48

/* r || s; what is no P-384 signature becomes ones, which no verifier gets to see. */
static void split_der(clv_bytes der, uint8_t out[2 * HALF])
{
    const uint8_t *p = der.p;
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &p, (long)der.n);
    memset(out, 1, 2 * HALF);
    if (sig != NULL && BN_num_bytes(ECDSA_SIG_get0_r(sig)) <= HALF &&
        BN_num_bytes(ECDSA_SIG_get0_s(sig)) <= HALF) {
        MUST(BN_bn2binpad(ECDSA_SIG_get0_r(sig), out, HALF) == HALF);
        MUST(BN_bn2binpad(ECDSA_SIG_get0_s(sig), out + HALF, HALF) == HALF);
    }
    ECDSA_SIG_free(sig);
}

static void put_order(uint8_t out[HALF])
{
    EC_GROUP *group = EC_GROUP_new_by_curve_name(NID_secp384r1);
    MUST(group != NULL && BN_bn2binpad(EC_GROUP_get0_order(group), out, HALF) == HALF);
    EC_GROUP_free(group);
}

/* A string of the envelope, its length in four bytes when that is the knob turned. */
static void put_bytes(clv_buf *out, const maker_knobs *k, maker_long which, clv_bytes bytes)
{
    if (k->long_head != which) {
        MUST_OK(clv_cbor_put_bytes(out, bytes, NULL));
        return;
    }
    put_hex(out, "5a");
    MUST_OK(clv_buf_u32(out, (uint32_t)bytes.n, NULL));
    MUST_OK(clv_buf_append(out, bytes, NULL));
}

static void put_signature(clv_buf *out, const maker_knobs *k, const uint8_t right[2 * HALF])
{
    uint8_t s[2 * HALF + 1] = {0};
    size_t n = 2 * HALF;
    memcpy(s, right, n);
    switch (k->signature) {
    case SIGNATURE_FLIPPED:
        s[n - 1] ^= 1;
        break;
    case SIGNATURE_R_ZERO:
        memset(s, 0, HALF);
        break;
    case SIGNATURE_S_ZERO:
        memset(s + HALF, 0, HALF);
        break;
    case SIGNATURE_R_ORDER:
        put_order(s);
        break;
    case SIGNATURE_S_ORDER:
        put_order(s + HALF);
        break;
    case SIGNATURE_R_MAX:
        memset(s, 0xff, HALF);
        break;
    case SIGNATURE_95:
        n--;
        break;
    case SIGNATURE_97:
        n++;
        break;
    case SIGNATURE_EMPTY:
        n = 0;
        break;
    case SIGNATURE_TEXT:
        put_as(out, AS_TEXT);
        return;
    case SIGNATURE_NESTED:
        put_as(out, AS_ARRAY);
        return;
    default:
        break;
    }
    put_bytes(out, k, LONG_SIGNATURE, CLV_BYTES(s, n));
}

/* The right protected header: {1: -35}. */
#define PROTECTED "a1013822"

static void put_envelope(clv_buf *out, const maker_knobs *k, clv_bytes protected_header,
                         clv_bytes payload)
{
    if (k->prefix != NULL)
        put_hex(out, k->prefix);
    put_hex(out, k->array != NULL ? k->array : "84");
    if (k->protected_as != AS_RIGHT)
        put_as(out, k->protected_as);
    else
        put_bytes(out, k, LONG_PROTECTED, protected_header);
    put_hex(out, k->unprotected != NULL ? k->unprotected : "a0");
    if (k->payload_as != AS_RIGHT)
        put_as(out, k->payload_as);
    else if (k->payload_padded)
        MUST_OK(clv_cbor_put_bytes(out, CLV_BYTES(filling, CLV_PAYLOAD_MAX + 1), NULL));
    else
        put_bytes(out, k, LONG_PAYLOAD, payload);
}

static void finish(clv_buf *out, const maker_knobs *k)
{
    if (k->suffix != NULL)
        put_hex(out, k->suffix);
    MUST((size_t)k->cut <= out->n);
    out->n -= (size_t)k->cut;
}

/* right: r || s to keep, or NULL to sign with key. */
static void encode(const clv_document *d, const maker_knobs *k, const uint8_t *right, EVP_PKEY *key,
                   clv_buf *out)
{
    clv_auto(clv_buf) header = CLV_BUF_INIT;
    clv_auto(clv_buf) payload = CLV_BUF_INIT;
    clv_auto(clv_buf) to_sign = CLV_BUF_INIT;
    clv_auto(clv_buf) der = CLV_BUF_INIT;
    uint8_t made[2 * HALF];
    put_hex(&header, k->protected_ != NULL ? k->protected_ : PROTECTED);
    put_payload(&payload, d, k);
    put_envelope(out, k, clv_buf_bytes(&header), clv_buf_bytes(&payload));
    if (right == NULL) {
        MUST_OK(clv_cbor_put_array(&to_sign, 4, NULL));
        MUST_OK(clv_cbor_put_text(&to_sign, "Signature1", NULL));
        MUST_OK(clv_cbor_put_bytes(&to_sign, clv_buf_bytes(&header), NULL));
        MUST_OK(clv_cbor_put_bytes(&to_sign, CLV_BYTES(NULL, 0), NULL));
        MUST_OK(clv_cbor_put_bytes(&to_sign, clv_buf_bytes(&payload), NULL));
        sign(key, clv_buf_bytes(&to_sign), &der);
        split_der(clv_buf_bytes(&der), made);
        right = made;
    }
    if (k->signature == SIGNATURE_DER)
        MUST_OK(clv_cbor_put_bytes(out, clv_buf_bytes(&der), NULL));
    else
        put_signature(out, k, right);
    finish(out, k);
}

static void fill_document(clv_document *d)
{
    d->module_id = clv_bytes_of("i-0123456789abcdef0-enc0123456789abcdef");
    d->timestamp_ms = MAKER_TIME_MS;
    d->pcrs.present = 0xffff;
    for (size_t i = 0; i < 16; i++)
        memset(d->pcrs.value[i], (int)i + 1, CLV_PCR_SIZE);
    d->user_data = (clv_optional){true, clv_bytes_of("user data")};
    d->nonce = (clv_optional){true, clv_bytes_of("nonce")};
    d->public_key = (clv_optional){true, clv_bytes_of("public key")};
}

void maker_make(const maker *m, const maker_knobs *knobs, clv_buf *document,
                uint8_t root_sha256[CLV_ROOT_DIGEST_SIZE])
{
    clv_document d = {0};
    clv_buf der[MAKER_CERTS] = {0};
    fill_document(&d);
    for (size_t i = 0; i < MAKER_CERTS; i++)
        maker_certificate_make(m, knobs, i, &der[i]);
    for (size_t i = 0; i < MAKER_CAS; i++)
        d.bundle[i] = clv_buf_bytes(&der[i]);
    d.bundle_count = MAKER_CAS;
    d.certificate = clv_buf_bytes(&der[MAKER_LEAF]);
    MUST_OK(clv_sha256(d.bundle[0], root_sha256, NULL));
    encode(&d, knobs, NULL,
           knobs->signature == SIGNATURE_STRANGER ? m->stranger
           : knobs->signature == SIGNATURE_ISSUER ? m->key[MAKER_LEAF - 1]
                                                  : maker_key_of(m, knobs, MAKER_LEAF),
           document);
    for (size_t i = 0; i < MAKER_CERTS; i++)
        clv_buf_drop(&der[i]);
}

void maker_sign(const clv_document *document, EVP_PKEY *leaf, clv_buf *out)
{
    static const maker_knobs right = RIGHT;
    encode(document, &right, NULL, leaf, out);
}

void maker_remake(const clv_document *document, const maker_knobs *knobs, clv_buf *out)
{
    MUST(document->signature.n == 2 * HALF);
    encode(document, knobs, document->signature.p, NULL, out);
}
