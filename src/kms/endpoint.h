/*
 * The names under which AWS serves KMS (AWS General Reference, "AWS Key Management Service
 * endpoints and quotas"; AWS KMS developer guide, "Connecting to AWS KMS through a VPC endpoint"):
 *
 *     kms.REGION.SUFFIX             kms-fips.REGION.SUFFIX
 *     kms.REGION.DUAL               kms-fips.REGION.DUAL             (IPv4 and IPv6)
 *     ID.kms.REGION.vpce.SUFFIX     ID.kms-fips.REGION.vpce.SUFFIX   (a VPC endpoint's own name)
 *
 * SUFFIX and DUAL are the partition's: commercial and GovCloud regions, China, the European
 * sovereign cloud, the isolated regions. Any other name is private DNS or a local KMS and tells
 * nothing.
 */
#ifndef CLV_KMS_ENDPOINT_H
#define CLV_KMS_ENDPOINT_H

#include <claviger/bytes.h>

#define CLV_REGION_MAX 32

typedef struct clv_endpoint {
    bool known; /* one of the names above; otherwise nothing else is set */
    bool fips, dual_stack, vpc;
    char region[CLV_REGION_MAX + 1];
    const char *partition; /* "aws", "aws-cn", …, as in ARNs */
} clv_endpoint;

void clv_endpoint_read(const char *host, clv_endpoint *out);

/*
 * CLV_USAGE when the name says another region than the one that requests are signed for, or a
 * region under another partition's suffix: every call would fail, with a less helpful error.
 */
CLV_NODISCARD clv_status clv_endpoint_check(const char *host, const char *region, clv_error *err);

#endif
