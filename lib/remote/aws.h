// SPDX-License-Identifier: Apache-2.0
// Who we are to an S3 store, from the same places as the AWS tools: the environment
// (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_PROFILE, AWS_REGION,
// AWS_DEFAULT_REGION, AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, AWS_CA_BUNDLE,
// AWS_IGNORE_CONFIGURED_ENDPOINT_URLS), then ~/.aws/credentials and ~/.aws/config
// (AWS_SHARED_CREDENTIALS_FILE, AWS_CONFIG_FILE), the environment first. AWS_NO_SIGN_REQUEST=YES
// asks for anonymous requests, as GDAL has it.
#ifndef AWS_H
#define AWS_H

#include <stdbool.h>

#include "base/err.h"

// Heap strings, never NULL; "" where nothing says so.
struct aws {
    char *id, *secret, *token;
    char *region;   // "us-east-1" where nothing says so
    char *endpoint; // scheme://host[:port][/path], no slash at its end; "" = Amazon's own
    char *ca;       // file of certificates
};

// 0, or -1: a file that is there cannot be read, the profile that is asked for is in neither file,
// half a pair of keys, or the profile's keys come from a source that is not supported here (sso,
// a process, a role), which the message names.
int aws_read(struct aws *a, struct err *e);
// True where requests are not signed.
bool aws_anonymous(const struct aws *a);
// Overwrites the secrets first; safe on a zeroed one.
void aws_release(struct aws *a);

#endif
