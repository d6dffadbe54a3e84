// SPDX-License-Identifier: Apache-2.0
#include "remote/listing.h"

#include <string.h>

#include "unit/tap.h"

#define PAGE(x) "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"x\">" x "</ListBucketResult>"
#define ONE(key) "<Contents><Key>" key "</Key><Size>7</Size></Contents>"

// "key size modified etag,..." or the error.
static const char *read_list(const char *xml)
{
    static char text[1024];
    struct listing l = {0};
    struct err e;
    size_t n = 0;
    text[0] = '\0';
    if (listing_page(&l, xml, strlen(xml), &e))
        snprintf(text, sizeof text, "error: %s", e.text);
    else
        for (size_t i = 0; i < l.n; i++)
            n += (size_t)snprintf(text + n, sizeof text - n, "%s%s %llu %lld %s", i ? "," : "",
                                  l.entries[i].key, (unsigned long long)l.entries[i].size,
                                  (long long)l.entries[i].modified, l.entries[i].etag);
    if (l.next)
        snprintf(text + n, sizeof text - n, " -> %s", l.next);
    listing_release(&l);
    return text;
}

static void gives(const char *xml, const char *want)
{
    const char *got = read_list(xml);
    ok(!strncmp(got, want, *want == 'e' ? strlen(want) : strlen(got) + 1), "%s: %s", want, got);
}

int main(void)
{
    gives(PAGE(""), "");
    gives(PAGE("<IsTruncated>false</IsTruncated>"
               "<Contents><Key>a.tar</Key><LastModified>2013-05-24T00:00:00.000Z</LastModified>"
               "<ETag>&quot;x&quot;</ETag><Size>12</Size></Contents>" ONE("b &amp;&#60;&#xfc;")),
          "a.tar 12 1369353600 \"x\",b &<\xc3\xbc 7 -1 ");
    gives(PAGE("<EncodingType>url</EncodingType>" ONE("a+b%2B%c3%BC")), "a b+\xc3\xbc 7 -1 ");
    gives(
        PAGE("<IsTruncated>true</IsTruncated><NextContinuationToken>a+b=</NextContinuationToken>"),
        " -> a+b=");
    gives(PAGE("<IsTruncated>true</IsTruncated>"), "error: the store's listing goes on");
    gives("", "error: the store's listing is no list");
    gives("<html><body>Contents</body></html>", "error: the store's listing is no list");
    gives("<ListBucketResult><Contents><Key>a</Key><Size>1</Size></Contents>", "error: ");
    gives(PAGE("<Contents><Size>1</Size></Contents>"), "error: the store's listing has an object");
    gives(PAGE("<Contents><Key>a</Key><Size>-1</Size></Contents>"), "error: ");
    gives(PAGE("<Contents><Key>a</Key><Size>9999999999999999999</Size></Contents>"), "error: ");
    gives(PAGE("<Contents><Key>a</Key><ETag>x</Etag><Size>1</Size></Contents>"), "a 1 -1 ");
    gives(PAGE("<Contents><Key>a</Key><Size>1</Size><LastModified>2013-05-24T00:00:00Z</Contents>"),
          "a 1 -1 ");
    gives(PAGE(ONE("a&#27;b")), "error: the store's listing has a name");
    gives(PAGE(ONE("a&nbsp;b")), "error: ");
    gives(PAGE(ONE("a&#0;b")), "error: ");
    gives(PAGE(ONE("a&#xd800;b")), "error: ");
    gives(PAGE("<EncodingType>url</EncodingType>" ONE("a%00")), "error: ");
    gives(PAGE("<EncodingType>url</EncodingType>" ONE("a%0")), "error: ");
    gives(PAGE("<EncodingType>url</EncodingType>" ONE("a%0a")), "error: ");
    return tap_done();
}
