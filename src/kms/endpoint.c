#include <kms/endpoint.h>

/* Regions are told apart by their first part; the commercial partition has every other one. */
static const struct partition {
    const char *name;
    const char *region_prefix;
    const char *suffix;
    const char *dual;
} partitions[] = {
    {"aws-cn", "cn-", "amazonaws.com.cn", "api.amazonwebservices.com.cn"},
    {"aws-us-gov", "us-gov-", "amazonaws.com", "api.aws"},
    {"aws-eusc", "eusc-", "amazonaws.eu", "api.amazonwebservices.eu"},
    {"aws-iso", "us-iso-", "c2s.ic.gov", "api.aws.ic.gov"},
    {"aws-iso-b", "us-isob-", "sc2s.sgov.gov", "api.aws.scloud"},
    {"aws-iso-e", "eu-isoe-", "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"},
    {"aws-iso-f", "us-isof-", "csp.hci.ic.gov", "api.aws.hci.ic.gov"},
    {"aws", "", "amazonaws.com", "api.aws"},
};

static const struct partition *partition_of(const char *region)
{
    for (size_t i = 0; i < sizeof partitions / sizeof partitions[0]; i++) {
        const struct partition *p = &partitions[i];
        if (strncmp(region, p->region_prefix, strlen(p->region_prefix)) == 0)
            return p;
    }
    return NULL;
}

/* What follows the label at the front of *rest, when the label is this one. */
static bool take_label(const char **rest, const char *label)
{
    size_t n = strlen(label);
    if (strncmp(*rest, label, n) != 0 || (*rest)[n] != '.')
        return false;
    *rest += n + 1;
    return true;
}

/* "REGION." at the front: two parts and a number at least, as in us-east-1. */
static bool take_region(const char **rest, char *out)
{
    size_t n = strcspn(*rest, ".");
    size_t dashes = 0;
    for (size_t i = 0; i < n; i++)
        dashes += (*rest)[i] == '-';
    if ((*rest)[n] != '.' || n > CLV_REGION_MAX || dashes < 2)
        return false;
    memcpy(out, *rest, n);
    out[n] = '\0';
    *rest += n + 1;
    return true;
}

static bool known_suffix(const char *suffix, bool dual)
{
    for (size_t i = 0; i < sizeof partitions / sizeof partitions[0]; i++) {
        if (strcmp(suffix, dual ? partitions[i].dual : partitions[i].suffix) == 0)
            return true;
    }
    return false;
}

/* The name read; *suffix is what stands behind region and "vpce". */
static bool read_host(const char *host, clv_endpoint *out, const char **suffix)
{
    const char *rest = host;
    *out = (clv_endpoint){0};
    if (strncmp(host, "vpce-", 5) == 0) {
        rest += strcspn(rest, ".");
        rest += *rest == '.';
        out->vpc = true;
    }
    out->fips = take_label(&rest, "kms-fips");
    if ((!out->fips && !take_label(&rest, "kms")) || !take_region(&rest, out->region))
        return false;
    if (out->vpc && !take_label(&rest, "vpce"))
        return false;
    *suffix = rest;
    out->dual_stack = !out->vpc && known_suffix(rest, true);
    return out->dual_stack || known_suffix(rest, false);
}

void clv_endpoint_read(const char *host, clv_endpoint *out)
{
    const char *suffix;
    if (!read_host(host, out, &suffix)) {
        *out = (clv_endpoint){0};
        return;
    }
    out->known = true;
    out->partition = partition_of(out->region)->name;
}

clv_status clv_endpoint_check(const char *host, const char *region, clv_error *err)
{
    clv_endpoint endpoint;
    const char *suffix;
    if (!read_host(host, &endpoint, &suffix))
        return CLV_OK;
    if (strcmp(endpoint.region, region) != 0)
        return clv_fail(err, CLV_USAGE, "expected an endpoint of region %.32s, found %.100s",
                        region, host);
    const struct partition *p = partition_of(region);
    const char *expected = endpoint.dual_stack ? p->dual : p->suffix;
    if (strcmp(suffix, expected) != 0)
        return clv_fail(err, CLV_USAGE,
                        "expected an endpoint of region %.32s under %s, found "
                        "%.100s",
                        region, expected, host);
    return CLV_OK;
}
