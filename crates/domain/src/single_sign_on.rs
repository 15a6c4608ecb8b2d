//! Single sign-on: an organization's identity provider says who somebody is (OpenID Connect). Knows what a provider is
//! believed and whom it lets in; refuses to know how it is asked and how signatures are checked.
//!
//! A tenant may name any provider, also one that lies. So a provider is believed only of accounts whose own address is in a
//! domain that is verified for its organization: whoever controls a domain controls its mail, and could take over every
//! account there anyway by having a new password mailed. Nothing is gained by lying.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use url::Url;

use crate::{
    access::policy::words,
    codes,
    organization_members::OrganizationMemberStatus,
    refusal::{FieldFault, Refusal},
    text::{DisplayName, Email},
};

codes! {
    /// Why an identity provider was not configured.
    ConfigureSingleSignOnCode { DestinationRefused, ProviderUnproven, DomainUnverified }
}
codes! {
    /// Why an identity provider was not removed.
    RemoveSingleSignOnCode { NotFound }
}
codes! {
    /// Why a domain was not added.
    AddDomainCode { AlreadyExists, LimitReached }
}
codes! {
    /// Why a domain was not verified.
    VerifyDomainCode { NotFound, RecordMissing, LookupFailed, DomainTaken, RateLimited }
}
codes! {
    /// Why a domain was not removed.
    RemoveDomainCode { NotFound }
}
codes! {
    /// Why no sign-in by an identity provider was begun.
    StartSingleSignOnCode { SingleSignOnUnavailable, ProviderFailed }
}
codes! {
    /// Why nobody was signed in by an identity provider.
    FinishSingleSignOnCode { SignOnInvalid, DomainUnverified, NotInvited, IdentityMismatch, QuotaExceeded, UserDisabled }
}

/// How many domains an organization can have.
pub const MAX_DOMAINS: u64 = 20;
/// How long a sign-in may take at the provider.
pub const ATTEMPT_LASTS: TimeDelta = TimeDelta::minutes(15);
/// How long the code is good that the browser comes back with.
pub const CODE_LASTS: TimeDelta = TimeDelta::minutes(2);
/// How far the provider's clock may be off.
const LEEWAY: TimeDelta = TimeDelta::seconds(60);
/// How old an ID token may be that is fetched at once.
const OLDEST_TOKEN: TimeDelta = TimeDelta::minutes(10);
/// The longest address, in bytes.
const LONGEST_URL: usize = 2000;
/// The longest client id, and the longest secret, in bytes.
const LONGEST_CLIENT: usize = 500;
/// The longest subject that OpenID Connect has, in bytes.
const LONGEST_SUBJECT: usize = 255;

words! {
    /// Whom an identity provider lets in.
    Provisioning {
        /// Members, and whoever has a pending invitation.
        InvitedOnly = "INVITED_ONLY",
        /// Whoever has an address in a verified domain; who is no member yet becomes one.
        Domain = "DOMAIN",
    }
}

/// The address of an identity provider, as its tokens have it: compared to the letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    text: String,
    url: Url,
}

impl Issuer {
    /// Reads an issuer.
    pub fn parse(text: &str) -> Result<Self, FieldFault> {
        let url = web_address(text)?;
        match url.query().is_some() || url.fragment().is_some() {
            true => Err(FieldFault("holds a query or a fragment, which no issuer has".to_owned())),
            false => Ok(Self { text: text.to_owned(), url }),
        }
    }

    /// The issuer as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its address.
    pub fn url(&self) -> &Url {
        &self.url
    }
}

/// Reads where a browser is sent when it comes back. Whose address it may be, the caller asks.
pub fn return_address(text: &str) -> Result<Url, FieldFault> {
    web_address(text)
}

fn web_address(text: &str) -> Result<Url, FieldFault> {
    let fault = |what: &str| Err(FieldFault(what.to_owned()));
    if text.len() > LONGEST_URL {
        return Err(FieldFault(format!("is longer than {LONGEST_URL} bytes")));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return fault("holds a character that no address has: write it as %20 and the like");
    }
    match Url::parse(text) {
        Ok(url) if !matches!(url.scheme(), "https" | "http") || !url.has_host() => {
            fault("is no address on the web: it begins with https://")
        }
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            fault("holds a user name or password")
        }
        Ok(url) => Ok(url),
        Err(_) => fault("is no address on the web, such as https://login.example.org"),
    }
}

/// Reads the id that the provider gave to this server.
pub fn client_id(text: &str) -> Result<String, FieldFault> {
    printable(text)
}

/// Reads the secret that the provider gave to this server.
pub fn client_secret(text: &str) -> Result<String, FieldFault> {
    printable(text)
}

/// RFC 6749, appendix A: printable ASCII.
fn printable(text: &str) -> Result<String, FieldFault> {
    let fault = |what: String| Err(FieldFault(what));
    match text {
        "" => fault("is empty".to_owned()),
        _ if text.len() > LONGEST_CLIENT => fault(format!("is longer than {LONGEST_CLIENT} bytes")),
        _ if !text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) => {
            fault("holds a character that no provider uses: copy it anew".to_owned())
        }
        _ if text.trim() != text => fault("begins or ends with a space: copy it anew".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

/// Reads a domain, as addresses have it after the @.
pub fn domain(text: &str) -> Result<String, FieldFault> {
    if text.contains('@') {
        return Err(FieldFault("is an address: give what stands after its @".to_owned()));
    }
    match Email::parse(&format!("x@{}", text.trim())) {
        Ok(email) => Ok(email.domain().to_owned()),
        Err(_) => Err(FieldFault("is no domain of mail addresses, such as example.org".to_owned())),
    }
}

/// Where the proof stands that a domain is somebody's, in DNS.
pub fn record_name(domain: &str) -> String {
    format!("_guildhall.{domain}")
}

/// What stands there.
pub fn record_value(token: &str) -> String {
    format!("guildhall-verification={token}")
}

/// Who should have made an ID token, and for what.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The provider.
    pub issuer: &'a str,
    /// What this server is called there.
    pub client_id: &'a str,
    /// What the sign-in was begun with.
    pub nonce: &'a str,
}

/// Why an ID token is not believed, for the log: what is said there is the provider's fault, or an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// Another provider made it.
    #[error("the ID token is of another issuer")]
    Issuer,
    /// It is for another service.
    #[error("the ID token is for another client")]
    Audience,
    /// Its time is over, or has not come.
    #[error("the ID token has expired, or the clocks differ by more than a minute")]
    Time,
    /// It is of another sign-in.
    #[error("the ID token is of another sign-in: its nonce differs")]
    Nonce,
    /// It names nobody.
    #[error("the ID token names no subject, or an endless one")]
    Subject,
}

/// Judges the claims of an ID token whose signature is good, and gives whom it names.
pub fn judge_token(
    claims: &Value,
    expected: &Expected<'_>,
    now: DateTime<Utc>,
) -> Result<String, TokenFault> {
    let text = |claim: &str| claims.get(claim).and_then(Value::as_str);
    if text("iss") != Some(expected.issuer) {
        return Err(TokenFault::Issuer);
    }
    let (is_ours, alone) = match claims.get("aud") {
        Some(Value::String(audience)) => (audience == expected.client_id, true),
        Some(Value::Array(all)) => {
            (all.iter().any(|audience| audience == expected.client_id), all.len() == 1)
        }
        _ => (false, true),
    };
    let party = claims.get("azp");
    // One for several services says which of them asked for it.
    if !is_ours || party.is_some_and(|party| party != expected.client_id) || !alone && party.is_none() {
        return Err(TokenFault::Audience);
    }
    let moment = |claim: &str| {
        let seconds = claims.get(claim)?.as_f64()?;
        // Whole seconds; a fraction is nobody's business here.
        #[expect(clippy::cast_possible_truncation, reason = "beyond 64 bits it is no moment anyway")]
        DateTime::from_timestamp(seconds as i64, 0)
    };
    let (Some(ends), Some(made)) = (moment("exp"), moment("iat")) else { return Err(TokenFault::Time) };
    let begins = claims.get("nbf").map(|_| moment("nbf"));
    let is_timely = now < ends + LEEWAY
        && made <= now + LEEWAY
        && now <= made + OLDEST_TOKEN
        && begins.is_none_or(|begins| begins.is_some_and(|begins| begins <= now + LEEWAY));
    if !is_timely {
        return Err(TokenFault::Time);
    }
    if text("nonce") != Some(expected.nonce) {
        return Err(TokenFault::Nonce);
    }
    match text("sub") {
        Some(subject)
            if (1..=LONGEST_SUBJECT).contains(&subject.len()) && !subject.chars().any(char::is_control) =>
        {
            Ok(subject.to_owned())
        }
        _ => Err(TokenFault::Subject),
    }
}

/// Whom a provider says somebody is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assertion {
    /// Who, in the provider's own terms: never given to anybody else.
    pub subject: String,
    /// The address that the provider has verified.
    pub email: Email,
    /// The name, where the provider tells one that can be shown.
    pub name: Option<String>,
}

/// Reads who somebody is: `None` where the provider has not verified an address.
pub fn person(subject: &str, claims: &Value) -> Option<Assertion> {
    // Some providers say it as a text.
    let is_verified = match claims.get("email_verified")? {
        Value::Bool(verified) => *verified,
        Value::String(verified) => verified == "true",
        _ => false,
    };
    let email = Email::parse(claims.get("email")?.as_str()?).ok().filter(|_| is_verified)?;
    let name = claims.get("name").and_then(Value::as_str).and_then(|name| DisplayName::parse(name).ok());
    let name = name.map(|name| name.as_str().to_owned());
    Some(Assertion { subject: subject.to_owned(), email, name })
}

/// What is known of somebody whom a provider vouches for.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Whom the provider lets in.
    pub provisioning: Provisioning,
    /// Whether the domain of the address that it names is verified for the organization.
    pub is_domain_verified: bool,
    /// Whose account it is: the one that the subject has, else the one that has the address.
    pub account: Option<AccountFacts>,
    /// Whether a pending invitation of the organization waits for the address, and then whether to the organization itself.
    pub invitation: Option<bool>,
}

/// The account of somebody whom a provider vouches for.
#[derive(Clone, Copy, Debug)]
pub struct AccountFacts {
    /// Whether it is closed.
    pub is_disabled: bool,
    /// Whether the domain of its own address is verified for the organization.
    pub is_domain_verified: bool,
    /// The place in the organization.
    pub place: Option<OrganizationMemberStatus>,
    /// Whether it is known as another subject of the same provider.
    pub is_somebody_else: bool,
}

/// How somebody is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// They become a member of the organization.
    pub joins: bool,
    /// They are known by their subject from now on. Who is only invited is not yet.
    pub is_tied: bool,
}

/// Judges whether somebody is let in whom a provider vouches for.
pub fn judge_admission(facts: &Facts) -> Result<Admission, Refusal<FinishSingleSignOnCode>> {
    use FinishSingleSignOnCode as Code;
    let refuse = |code, message: &str| Err(Refusal::new(code, message));
    if !facts.is_domain_verified || facts.account.is_some_and(|account| !account.is_domain_verified) {
        return refuse(
            Code::DomainUnverified,
            "The provider is believed only of addresses in domains that the organization has verified, and yours is in \
             none of them. Ask an admin of the organization.",
        );
    }
    let account = facts.account;
    if account.is_some_and(|account| account.is_somebody_else) {
        return refuse(
            Code::IdentityMismatch,
            "The account of this address belongs to somebody else at the provider. Where that is you, an admin \
             of the organization removes the account from it and lets you in again.",
        );
    }
    let place = account.and_then(|account| account.place);
    if account.is_some_and(|account| account.is_disabled) || place == Some(OrganizationMemberStatus::Disabled)
    {
        return refuse(
            Code::UserDisabled,
            "This account is disabled. An admin of your organization can enable it.",
        );
    }
    match (place, facts.invitation, facts.provisioning) {
        (Some(_), ..) => Ok(Admission { joins: false, is_tied: true }),
        // The invitation says as what: it is answered as any other.
        (None, Some(true), _) | (None, Some(false), Provisioning::InvitedOnly) => {
            Ok(Admission { joins: false, is_tied: false })
        }
        (None, _, Provisioning::Domain) => Ok(Admission { joins: true, is_tied: true }),
        (None, None, Provisioning::InvitedOnly) => refuse(
            Code::NotInvited,
            "You are no member of this organization, and no invitation waits for you. Ask an admin of it for one.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const EXPECTED: Expected<'_> =
        Expected { issuer: "https://login.example.org", client_id: "guildhall", nonce: "n-1" };

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn token(change: impl FnOnce(&mut Value)) -> Result<String, TokenFault> {
        let mut claims = json!({
            "iss": EXPECTED.issuer, "aud": "guildhall", "sub": "s-1", "nonce": "n-1",
            "iat": now().timestamp(), "exp": now().timestamp() + 300,
        });
        change(&mut claims);
        judge_token(&claims, &EXPECTED, now())
    }

    #[test]
    fn a_token_of_this_sign_in_names_its_subject() {
        assert_eq!(token(|_| {}), Ok("s-1".to_owned()));
        assert_eq!(token(|claims| claims["aud"] = json!(["guildhall"])), Ok("s-1".to_owned()));
        let several = |claims: &mut Value| {
            claims["aud"] = json!(["other", "guildhall"]);
            claims["azp"] = json!("guildhall");
        };
        assert_eq!(token(several), Ok("s-1".to_owned()));
        assert_eq!(token(|claims| claims["exp"] = json!(now().timestamp() - 59)), Ok("s-1".to_owned()));
        assert_eq!(
            token(|claims| claims["iat"] = json!(now().timestamp() as f64 + 0.5)),
            Ok("s-1".to_owned())
        );
    }

    #[test]
    fn any_other_token_is_not_believed() {
        let at = now().timestamp();
        for (claim, value, fault) in [
            ("iss", json!("https://login.example.org/"), TokenFault::Issuer),
            ("iss", json!(["https://login.example.org"]), TokenFault::Issuer),
            ("iss", Value::Null, TokenFault::Issuer),
            ("aud", json!("other"), TokenFault::Audience),
            ("aud", json!([]), TokenFault::Audience),
            ("aud", json!(["other", "guildhall"]), TokenFault::Audience),
            ("aud", Value::Null, TokenFault::Audience),
            ("azp", json!("other"), TokenFault::Audience),
            ("azp", Value::Null, TokenFault::Audience),
            ("exp", json!(at - 60), TokenFault::Time),
            ("exp", json!("soon"), TokenFault::Time),
            ("exp", Value::Null, TokenFault::Time),
            ("exp", json!(f64::MAX), TokenFault::Time),
            ("iat", json!(at + 61), TokenFault::Time),
            ("iat", json!(at - 601), TokenFault::Time),
            ("iat", Value::Null, TokenFault::Time),
            ("nbf", json!(at + 61), TokenFault::Time),
            ("nbf", json!("now"), TokenFault::Time),
            ("nonce", json!("n-2"), TokenFault::Nonce),
            ("nonce", Value::Null, TokenFault::Nonce),
            ("sub", json!(""), TokenFault::Subject),
            ("sub", json!(7), TokenFault::Subject),
            ("sub", json!("x".repeat(256)), TokenFault::Subject),
        ] {
            assert_eq!(token(|claims| claims[claim] = value.clone()), Err(fault), "{claim} {value}");
        }
        for claim in ["iss", "aud", "exp", "iat", "nonce", "sub"] {
            let without = |claims: &mut Value| drop(claims.as_object_mut().unwrap().remove(claim));
            assert!(token(without).is_err(), "{claim}");
        }
        assert_eq!(judge_token(&json!([]), &EXPECTED, now()), Err(TokenFault::Issuer));
    }

    #[test]
    fn only_an_address_that_the_provider_has_verified_is_taken() {
        let said = |claims: Value| person("s-1", &claims);
        let eve =
            said(json!({ "email": "Eve@Corp.example", "email_verified": true, "name": "Eve" })).unwrap();
        assert_eq!((eve.email.as_str(), eve.name.as_deref()), ("eve@corp.example", Some("Eve")));
        assert!(said(json!({ "email": "eve@corp.example", "email_verified": "true" })).is_some());
        let odd = said(json!({ "email": "eve@corp.example", "email_verified": true, "name": "\u{202e}x" }));
        assert_eq!(odd.unwrap().name, None);
        for claims in [
            json!({ "email": "eve@corp.example", "email_verified": false }),
            json!({ "email": "eve@corp.example", "email_verified": "false" }),
            json!({ "email": "eve@corp.example", "email_verified": 1 }),
            json!({ "email": "eve@corp.example", "email_verified": null }),
            json!({ "email": "eve@corp.example" }),
            json!({ "email": "eve", "email_verified": true }),
            json!({ "email": ["eve@corp.example"], "email_verified": true }),
            json!({ "email_verified": true }),
        ] {
            assert_eq!(said(claims.clone()), None, "{claims}");
        }
    }

    #[test]
    fn who_is_let_in_and_as_what() {
        use FinishSingleSignOnCode as Code;
        let member = AccountFacts {
            is_disabled: false,
            is_domain_verified: true,
            place: Some(OrganizationMemberStatus::Active),
            is_somebody_else: false,
        };
        let elsewhere = AccountFacts { place: None, ..member };
        let judge = |provisioning, account, invitation| {
            judge_admission(&Facts { provisioning, is_domain_verified: true, account, invitation })
                .map_err(|refusal| refusal.code)
        };
        let (stays, invited, joins) = (
            Ok(Admission { joins: false, is_tied: true }),
            Ok(Admission { joins: false, is_tied: false }),
            Ok(Admission { joins: true, is_tied: true }),
        );
        for provisioning in [Provisioning::InvitedOnly, Provisioning::Domain] {
            assert_eq!(judge(provisioning, Some(member), None), stays);
            assert_eq!(judge(provisioning, None, Some(true)), invited);
            assert_eq!(judge(provisioning, Some(elsewhere), Some(true)), invited);
            for (account, code) in [
                (AccountFacts { is_disabled: true, ..member }, Code::UserDisabled),
                (AccountFacts { is_disabled: true, ..elsewhere }, Code::UserDisabled),
                (
                    AccountFacts { place: Some(OrganizationMemberStatus::Disabled), ..member },
                    Code::UserDisabled,
                ),
                (AccountFacts { is_domain_verified: false, ..member }, Code::DomainUnverified),
                (AccountFacts { is_somebody_else: true, ..member }, Code::IdentityMismatch),
                (AccountFacts { is_somebody_else: true, ..elsewhere }, Code::IdentityMismatch),
            ] {
                for invitation in [None, Some(true), Some(false)] {
                    assert_eq!(judge(provisioning, Some(account), invitation), Err(code));
                }
            }
        }
        for account in [None, Some(elsewhere)] {
            assert_eq!(judge(Provisioning::InvitedOnly, account, None), Err(Code::NotInvited));
            assert_eq!(judge(Provisioning::InvitedOnly, account, Some(false)), invited);
            assert_eq!(judge(Provisioning::Domain, account, None), joins);
            assert_eq!(judge(Provisioning::Domain, account, Some(false)), joins);
        }
        let foreign = Facts {
            provisioning: Provisioning::Domain,
            is_domain_verified: false,
            account: Some(member),
            invitation: Some(true),
        };
        assert_eq!(judge_admission(&foreign).unwrap_err().code, Code::DomainUnverified);
    }

    #[test]
    fn issuers_domains_and_secrets_are_read() {
        assert_eq!(
            Issuer::parse("https://login.example.org/a/").unwrap().as_str(),
            "https://login.example.org/a/"
        );
        for bad in [
            "",
            "login.example.org",
            "ftp://login.example.org",
            "javascript:alert(1)",
            "https://ann:pw@login.example.org",
            "https://login.example.org?x=1",
            "https://login.example.org#x",
            "https://login.example.org/a b",
            "https://login.example.org/\u{202e}",
        ] {
            assert!(Issuer::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(domain(" Bücher.Example ").unwrap(), "xn--bcher-kva.example");
        for bad in ["", "example", "ann@example.org", "x@y.org", "10.0.0.1", "exam ple.org", ".org"] {
            assert!(domain(bad).is_err(), "{bad}");
        }
        for bad in ["", " x", "x\n", "ü", &"x".repeat(501)] {
            assert!(client_secret(bad).is_err() && client_id(bad).is_err(), "{bad}");
        }
        assert_eq!(client_secret("s3 cret~").unwrap(), "s3 cret~");
    }
}
