#include <cli/eif.h>

#include <openssl/pem.h>

#include <base/cbor.h>
#include <base/crypto.h>

#define MAGIC              0x2e656966u /* ".eif" */
#define VERSION_MIN        2
#define VERSION_MAX        4
#define SECTIONS_MAX       32
#define HEADER_SIZE        548
#define CRC_OFFSET         544
#define SECTION_HEAD       12
#define SIGNATURE_MAX      32768
#define REVERSED_CRC32     0xedb88320u
#define CERTIFICATE_MEMBER "signing_certificate"
#define SIGNATURE_MEMBER   "signature"

enum section_kind { INVALID, KERNEL, CMDLINE, RAMDISK, SIGNATURE, METADATA, KINDS };

static const char *const kind_name[KINDS] = {"invalid", "kernel",    "command line",
                                             "ramdisk", "signature", "metadata"};

typedef struct section {
    enum section_kind kind;
    clv_bytes data;
} section;

typedef struct eif {
    uint16_t version, count;
    uint64_t offset[SECTIONS_MAX], size[SECTIONS_MAX];
    uint32_t crc;
    section section[SECTIONS_MAX];
    unsigned number_of[KINDS];
} eif;

/* CRC-32/ISO-HDLC, as zlib's, going on from `crc`. */
static uint32_t crc32_of(uint32_t crc, clv_bytes data)
{
    static uint32_t table[256];
    if (table[1] == 0) {
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t c = i;
            for (int bit = 0; bit < 8; bit++)
                c = (c & 1) != 0 ? c >> 1 ^ REVERSED_CRC32 : c >> 1;
            table[i] = c;
        }
    }
    crc = ~crc;
    for (size_t i = 0; i < data.n; i++)
        crc = table[(crc ^ data.p[i]) & 0xff] ^ crc >> 8;
    return ~crc;
}

static clv_status read_header(clv_cursor *c, eif *out, clv_error *err)
{
    uint32_t magic, unused32;
    uint16_t flags, unused16;
    uint64_t memory, cpus;
    CLV_TRY(clv_cursor_u32(c, &magic, err));
    if (magic != MAGIC)
        return clv_fail(err, CLV_EIF_FORMAT, "expected an image that begins with \".eif\"");
    CLV_TRY(clv_cursor_u16(c, &out->version, err));
    CLV_TRY(clv_cursor_u16(c, &flags, err));
    CLV_TRY(clv_cursor_u64(c, &memory, err));
    CLV_TRY(clv_cursor_u64(c, &cpus, err));
    CLV_TRY(clv_cursor_u16(c, &unused16, err));
    CLV_TRY(clv_cursor_u16(c, &out->count, err));
    if (out->version < VERSION_MIN || out->version > VERSION_MAX)
        return clv_fail(err, CLV_EIF_FORMAT, "expected version %d to %d, found %u", VERSION_MIN,
                        VERSION_MAX, out->version);
    if (out->count < 2 || out->count > SECTIONS_MAX)
        return clv_fail(err, CLV_EIF_FORMAT, "expected 2 to %d sections, found %u", SECTIONS_MAX,
                        out->count);
    for (int i = 0; i < SECTIONS_MAX; i++)
        CLV_TRY(clv_cursor_u64(c, &out->offset[i], err));
    for (int i = 0; i < SECTIONS_MAX; i++)
        CLV_TRY(clv_cursor_u64(c, &out->size[i], err));
    CLV_TRY(clv_cursor_u32(c, &unused32, err));
    return clv_cursor_u32(c, &out->crc, err);
}

static clv_status read_section(clv_cursor *c, uint64_t at, unsigned i, eif *out, clv_error *err)
{
    uint16_t kind, flags;
    uint64_t size;
    CLV_TRY(clv_cursor_u16(c, &kind, err));
    CLV_TRY(clv_cursor_u16(c, &flags, err));
    CLV_TRY(clv_cursor_u64(c, &size, err));
    if (kind == INVALID || kind >= KINDS)
        return clv_fail(err, CLV_EIF_FORMAT, "section %u: expected a known kind, found %u", i,
                        kind);
    if (out->offset[i] != at || out->size[i] != size)
        return clv_fail(err, CLV_EIF_FORMAT,
                        "section %u: expected it where the header's table says, found it elsewhere",
                        i);
    if (kind == RAMDISK && out->number_of[KERNEL] == 0)
        return clv_fail(err, CLV_EIF_FORMAT, "section %u: expected the kernel before a ramdisk", i);
    out->section[i].kind = (enum section_kind)kind;
    out->number_of[kind]++;
    return clv_cursor_take(c, size, &out->section[i].data, err);
}

static clv_status check_numbers(const eif *image, clv_error *err)
{
    static const struct {
        unsigned min, max;
    } allowed[KINDS] = {
        [KERNEL] = {1, 1},    [CMDLINE] = {1, 1},  [RAMDISK] = {1, SECTIONS_MAX},
        [SIGNATURE] = {0, 1}, [METADATA] = {0, 1},
    };
    for (int kind = KERNEL; kind < KINDS; kind++) {
        if (image->number_of[kind] < allowed[kind].min ||
            image->number_of[kind] > allowed[kind].max)
            return clv_fail(err, CLV_EIF_FORMAT, "expected %u to %u %s sections, found %u",
                            allowed[kind].min, allowed[kind].max, kind_name[kind],
                            image->number_of[kind]);
    }
    return CLV_OK;
}

static clv_status read_image(clv_bytes bytes, eif *out, clv_error *err)
{
    clv_cursor c = clv_cursor_of(bytes);
    CLV_TRY(read_header(&c, out, err));
    for (unsigned i = 0; i < out->count; i++)
        CLV_TRY(read_section(&c, bytes.n - c.rest.n, i, out, err));
    if (c.rest.n != 0)
        return clv_fail(err, CLV_EIF_FORMAT,
                        "expected nothing behind the sections, found %zu bytes", c.rest.n);
    CLV_TRY(check_numbers(out, err));

    clv_cursor head = clv_cursor_of(bytes), body = head;
    clv_bytes covered, skipped;
    CLV_TRY(clv_cursor_take(&head, CRC_OFFSET, &covered, err));
    CLV_TRY(clv_cursor_take(&body, HEADER_SIZE, &skipped, err));
    uint32_t crc = crc32_of(crc32_of(0, covered), body.rest);
    if (crc != out->crc)
        return clv_fail(err, CLV_EIF_FORMAT, "expected the CRC %08x, found %08x", out->crc, crc);
    return CLV_OK;
}

/* What the sections given leave in a register: SHA-384(zeros || SHA-384(their data)). */
typedef struct measurement {
    EVP_MD_CTX *inner;
    bool failed;
} measurement;

static void add(measurement *m, clv_bytes data)
{
    m->failed = m->failed || EVP_DigestUpdate(m->inner, data.p, data.n) != 1;
}

static measurement start(void)
{
    measurement m = {EVP_MD_CTX_new(), false};
    m.failed = m.inner == NULL || EVP_DigestInit_ex(m.inner, EVP_sha384(), NULL) != 1;
    return m;
}

static clv_status finish(measurement *m, unsigned index, clv_pcrs *out, clv_error *err)
{
    uint8_t input[2 * CLV_PCR_SIZE] = {0};
    bool held = !m->failed && EVP_DigestFinal_ex(m->inner, input + CLV_PCR_SIZE, NULL) == 1;
    EVP_MD_CTX_free(m->inner);
    if (!held)
        return clv_fail_openssl(err, CLV_INTERNAL, "the image cannot be hashed");
    out->present |= UINT32_C(1) << index;
    return clv_sha384(CLV_BYTES(input, sizeof input), out->value[index], err);
}

static clv_status measure_sections(const eif *image, clv_pcrs *out, clv_error *err)
{
    measurement all = start(), boot = start(), rest = start();
    unsigned ramdisks = 0;
    for (unsigned i = 0; i < image->count; i++) {
        const section *s = &image->section[i];
        if (s->kind != KERNEL && s->kind != CMDLINE && s->kind != RAMDISK)
            continue;
        add(&all, s->data);
        ramdisks += s->kind == RAMDISK;
        add(s->kind == RAMDISK && ramdisks > 1 ? &rest : &boot, s->data);
    }
    clv_status status = finish(&all, 0, out, err);
    clv_status second = finish(&boot, 1, out, status == CLV_OK ? err : NULL);
    clv_status third = finish(&rest, 2, out, status == CLV_OK && second == CLV_OK ? err : NULL);
    return status != CLV_OK ? status : second != CLV_OK ? second : third;
}

/* An array of numbers from 0 to 255, which is how the format writes bytes. */
static clv_status read_octets(clv_cursor *c, clv_buf *out, clv_error *err)
{
    clv_cbor_item list, octet;
    CLV_TRY(clv_cbor_expect(c, CLV_CBOR_ARRAY, &list, err));
    for (uint64_t i = 0; i < list.value; i++) {
        CLV_TRY(clv_cbor_expect(c, CLV_CBOR_UINT, &octet, err));
        if (octet.value > UINT8_MAX)
            return clv_fail(err, CLV_EIF_FORMAT, "signature: expected bytes, found a number");
        CLV_TRY(clv_buf_u8(out, (uint8_t)octet.value, err));
    }
    return CLV_OK;
}

static clv_status read_signature(clv_bytes data, clv_buf *certificate, clv_buf *cose,
                                 clv_error *err)
{
    clv_cursor c = clv_cursor_of(data);
    clv_cbor_item item;
    if (data.n > SIGNATURE_MAX)
        return clv_fail(err, CLV_EIF_FORMAT, "signature: expected at most %d bytes, found %zu",
                        SIGNATURE_MAX, data.n);
    CLV_TRY(clv_cbor_expect(&c, CLV_CBOR_ARRAY, &item, err));
    if (item.value != 1)
        return clv_fail(err, CLV_EIF_FORMAT, "expected one signature, found %llu",
                        (unsigned long long)item.value);
    CLV_TRY(clv_cbor_expect(&c, CLV_CBOR_MAP, &item, err));
    for (uint64_t n = item.value; n > 0; n--) {
        clv_cbor_item key;
        CLV_TRY(clv_cbor_expect(&c, CLV_CBOR_TEXT, &key, err));
        bool is_certificate = clv_bytes_equal(key.bytes, clv_bytes_of(CERTIFICATE_MEMBER));
        if (!is_certificate && !clv_bytes_equal(key.bytes, clv_bytes_of(SIGNATURE_MEMBER)))
            return clv_fail(err, CLV_EIF_FORMAT,
                            "signature: expected " CERTIFICATE_MEMBER " and " SIGNATURE_MEMBER
                            ", found another member");
        CLV_TRY(read_octets(&c, is_certificate ? certificate : cose, err));
    }
    return CLV_OK;
}

/* The signed payload, {"register_index": 0, "register_value": […]}, must speak of this PCR0. */
static clv_status check_signed_value(const clv_buf *cose, const clv_pcrs *pcrs, clv_error *err)
{
    clv_cursor c = clv_cursor_of(clv_buf_bytes(cose));
    clv_cbor_item item;
    clv_auto(clv_buf) value = CLV_BUF_INIT;
    CLV_TRY(clv_cbor_expect(&c, CLV_CBOR_ARRAY, &item, err));
    CLV_TRY(clv_cbor_expect(&c, CLV_CBOR_BYTES, &item, err));
    CLV_TRY(clv_cbor_expect(&c, CLV_CBOR_MAP, &item, err));
    CLV_TRY(clv_cbor_expect(&c, CLV_CBOR_BYTES, &item, err));
    c = clv_cursor_of(item.bytes);
    CLV_TRY(clv_cbor_expect(&c, CLV_CBOR_MAP, &item, err));
    CLV_TRY(clv_cbor_expect(&c, CLV_CBOR_TEXT, &item, err));
    CLV_TRY(clv_cbor_expect(&c, CLV_CBOR_UINT, &item, err));
    CLV_TRY(clv_cbor_expect(&c, CLV_CBOR_TEXT, &item, err));
    CLV_TRY(read_octets(&c, &value, err));
    if (!clv_bytes_equal(clv_buf_bytes(&value), CLV_BYTES(pcrs->value[0], CLV_PCR_SIZE)))
        return clv_fail(err, CLV_EIF_FORMAT,
                        "signature: expected it over this image's PCR0, found another value");
    return CLV_OK;
}

static clv_status measure_signer(clv_bytes data, clv_pcrs *out, clv_error *err)
{
    clv_auto(clv_buf) pem = CLV_BUF_INIT;
    clv_auto(clv_buf) cose = CLV_BUF_INIT;
    CLV_TRY(read_signature(data, &pem, &cose, err));
    CLV_TRY(check_signed_value(&cose, out, err));
    BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);
    clv_auto(clv_x509) certificate = bio != NULL ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    BIO_free(bio);
    uint8_t *der = NULL;
    int n = certificate != NULL ? i2d_X509(certificate, &der) : -1;
    if (n <= 0)
        return clv_fail_openssl(err, CLV_EIF_FORMAT, "signature: the certificate is not PEM");
    measurement m = start();
    add(&m, CLV_BYTES(der, (size_t)n));
    OPENSSL_free(der);
    return finish(&m, 8, out, err);
}

clv_status clv_eif_measure(clv_bytes bytes, clv_pcrs *out, clv_error *err)
{
    eif image = {0};
    *out = (clv_pcrs){.present = 0};
    clv_error detail = {.code = CLV_OK};
    clv_status status = read_image(bytes, &image, &detail);
    if (status == CLV_OK)
        status = measure_sections(&image, out, &detail);
    for (unsigned i = 0; status == CLV_OK && i < image.count; i++) {
        if (image.section[i].kind == SIGNATURE)
            status = measure_signer(image.section[i].data, out, &detail);
    }
    if (status == CLV_OK)
        return CLV_OK;
    bool shape = clv_status_exit(status) == CLV_EXIT_INPUT;
    return clv_fail(err, shape ? CLV_EIF_FORMAT : status, "%s", detail.text);
}
