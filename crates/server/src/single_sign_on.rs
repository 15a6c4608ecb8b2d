//! Asks identity providers who somebody is: OpenID Connect's discovery, token endpoint, keys and user info. Knows the
//! protocol and signatures; refuses to know whom a provider is believed (`domain/single_sign_on.rs`), and what is kept
//! of a sign-in. All of it goes to where a tenant says, so through [`Outbound`], each request bounded in time and size.
//!
//! By jsonwebtoken, which checks tokens here anyway, instead of the crate openidconnect: what is needed of the protocol is this
//! file, and that crate would bring other implementations of RSA and elliptic curves beside the one that is here.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use guildhall_domain::single_sign_on::{Assertion, Expected, Issuer, TokenFault, judge_token, person};
use guildhall_graphql::single_sign_on::{CALLBACK_PATH, IdentityProviders, LookupFailed, ProviderFailed};
use guildhall_persistence::single_sign_on::Return;
use hyper::{
    Method, StatusCode,
    header::{self, HeaderName, HeaderValue},
};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, Validation, decode, decode_header,
    jwk::{Jwk, PublicKeyUse},
};
use moka::sync::Cache;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;
use tokio::{sync::Semaphore, time::timeout};
use url::{Url, form_urlencoded};

use crate::{
    dns::Dns,
    outbound::{
        Outbound, host,
        web::{Answer, Ask, WebFault},
    },
};

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many requests are on their way at once, since strangers can cause them; and how many of those to one provider, so
/// that one which is silent keeps nobody from the others.
const AT_ONCE: usize = 64;
const AT_ONCE_EACH: usize = 8;
/// How long what a provider says of itself is taken for true, and how many are remembered.
const REMEMBERED: Duration = Duration::from_secs(10 * 60);
const MOST_REMEMBERED: u64 = 1000;
/// The most keys of a provider that are looked at.
const MOST_KEYS: usize = 50;

/// Why a provider did not say who somebody is: for the log.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It was not reached, or its answer was not.
    #[error("{0}: {1}")]
    Web(&'static str, WebFault),
    /// It took too long.
    #[error("{0}: no answer in time")]
    TimedOut(&'static str),
    /// It answered something else than what was asked for.
    #[error("{0}: answered with {1}")]
    Status(&'static str, StatusCode),
    /// Its answer has not the form that OpenID Connect has.
    #[error("{0}: {1}")]
    Form(&'static str, &'static str),
    /// The ID token is not signed by it.
    #[error("the ID token is signed by none of the provider's keys, or by an algorithm that is not taken")]
    Signature,
    /// The ID token is signed, and says something wrong.
    #[error("{0}")]
    Token(#[from] TokenFault),
    /// It has verified no address of the person.
    #[error("the provider tells no address that it has verified: `email` and `email_verified`")]
    NoEmail,
}

/// What a provider says of itself. What it could say besides is not needed.
#[derive(Debug, Deserialize)]
struct Discovery {
    issuer: String,
    #[serde(deserialize_with = "address")]
    authorization_endpoint: Url,
    #[serde(deserialize_with = "address")]
    token_endpoint: Url,
    #[serde(deserialize_with = "address")]
    jwks_uri: Url,
    #[serde(default, deserialize_with = "perhaps_address")]
    userinfo_endpoint: Option<Url>,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

fn address<'de, D: Deserializer<'de>>(from: D) -> Result<Url, D::Error> {
    Url::parse(&String::deserialize(from)?).map_err(D::Error::custom)
}

fn perhaps_address<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Url>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    text.map(|text| Url::parse(&text).map_err(D::Error::custom)).transpose()
}

#[derive(Deserialize)]
struct Tokens {
    id_token: String,
    access_token: Option<String>,
}

/// Asks providers, and DNS.
pub struct SingleSignOn {
    outbound: Outbound,
    dns: Dns,
    /// Where browsers may go on: this instance, and the pages of others that may call it.
    origins: Vec<String>,
    callback: String,
    known: Cache<String, Arc<Discovery>>,
    keys: Cache<String, Arc<Vec<Jwk>>>,
    places: Semaphore,
    places_each: Cache<String, Arc<Semaphore>>,
}

impl SingleSignOn {
    /// `origins` are those of other pages that may call the API, by name.
    pub fn new(outbound: Outbound, dns: Dns, app_url: &str, origins: Vec<String>) -> Self {
        let own = Url::parse(app_url).map(|url| url.origin().ascii_serialization());
        Self {
            outbound,
            dns,
            origins: origins.into_iter().chain(own).collect(),
            callback: format!("{app_url}{CALLBACK_PATH}"),
            known: remembering(),
            keys: remembering(),
            places: Semaphore::new(AT_ONCE),
            places_each: remembering(),
        }
    }

    /// Who it is, by the code with which a browser came back. `told_issuer` is what the provider called itself then.
    pub async fn ask(
        &self,
        returned: &Return,
        code: &str,
        told_issuer: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<Assertion, Fault> {
        let provider = self.discover(&returned.issuer).await?;
        // RFC 9207: an answer of one provider is not taken for another's.
        let is_told = told_issuer.is_some() || !provider.authorization_response_iss_parameter_supported;
        if !is_told || told_issuer.is_some_and(|issuer| issuer != provider.issuer) {
            return Err(Fault::Form("authorization", "the answer is another provider's"));
        }
        let tokens = self.redeem(&provider, returned, code).await?;
        let mut claims = self.verified(&provider, &tokens.id_token).await?;
        let expected =
            Expected { issuer: &returned.issuer, client_id: &returned.client_id, nonce: &returned.nonce };
        let subject = judge_token(&claims, &expected, now)?;
        // Many providers keep the token small, and tell the rest when they are asked.
        if claims.get("email").is_none()
            && let (Some(endpoint), Some(token)) = (&provider.userinfo_endpoint, &tokens.access_token)
        {
            claims = self.user_info(endpoint, token).await?;
            if claims.get("sub").and_then(Value::as_str) != Some(&subject) {
                return Err(Fault::Form("user info", "is of somebody else"));
            }
        }
        person(&subject, &claims).ok_or(Fault::NoEmail)
    }

    async fn discover(&self, issuer: &str) -> Result<Arc<Discovery>, Fault> {
        const WHAT: &str = "discovery";
        if let Some(known) = self.known.get(issuer) {
            return Ok(known);
        }
        let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let url = Url::parse(&url).map_err(|_| Fault::Form(WHAT, "the issuer is no address"))?;
        let found: Discovery = self.json(WHAT, get(&url, None)).await?;
        if found.issuer != issuer {
            return Err(Fault::Form(
                WHAT,
                "the document is of another issuer than the one that is configured",
            ));
        }
        let endpoints = [&found.authorization_endpoint, &found.token_endpoint, &found.jwks_uri];
        if !endpoints.into_iter().chain(&found.userinfo_endpoint).all(|url| self.is_fit(url)) {
            return Err(Fault::Form(WHAT, "an endpoint is not of https"));
        }
        let found = Arc::new(found);
        self.known.insert(issuer.to_owned(), Arc::clone(&found));
        Ok(found)
    }

    /// Whether something may be sent there: in the clear only where the operator named the host.
    fn is_fit(&self, url: &Url) -> bool {
        let is_named = || url.host_str().and_then(host).is_some_and(|host| self.outbound.is_named(&host));
        url.scheme() == "https" || url.scheme() == "http" && is_named()
    }

    async fn redeem(&self, provider: &Discovery, returned: &Return, code: &str) -> Result<Tokens, Fault> {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &format!("{}/{}", self.callback, returned.slug)),
            ("code_verifier", &returned.verifier),
        ];
        let (id, secret) = (returned.client_id.as_str(), returned.client_secret.expose_secret());
        let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let mut body = form.map(|(name, value)| format!("{name}={}", encoded(value))).join("&");
        let mut headers = vec![
            (header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded")),
            (header::ACCEPT, HeaderValue::from_static("application/json")),
        ];
        // Unless the provider says otherwise, in the header, as OpenID Connect has it.
        let methods = &provider.token_endpoint_auth_methods_supported;
        let says = |method: &str| methods.iter().any(|supported| supported == method);
        if says("client_secret_basic") || !says("client_secret_post") {
            let pair = STANDARD.encode(format!("{}:{}", encoded(id), encoded(secret)));
            headers.push(authorization(&format!("Basic {pair}"))?);
        } else {
            body.push_str(&format!("&client_id={}&client_secret={}", encoded(id), encoded(secret)));
        }
        let ask = Ask { method: Method::POST, url: &provider.token_endpoint, headers, body: body.into() };
        self.json("token endpoint", ask).await
    }

    async fn user_info(&self, endpoint: &Url, token: &str) -> Result<Value, Fault> {
        self.json("user info", get(endpoint, Some(authorization(&format!("Bearer {token}"))?))).await
    }

    /// The claims of an ID token that one of the provider's keys has signed.
    async fn verified(&self, provider: &Discovery, token: &str) -> Result<Value, Fault> {
        let known = self.keys.get(provider.jwks_uri.as_str());
        if let Some(claims) = known.and_then(|keys| verify(token, &keys)) {
            return Ok(claims);
        }
        // The key may be a new one. Whoever gets here has cost the provider a request already.
        let keys = self.fetch_keys(&provider.jwks_uri).await?;
        let claims = verify(token, &keys).ok_or(Fault::Signature)?;
        self.keys.insert(provider.jwks_uri.to_string(), Arc::new(keys));
        Ok(claims)
    }

    async fn fetch_keys(&self, url: &Url) -> Result<Vec<Jwk>, Fault> {
        let set: Value = self.json("keys", get(url, None)).await?;
        let keys = set.get("keys").and_then(Value::as_array);
        let keys = keys.ok_or(Fault::Form("keys", "there are none in the answer"))?;
        // One that is not understood is none of ours.
        let read = keys.iter().take(MOST_KEYS).filter_map(|key| Jwk::deserialize(key).ok());
        Ok(read.collect())
    }

    async fn json<T: for<'de> Deserialize<'de>>(&self, what: &'static str, ask: Ask<'_>) -> Result<T, Fault> {
        let host = ask.url.host_str().unwrap_or_default();
        let places = self.places_each.get_with_by_ref(host, || Arc::new(Semaphore::new(AT_ONCE_EACH)));
        let answer = timeout(PATIENCE, async {
            let _place_there = places.acquire().await;
            let _place = self.places.acquire().await;
            self.outbound.ask(ask).await
        });
        let Answer { status, body, .. } =
            answer.await.map_err(|_| Fault::TimedOut(what))?.map_err(|fault| Fault::Web(what, fault))?;
        if status != StatusCode::OK {
            return Err(Fault::Status(what, status));
        }
        serde_json::from_slice(&body).map_err(|_| Fault::Form(what, "the answer has another form"))
    }
}

/// What providers say is taken for true for a while.
fn remembering<T: Clone + Send + Sync + 'static>() -> Cache<String, T> {
    Cache::builder().max_capacity(MOST_REMEMBERED).time_to_live(REMEMBERED).build()
}

fn get(url: &Url, authorization: Option<(HeaderName, HeaderValue)>) -> Ask<'_> {
    let accept = (header::ACCEPT, HeaderValue::from_static("application/json"));
    let headers = authorization.into_iter().chain([accept]).collect();
    Ask { method: Method::GET, url, headers, body: Bytes::new() }
}

fn authorization(text: &str) -> Result<(HeaderName, HeaderValue), Fault> {
    let value = HeaderValue::from_str(text);
    let mut value = value.map_err(|_| Fault::Form("token endpoint", "a token that cannot be sent"))?;
    value.set_sensitive(true);
    Ok((header::AUTHORIZATION, value))
}

/// What the token says, if one of the keys has signed it. The algorithm is the token's word, so only those count that
/// need a public key, and a key counts for its own kind alone.
fn verify(token: &str, keys: &[Jwk]) -> Option<Value> {
    // What has to be understood, and is not, makes it no token.
    let header = decode_header(token).ok().filter(|header| header.crit.is_none())?;
    let family = family(header.alg)?;
    let mut validation = Validation::new(header.alg);
    // Whatever else is said is judged by the domain, against this service's own clock.
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    let is_meant = |key: &&Jwk| {
        let common = &key.common;
        let is_named = header.kid.as_ref().is_none_or(|kid| common.key_id.as_ref() == Some(kid));
        let is_of = common.key_algorithm.is_none_or(|algorithm| algorithm == header.alg.into());
        is_named
            && is_of
            && common.public_key_use.as_ref().is_none_or(|purpose| *purpose == PublicKeyUse::Signature)
    };
    keys.iter().filter(is_meant).find_map(|key| {
        let key = DecodingKey::from_jwk(key).ok().filter(|key| key.family() == family)?;
        Some(decode::<Value>(token, &key, &validation).ok()?.claims)
    })
}

/// The kind of key that an algorithm takes; none for those with a shared secret.
fn family(algorithm: Algorithm) -> Option<AlgorithmFamily> {
    let public = [AlgorithmFamily::Rsa, AlgorithmFamily::Ec, AlgorithmFamily::Ed];
    public.into_iter().find(|family| family.algorithms().contains(&algorithm))
}

#[async_trait]
impl IdentityProviders for SingleSignOn {
    fn refusal(&self, issuer: &Issuer) -> Option<&'static str> {
        let Some(host) = issuer.url().host_str().and_then(host) else { return Some("names no host") };
        if self.outbound.is_refused(&host) {
            return Some(
                "leads into a network that this server sends nothing to. If it should, ask its operator to allow it \
                 (`single_sign_on.destinations`)",
            );
        }
        if !self.is_fit(issuer.url()) {
            return Some(
                "begins with http://, so that anybody on the way could answer: give an https address",
            );
        }
        None
    }

    fn may_return_to(&self, url: &Url) -> bool {
        self.origins.contains(&url.origin().ascii_serialization())
    }

    async fn authorization_endpoint(&self, issuer: &str) -> Result<Url, ProviderFailed> {
        match self.discover(issuer).await {
            Ok(provider) => Ok(provider.authorization_endpoint.clone()),
            Err(fault) => {
                tracing::warn!(issuer, %fault, "an identity provider could not be asked");
                Err(ProviderFailed)
            }
        }
    }

    async fn txt_records(&self, name: &str) -> Result<Vec<String>, LookupFailed> {
        self.dns.txt_records(name).await.map_err(|fault| {
            tracing::warn!(name, %fault, "DNS could not be asked");
            LookupFailed
        })
    }
}
