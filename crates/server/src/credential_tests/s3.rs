//! Amazon S3, and what speaks its protocol: asks for the name of one object. rusty-s3 signs, and sends nothing itself.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use guildhall_graphql::credential_tests::{CredentialTestFailure as Reason, Failure};
use hyper::{Method, StatusCode};
use jiff::Timestamp;
use rusty_s3::{Bucket, Credentials, S3Action as _, UrlStyle};
use url::Url;

use super::{Fields, NOT_AS_EXPECTED, Verdict, invalid, told_of_web, trouble};
use crate::outbound::{
    Outbound,
    web::{Answer, Ask},
};

/// How long the signed request is good for. Clocks may differ by some minutes.
const SIGNED_FOR: Duration = Duration::from_secs(300);

pub(super) async fn list(outbound: &Outbound, now: DateTime<Utc>, fields: &Fields) -> Verdict {
    let bucket = bucket(fields)?;
    let credentials =
        Credentials::new(fields.required("access_key_id")?, fields.required("secret_access_key")?);
    let now = Timestamp::from_second(now.timestamp()).map_err(|_| invalid("The time cannot be signed."))?;
    // The object without a name is the bucket itself.
    let mut list = bucket.get_object(Some(&credentials), "");
    list.query_mut().insert("list-type", "2");
    list.query_mut().insert("max-keys", "1");
    let url = list.sign_with_time(SIGNED_FOR, &now);
    let ask = Ask { method: Method::GET, url: &url, headers: vec![], body: Bytes::new() };
    meaning(&outbound.ask(ask).await.map_err(told_of_web)?)
}

fn bucket(fields: &Fields) -> Result<Bucket, Failure> {
    let name = fields.required("bucket_name")?;
    let region = fields.get("region").unwrap_or("us-east-1");
    let is_of = |text: &str, most, more: &[u8]| {
        (1..=most).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
    };
    // Both become part of addresses, and a name of dots would lead out of its place in a path.
    if !is_of(name, 255, b".-_") || name.bytes().all(|byte| byte == b'.') {
        return Err(invalid("`bucket_name` is no name of a bucket: letters, digits, dots and hyphens."));
    }
    if !is_of(region, 63, b"-_") {
        return Err(invalid("`region` is no name of a region, such as eu-central-1."));
    }
    let (endpoint, style) = match fields.get("endpoint_url") {
        Some(_) => (fields.url("endpoint_url", &[])?, UrlStyle::Path),
        None => {
            let top = if region.starts_with("cn-") { "com.cn" } else { "com" };
            let endpoint = Url::parse(&format!("https://s3.{region}.amazonaws.{top}"));
            // Amazon's certificates cover one label before its own.
            let is_label =
                name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
            let style = if is_label { UrlStyle::VirtualHost } else { UrlStyle::Path };
            (endpoint.map_err(|_| invalid("`region` is no name of a region, such as eu-central-1."))?, style)
        }
    };
    Bucket::new(endpoint, style, name.to_owned(), region.to_owned())
        .map_err(|_| invalid("`endpoint_url` or `bucket_name` cannot be used in an address."))
}

fn meaning(answer: &Answer) -> Verdict {
    let body = String::from_utf8_lossy(&answer.body);
    if answer.status == StatusCode::OK {
        return match body.contains("<ListBucketResult") {
            true => Ok("Signed in, and listed the bucket."),
            false => Err(NOT_AS_EXPECTED),
        };
    }
    // Words of the protocol; what is none of them is not told.
    let code = body.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    let other_region = invalid("The bucket is in another region. Set `region` to the one it is in.");
    Err(match code.map_or("", |(code, _)| code) {
        "PermanentRedirect"
        | "TemporaryRedirect"
        | "AuthorizationHeaderMalformed"
        | "AuthorizationQueryParametersError"
        | "IllegalLocationConstraintException" => other_region,
        "NoSuchBucket" => Failure::new(Reason::NotFound, "There is no bucket of that name."),
        "InvalidBucketName" => invalid("`bucket_name` is no name that the service allows."),
        "InvalidAccessKeyId" | "InvalidToken" => {
            Failure::new(Reason::AuthenticationFailed, "The service does not know this access key.")
        }
        "SignatureDoesNotMatch" => Failure::new(
            Reason::AuthenticationFailed,
            "The secret does not belong to this access key, or `region` is not the one of the service.",
        ),
        "RequestTimeTooSkewed" => Failure::new(
            Reason::UnexpectedAnswer,
            "The clocks of this server and of the service differ. Ask the operator of this server.",
        ),
        "AccessDenied" | "AllAccessDisabled" | "AccountProblem" => NOT_PERMITTED,
        _ => match answer.status {
            StatusCode::UNAUTHORIZED => {
                Failure::new(Reason::AuthenticationFailed, "The service does not accept this access key.")
            }
            StatusCode::FORBIDDEN => NOT_PERMITTED,
            StatusCode::NOT_FOUND => {
                Failure::new(Reason::NotFound, "There is no bucket of that name at this address.")
            }
            _ if answer.headers.contains_key("x-amz-bucket-region") => other_region,
            _ => trouble(answer),
        },
    })
}

const NOT_PERMITTED: Failure = Failure::new(
    Reason::PermissionDenied,
    "The access key may not list this bucket. Give it s3:ListBucket, or check the name of the bucket.",
);
