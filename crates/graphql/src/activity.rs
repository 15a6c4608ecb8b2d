//! Login activity in the schema.

use std::{collections::HashMap, sync::Arc};

use async_graphql::{Context, Description, ID, InputObject, Object, Result, dataloader::Loader};
use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{Granted, perm},
    activity::LoginCode as DomainCode,
    page::{Page, PageArgs},
};
use guildhall_persistence::{
    ReadError,
    activity::{self, Activities, Filter},
};
use uuid::Uuid;

use crate::{
    accounts::User,
    connection::{Window, connection},
    error, input,
    loaders::{self, Batches},
    schema::mirror,
};

mirror! {
    /// What happened at the door.
    enum LoginActivityCode = DomainCode {
        /// A person signed in.
        Login,
        /// A person signed a device out.
        Logout,
        /// Somebody tried an address that nobody has. It belongs to no organization: whoever runs the instance finds it in
        /// the log, with a fingerprint in place of the address.
        UnknownUser,
        /// Somebody tried a password that is not the account's.
        WrongPassword,
        /// Somebody with the right password was asked for the second factor of the account.
        SecondFactorAsked,
        /// Somebody with the right password gave a code that was not right, or not any more.
        WrongSecondFactor,
        /// Somebody with the right password was turned away, since the account is disabled.
        Disabled,
        /// A person signed in whose e-mail address is not proven yet.
        Unverified,
        /// A person signed in for whom there is no workspace in the organization.
        NoWorkspace,
        /// A try was turned away after too many that failed. Of those that follow while it waits, none is listed.
        Locked,
        /// A refresh token came back that was used long before: somebody may have a copy. Its session was ended.
        RefreshReused,
    }
}

/// Which login activity to list.
#[derive(InputObject, Default)]
pub struct LoginActivityFilter {
    /// Only with one of these codes; when absent or empty, with any.
    codes: Option<Vec<LoginActivityCode>>,
    /// Only of that person.
    user_id: Option<ID>,
    /// Only from then on.
    from: Option<DateTime<Utc>>,
    /// Only before then.
    to: Option<DateTime<Utc>>,
}

impl LoginActivityFilter {
    fn read(self) -> Result<Filter> {
        let user = self.user_id.as_ref().map(input::id).transpose();
        let user = user.map_err(|fault| error::bad_input(format!("`userId` {fault}.")))?;
        let codes: Vec<DomainCode> = input::distinct(self.codes);
        // Databases do not reach as far as this calendar does; nothing happened out there.
        let reachable = |at: DateTime<Utc>| at.clamp(DateTime::UNIX_EPOCH, LATEST);
        Ok(Filter { codes, user, from: self.from.map(reachable), to: self.to.map(reachable) })
    }
}

/// The end of the year 9999.
const LATEST: DateTime<Utc> = match DateTime::from_timestamp(253_402_300_799, 0) {
    Some(latest) => latest,
    None => DateTime::<Utc>::MAX_UTC,
};

/// Something that happened at the door. Needs `ORGANIZATION_MANAGE`.
#[derive(Description)]
pub struct LoginActivity(activity::LoginActivity);

#[Object(use_type_description)]
impl LoginActivity {
    /// Its id.
    async fn id(&self) -> ID {
        self.0.id.into()
    }
    /// What happened.
    async fn code(&self) -> LoginActivityCode {
        self.0.code.into()
    }
    /// The id of the person whose account it is.
    async fn user_id(&self) -> ID {
        self.0.user_id.into()
    }
    /// The person whose account it is; null when they do not belong to the organization any more.
    async fn user(&self) -> Option<User> {
        self.0.user.clone().map(User)
    }
    /// The IP address it came from.
    async fn ip(&self) -> Option<&str> {
        self.0.ip.as_deref()
    }
    /// What the device said of itself: its `User-Agent`, at most 200 characters.
    async fn user_agent(&self) -> Option<&str> {
        self.0.user_agent.as_deref()
    }
    /// When.
    async fn at(&self) -> DateTime<Utc> {
        self.0.at
    }
}

pub(crate) struct ActivityList {
    activities: Activities,
    args: PageArgs<Uuid>,
}

impl ActivityList {
    async fn page(&self, ctx: &Context<'_>) -> Result<Page<LoginActivity>> {
        let page = loaders::load(ctx, (self.activities.clone(), self.args.clone())).await?;
        Ok(page.unwrap_or_else(|| Page::cut(&self.args, Vec::new())).map(LoginActivity))
    }

    async fn total(&self, ctx: &Context<'_>) -> Result<u64> {
        Ok(loaders::load(ctx, self.activities.clone()).await?.unwrap_or(0))
    }
}

connection! {
    /// A list of what happened at the door.
    LoginActivityConnection, LoginActivityEdge, LoginActivity, ActivityList, "login activity",
    |activity| activity.0.id.uuid()
}

impl LoginActivityConnection {
    /// The list, as the arguments of the field ask for it.
    pub(crate) fn of(
        proof: Granted<perm::OrganizationManage>,
        filter: LoginActivityFilter,
        window: &Window,
    ) -> Result<Self> {
        let activities = Activities { proof, filter: filter.read()? };
        Ok(Self::new(ActivityList { activities, args: window.read(Self::LIST)? }))
    }
}

/// A page of login activity.
type PageKey = (Activities, PageArgs<Uuid>);

impl Loader<PageKey> for Batches {
    type Value = Page<activity::LoginActivity>;
    type Error = Arc<ReadError>;

    async fn load(&self, keys: &[PageKey]) -> Result<HashMap<PageKey, Self::Value>, Self::Error> {
        Ok(keys.iter().cloned().zip(activity::pages(&self.0, keys).await?).collect())
    }
}

impl Loader<Activities> for Batches {
    type Value = u64;
    type Error = Arc<ReadError>;

    async fn load(&self, keys: &[Activities]) -> Result<HashMap<Activities, u64>, Self::Error> {
        Ok(keys.iter().cloned().zip(activity::numbers(&self.0, keys).await?).collect())
    }
}
