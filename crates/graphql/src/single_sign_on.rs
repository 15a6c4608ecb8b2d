//! Single sign-on in the schema: an organization's identity provider and its domains, and signing in by it. What is asked
//! of providers and of DNS goes through [`IdentityProviders`], outside of any transaction.

use std::{
    collections::HashMap,
    hash::{Hash, Hasher},
    sync::Arc,
};

use async_graphql::{
    Context, Description, ID, InputObject, Object, Result, SimpleObject, dataloader::Loader,
};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{Actor, Granted, perm},
    ids::OrganizationId,
    refusal::{FieldFault, InputReader, Refusal},
    single_sign_on::{
        self as domain, AddDomainCode, ConfigureSingleSignOnCode, FinishSingleSignOnCode, Issuer,
        Provisioning, RemoveDomainCode, RemoveSingleSignOnCode, StartSingleSignOnCode, VerifyDomainCode,
    },
    text::{Email, Slug, TextFault},
};
use guildhall_persistence::{
    ReadError,
    single_sign_on::{self, Begun, Configuration, Door, Whose},
};
use url::Url;

use crate::{
    accounts::{User, guard_token, throttle},
    authz::{anonymous, authorize, authorize_in_organization, caller, db, open},
    loaders::Batches,
    payload::{answer, payload},
    rehearsal::{only_now, unless_rehearsing},
    schema::mirror,
    sessions::SessionTokens,
};

/// Where a provider sends browsers back to.
pub const CALLBACK_PATH: &str = "/sso/callback";

/// What is asked for: who somebody is, their address and their name.
const SCOPE: &str = "openid email profile";

/// That a provider cannot be asked, or answers nonsense: the log says what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProviderFailed;

/// That DNS does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookupFailed;

/// Asks identity providers and DNS. Part of the schema's data, as `Arc<dyn IdentityProviders>`.
#[async_trait]
pub trait IdentityProviders: Send + Sync {
    /// Says why nobody is sent there, phrased to follow the field's name, as far as the address itself tells.
    fn refusal(&self, issuer: &Issuer) -> Option<&'static str>;

    /// Whether a browser may be sent back there: to this instance, or to a page that may call it.
    fn may_return_to(&self, url: &Url) -> bool;

    /// Where a provider has people sign in.
    async fn authorization_endpoint(&self, issuer: &str) -> Result<Url, ProviderFailed>;

    /// The TXT records of a name; none where the name is unknown.
    async fn txt_records(&self, name: &str) -> Result<Vec<String>, LookupFailed>;
}

fn outside<'a>(ctx: &Context<'a>) -> &'a dyn IdentityProviders {
    &**ctx.data_unchecked::<Arc<dyn IdentityProviders>>()
}

mirror! {
    /// Whom an organization's identity provider lets in.
    enum SsoProvisioning = Provisioning {
        /// Members of the organization, and whoever has a pending invitation of it. An invitation is answered as any other.
        InvitedOnly,
        /// Whoever has an address in a verified domain of the organization: who is no member yet becomes one, as `MEMBER`.
        Domain,
    }
}

/// The secret that this server shows an identity provider. It can be set and replaced, never read.
#[derive(SimpleObject)]
pub struct ClientSecret {
    /// Whether there is one.
    is_set: bool,
    /// Tells two secrets of this organization apart, and nothing else of them: 8 hexadecimal digits.
    fingerprint: String,
    /// When it was given.
    updated_at: DateTime<Utc>,
}

/// The identity provider by which people sign in to an organization: OpenID Connect.
#[derive(Description)]
pub struct SingleSignOn(single_sign_on::Provider);

#[Object(use_type_description)]
impl SingleSignOn {
    /// The address of the provider, as its discovery document and its tokens have it.
    async fn issuer(&self) -> &str {
        &self.0.issuer
    }
    /// What this server is called at the provider.
    async fn client_id(&self) -> &str {
        &self.0.client_id
    }
    /// The secret that this server shows there.
    async fn client_secret(&self) -> ClientSecret {
        ClientSecret {
            is_set: true,
            fingerprint: self.0.secret_fingerprint.clone(),
            updated_at: self.0.secret_set_at,
        }
    }
    /// Whom it lets in.
    async fn provisioning(&self) -> SsoProvisioning {
        self.0.provisioning.into()
    }
    /// Whether the organization lets in who signed in otherwise. Its owners are let in either way.
    async fn password_sign_in(&self) -> bool {
        self.0.password_sign_in
    }
    /// The redirect URI to register at the provider.
    async fn callback_url(&self, ctx: &Context<'_>) -> String {
        callback_url(ctx, &self.0.slug)
    }
    /// When somebody signed in by it first, since issuer or client changed; null: nobody has yet.
    async fn worked_at(&self) -> Option<DateTime<Utc>> {
        self.0.worked_at
    }
    /// When it was configured last.
    async fn updated_at(&self) -> DateTime<Utc> {
        self.0.updated_at
    }
}

/// Each organization has one of its own: a provider's answer that comes to another one's is not looked at.
fn callback_url(ctx: &Context<'_>, slug: &str) -> String {
    format!("{}{CALLBACK_PATH}/{slug}", db(ctx).settings().app_url)
}

/// A domain of mail addresses that an organization says is its own. Its identity provider is believed of addresses in
/// verified domains alone.
#[derive(Description)]
pub struct OrganizationDomain(single_sign_on::Domain);

#[Object(use_type_description)]
impl OrganizationDomain {
    /// The domain, in its ASCII form.
    async fn domain(&self) -> &str {
        &self.0.domain
    }
    /// Whether it is verified: of the organizations of an instance that is one at most.
    async fn is_verified(&self) -> bool {
        self.0.verified_at.is_some()
    }
    /// Since when it is; null while it is not.
    async fn verified_at(&self) -> Option<DateTime<Utc>> {
        self.0.verified_at
    }
    /// The name of the TXT record to publish, before `verifyDomain` is asked.
    async fn record_name(&self) -> &str {
        &self.0.record_name
    }
    /// What to publish there. It stays the same, and the record may go again when the domain is verified.
    async fn record_value(&self) -> &str {
        &self.0.record_value
    }
    /// When it was added.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }
}

type Manage = Granted<perm::OrganizationManage>;

/// What of an organization is wanted, for whom.
macro_rules! key {
    ($name:ident: $value:ty = $load:path) => {
        #[derive(Clone)]
        pub(crate) struct $name(pub(crate) Manage);

        impl $name {
            fn parts(&self) -> (Actor, OrganizationId) {
                (self.0.access().actor(), self.0.access().organization())
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.parts() == other.parts()
            }
        }

        impl Eq for $name {}

        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.parts().hash(state);
            }
        }

        impl Loader<$name> for Batches {
            type Value = $value;
            type Error = Arc<ReadError>;

            async fn load(&self, keys: &[$name]) -> Result<HashMap<$name, $value>, Self::Error> {
                let proofs: Vec<_> = keys.iter().map(|key| key.0.clone()).collect();
                let found = $load(&self.0, &proofs).await?;
                let found = keys.iter().cloned().zip(found);
                Ok(found.filter_map(|(key, found)| Some((key, Option::<$value>::from(found)?))).collect())
            }
        }
    };
}

key!(ProviderKey: single_sign_on::Provider = single_sign_on::of_each);
key!(DomainsKey: Vec<single_sign_on::Domain> = single_sign_on::domains_of_each);

/// The provider of an organization.
pub(crate) async fn of(ctx: &Context<'_>, proof: Manage) -> Result<Option<SingleSignOn>> {
    Ok(crate::loaders::load(ctx, ProviderKey(proof)).await?.map(SingleSignOn))
}

/// The domains of an organization.
pub(crate) async fn domains(ctx: &Context<'_>, proof: Manage) -> Result<Vec<OrganizationDomain>> {
    let found = crate::loaders::load(ctx, DomainsKey(proof)).await?.unwrap_or_default();
    Ok(found.into_iter().map(OrganizationDomain).collect())
}

/// An organization's identity provider.
#[derive(InputObject)]
pub struct ConfigureSingleSignOnInput {
    /// The organization.
    organization_id: ID,
    /// The address of the provider, exactly as its discovery document says at `issuer`; `https`. The document is looked for
    /// below it, at `/.well-known/openid-configuration`.
    issuer: String,
    /// What this server is called at the provider; at most 500 characters.
    client_id: String,
    /// The secret that the provider gave for it; at most 500 characters. When absent or null the one before stays, as long as
    /// issuer and client do.
    client_secret: Option<String>,
    /// Whom it lets in.
    #[graphql(default_with = "SsoProvisioning::InvitedOnly")]
    provisioning: SsoProvisioning,
    /// Whether the organization lets in who signed in otherwise; when absent or null it stays as it is, at first true. With
    /// false, a session that the provider did not open has no access to the organization from the next request on, but for
    /// its owners; only possible when somebody has signed in by the provider, and while a domain is verified.
    password_sign_in: Option<bool>,
}

payload! {
    /// The identity provider.
    ConfigureSingleSignOnPayload, ConfigureSingleSignOnError = ConfigureSingleSignOnCode {
        /// As it is from now on.
        single_sign_on: SingleSignOn,
    }
}

/// Whose identity provider to remove.
#[derive(InputObject)]
pub struct RemoveSingleSignOnInput {
    /// The organization.
    organization_id: ID,
}

payload! {
    /// Whose identity provider was removed.
    RemoveSingleSignOnPayload, RemoveSingleSignOnError = RemoveSingleSignOnCode {
        /// The organization: everybody has access to it again who signs in with a password. The sessions that the provider
        /// opened have ended.
        organization_id: ID,
    }
}

/// A domain to add.
#[derive(InputObject)]
pub struct AddDomainInput {
    /// The organization.
    organization_id: ID,
    /// What stands after the @ of its addresses, such as `example.org`. Subdomains are domains of their own.
    domain: String,
}

payload! {
    /// The domain that was added.
    AddDomainPayload, AddDomainError = AddDomainCode {
        /// The domain, with the record to publish.
        domain: OrganizationDomain,
    }
}

/// A domain to verify.
#[derive(InputObject)]
pub struct VerifyDomainInput {
    /// The organization.
    organization_id: ID,
    /// The domain, as it was added.
    domain: String,
}

payload! {
    /// The domain that was verified.
    VerifyDomainPayload, VerifyDomainError = VerifyDomainCode {
        /// The domain.
        domain: OrganizationDomain,
    }
}

/// A domain to remove.
#[derive(InputObject)]
pub struct RemoveDomainInput {
    /// The organization.
    organization_id: ID,
    /// The domain, as it was added.
    domain: String,
}

payload! {
    /// The domain that was removed.
    RemoveDomainPayload, RemoveDomainError = RemoveDomainCode {
        /// The domain. The identity provider is not believed of its addresses any more.
        removed_domain: String,
    }
}

/// How somebody wants to sign in: give `email` or `organization`.
#[derive(InputObject)]
pub struct StartSingleSignOnInput {
    /// The person's e-mail address: the provider is that of the organization which has verified its domain.
    email: Option<String>,
    /// The slug of the organization.
    organization: Option<String>,
    /// Where the browser goes on when the provider has sent it back: an address of this instance, or of an origin that its
    /// `cors_origins` name, with `code` added to its query, or `error`: `PROVIDER_REFUSED`, `PROVIDER_FAILED` or
    /// `EMAIL_UNVERIFIED`. When absent, a page shows the code.
    redirect_to: Option<String>,
}

payload! {
    /// Where to sign in.
    StartSingleSignOnPayload, StartSingleSignOnError = StartSingleSignOnCode {
        /// Where to send the browser.
        authorization_url: String,
        /// Stays in the browser that began, for `finishSingleSignOn`: without it nobody finishes this sign-in, and with it
        /// nobody else's.
        secret: String,
        /// Until when the provider has to send the browser back.
        expires_at: DateTime<Utc>,
    }
}

/// What finishing a sign-in takes.
#[derive(InputObject)]
pub struct FinishSingleSignOnInput {
    /// The code that the browser came back with: good once, for two minutes.
    code: String,
    /// What `startSingleSignOn` gave to this browser.
    secret: String,
}

payload! {
    /// Who was signed in.
    FinishSingleSignOnPayload, FinishSingleSignOnError = FinishSingleSignOnCode {
        /// The person.
        user: User,
        /// The person is signed in with these.
        session: SessionTokens,
    }
}

/// The single sign-on part of the mutation root.
#[derive(Default)]
pub struct SingleSignOnMutation;

#[Object]
impl SingleSignOnMutation {
    /// Names the identity provider by which people sign in to an organization, or changes what was said of it. It is believed
    /// only of addresses in domains that the organization has verified: see `addDomain`.
    #[graphql(directive = authorize::apply("ORGANIZATION_MANAGE".to_owned()))]
    async fn configure_single_sign_on(
        &self,
        ctx: &Context<'_>,
        input: ConfigureSingleSignOnInput,
    ) -> Result<ConfigureSingleSignOnPayload> {
        use ConfigureSingleSignOnCode as Code;
        let proof = authorize_in_organization(ctx, Some(&input.organization_id)).await?;
        let outcome = async {
            let mut reader = InputReader::<Code>::default();
            let issuer = reader.field("issuer", Issuer::parse(&input.issuer));
            let client_id = reader.field("clientId", domain::client_id(&input.client_id));
            let secret = input.client_secret.as_deref().map(domain::client_secret);
            let secret = reader.optional("clientSecret", secret);
            let wanted = (|| {
                Some(Configuration {
                    issuer: issuer?,
                    client_id: client_id?,
                    client_secret: secret?.map(Into::into),
                    provisioning: input.provisioning.into(),
                    password_sign_in: input.password_sign_in,
                })
            })();
            let wanted = reader.all(wanted)?;
            if let Some(why) = outside(ctx).refusal(&wanted.issuer) {
                return Err(Refusal::new(Code::DestinationRefused, format!("`issuer` {why}"))
                    .at("issuer")
                    .into());
            }
            single_sign_on::configure(db(ctx), &proof, wanted).await
        }
        .await;
        answer(ctx, outcome, |provider| ConfigureSingleSignOnPayload {
            single_sign_on: Some(SingleSignOn(provider)),
            user_errors: Vec::new(),
        })
    }

    /// Removes an organization's identity provider.
    #[graphql(directive = authorize::apply("ORGANIZATION_MANAGE".to_owned()))]
    async fn remove_single_sign_on(
        &self,
        ctx: &Context<'_>,
        input: RemoveSingleSignOnInput,
    ) -> Result<RemoveSingleSignOnPayload> {
        let proof: Manage = authorize_in_organization(ctx, Some(&input.organization_id)).await?;
        let outcome = single_sign_on::remove(db(ctx), &proof).await;
        answer(ctx, outcome, |()| RemoveSingleSignOnPayload {
            organization_id: Some(proof.access().organization().into()),
            user_errors: Vec::new(),
        })
    }

    /// Adds a domain to an organization. It counts when it is verified: publish the record that the answer names, then ask
    /// `verifyDomain`.
    #[graphql(directive = authorize::apply("ORGANIZATION_MANAGE".to_owned()))]
    async fn add_domain(&self, ctx: &Context<'_>, input: AddDomainInput) -> Result<AddDomainPayload> {
        let proof = authorize_in_organization(ctx, Some(&input.organization_id)).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let name = reader.field("domain", domain::domain(&input.domain));
            single_sign_on::add_domain(db(ctx), &proof, &reader.all(name)?).await
        }
        .await;
        answer(ctx, outcome, |domain| AddDomainPayload {
            domain: Some(OrganizationDomain(domain)),
            user_errors: Vec::new(),
        })
    }

    /// Verifies a domain: looks in DNS for the record that `addDomain` named. A domain belongs to one organization of an
    /// instance at most.
    #[graphql(directive = authorize::apply("ORGANIZATION_MANAGE".to_owned()))]
    async fn verify_domain(
        &self,
        ctx: &Context<'_>,
        input: VerifyDomainInput,
    ) -> Result<VerifyDomainPayload> {
        use VerifyDomainCode as Code;
        let proof: Manage = authorize_in_organization(ctx, Some(&input.organization_id)).await?;
        let outcome = async {
            let mut reader = InputReader::<Code>::default();
            let name = reader.field("domain", domain::domain(&input.domain));
            let wanted = single_sign_on::wanted_domain(db(ctx), &proof, &reader.all(name)?).await?;
            throttle(ctx)
                .domain(&proof.access().organization().to_string())
                .map_err(|wait| Refusal::new(Code::RateLimited, wait))?;
            let records = outside(ctx).txt_records(&wanted.0.record_name).await;
            let records = records.map_err(|LookupFailed| {
                Refusal::new(Code::LookupFailed, "DNS did not answer. Try again in a while.").at("domain")
            })?;
            if records.iter().all(|record| record.trim() != wanted.0.record_value) {
                let message = format!(
                    "There is no TXT record {} with the text {}, or not yet: it may take a while to be seen.",
                    wanted.0.record_name, wanted.0.record_value
                );
                return Err(Refusal::new(Code::RecordMissing, message).at("domain").into());
            }
            single_sign_on::verify_domain(db(ctx), &proof, &wanted).await
        }
        .await;
        answer(ctx, outcome, |domain| VerifyDomainPayload {
            domain: Some(OrganizationDomain(domain)),
            user_errors: Vec::new(),
        })
    }

    /// Removes a domain from an organization.
    #[graphql(directive = authorize::apply("ORGANIZATION_MANAGE".to_owned()))]
    async fn remove_domain(
        &self,
        ctx: &Context<'_>,
        input: RemoveDomainInput,
    ) -> Result<RemoveDomainPayload> {
        let proof = authorize_in_organization(ctx, Some(&input.organization_id)).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let name = reader.field("domain", domain::domain(&input.domain));
            let name = reader.all(name)?;
            single_sign_on::remove_domain(db(ctx), &proof, &name).await?;
            Ok(name)
        }
        .await;
        answer(ctx, outcome, |name| RemoveDomainPayload {
            removed_domain: Some(name),
            user_errors: Vec::new(),
        })
    }

    /// Begins to sign somebody in by the identity provider of an organization: send the browser to `authorizationUrl` and
    /// keep `secret` in it. The provider sends it back to this server, which sends it on to `redirectTo` with a `code`;
    /// `finishSingleSignOn` takes both.
    #[graphql(directive = anonymous::apply("this is how a caller stops being anonymous".to_owned()))]
    async fn start_single_sign_on(
        &self,
        ctx: &Context<'_>,
        input: StartSingleSignOnInput,
    ) -> Result<StartSingleSignOnPayload> {
        use StartSingleSignOnCode as Code;
        guard_token(ctx)?;
        let proof = open("whom the provider vouches for is asked when it is finished");
        let outcome = async {
            let mut reader = InputReader::<Code>::default();
            let email = reader.optional("email", input.email.as_deref().map(Email::parse)).flatten();
            let target = input.redirect_to.as_deref().map(|text| {
                domain::return_address(text).and_then(|url| match outside(ctx).may_return_to(&url) {
                    true => Ok(url),
                    false => Err(FieldFault(
                        "is neither an address of this instance nor of an origin that may call it".to_owned(),
                    )),
                })
            });
            let target = reader.optional("redirectTo", target).flatten();
            if input.email.is_some() == input.organization.is_some() {
                let message = "`organization` or `email` is needed, and not both";
                reader.refuse(Refusal::new(Code::InvalidInput, message).at("organization"));
            }
            reader.finish()?;
            let whose = match (&email, input.organization.as_deref()) {
                (Some(email), _) => Some(Whose::Domain(email.domain())),
                (None, slug) => slug.filter(|slug| is_slug(slug)).map(Whose::Organization),
            };
            let door = match whose {
                Some(whose) => single_sign_on::door(db(ctx), &proof, whose).await?,
                None => None,
            };
            let door = door.ok_or_else(|| {
                Refusal::new(
                    Code::SingleSignOnUnavailable,
                    "There is no single sign-on here. Sign in with a password.",
                )
            })?;
            // Nothing is asked of anybody else for a trial.
            let endpoint = match db(ctx).is_rehearsing() {
                true => None,
                false => Some(outside(ctx).authorization_endpoint(&door.issuer).await.map_err(
                    |ProviderFailed| {
                        Refusal::new(
                            Code::ProviderFailed,
                            "The identity provider does not answer as it should. Try again, or tell an admin of your \
                             organization.",
                        )
                    },
                )?),
            };
            let begun =
                single_sign_on::begin(db(ctx), &proof, &door, target.as_ref().map(Url::as_str)).await?;
            let url = endpoint
                .map(|endpoint| authorization_url(endpoint, &door, &begun, &callback_url(ctx, &door.slug), email.as_ref()));
            Ok((url, begun))
        }
        .await;
        answer(ctx, outcome, |(url, begun)| StartSingleSignOnPayload {
            authorization_url: url.and_then(|url| unless_rehearsing(ctx, url.into())),
            secret: only_now(ctx, begun.secret),
            expires_at: Some(begun.expires_at),
            user_errors: Vec::new(),
        })
    }

    /// Signs somebody in whom an identity provider has vouched for. Who has no account gets one, without a password; one can
    /// be set by mail. What the provider may say about whom is in `ConfigureSingleSignOnInput`.
    #[graphql(directive = anonymous::apply("this is how a caller stops being anonymous".to_owned()))]
    async fn finish_single_sign_on(
        &self,
        ctx: &Context<'_>,
        input: FinishSingleSignOnInput,
    ) -> Result<FinishSingleSignOnPayload> {
        guard_token(ctx)?;
        let proof = open("the code and the browser's secret are required");
        let device = &caller(ctx).device;
        let outcome = single_sign_on::finish(db(ctx), &proof, &input.code, &input.secret, device).await;
        answer(ctx, outcome, |(user, session)| FinishSingleSignOnPayload {
            user: Some(User(user)),
            session: only_now(ctx, SessionTokens(session)),
            user_errors: Vec::new(),
        })
    }
}

fn is_slug(text: &str) -> bool {
    matches!(Slug::parse(text), Ok(_) | Err(TextFault::Reserved(_)))
}

fn authorization_url(
    mut endpoint: Url,
    door: &Door,
    begun: &Begun,
    callback: &str,
    email: Option<&Email>,
) -> Url {
    {
        let mut query = endpoint.query_pairs_mut();
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", &door.client_id)
            .append_pair("redirect_uri", callback)
            .append_pair("scope", SCOPE)
            .append_pair("state", &begun.state)
            .append_pair("nonce", &begun.nonce)
            .append_pair("code_challenge", &begun.challenge)
            .append_pair("code_challenge_method", "S256");
        if let Some(email) = email {
            query.append_pair("login_hint", email.as_str());
        }
    }
    endpoint
}
